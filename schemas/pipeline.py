"""The file that defines a pipeline, as it is written: TOML in, a checked shape out.

Only what one value can tell about itself is checked here: names, types, ranges. What has to fit together is checked
where the definition is read (`worker.pipeline_files`).
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Table = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
ColumnType = Annotated[
    str, StringConstraints(pattern=r"^(DATE|INT64|FLOAT64|STRING|BOOL|TIMESTAMP|NUMERIC|ARRAY<STRING>)$")
]


def _exact(value: object) -> object:
    """Read 0.1 as one tenth; the float beside it is not."""
    return Fraction(str(value)) if isinstance(value, float) else value


Share = Annotated[Fraction, BeforeValidator(_exact), Field(ge=0, le=1)]
LostPoints = Annotated[Fraction, BeforeValidator(_exact), Field(ge=0, le=100)]
Points = Annotated[int, Field(ge=0, le=100)]
Rows = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    # A key that nobody reads is a typing error that would change the pipeline silently.
    model_config = ConfigDict(frozen=True, extra="forbid")


class EntityPart(_Part):
    """`[entity]`: what a row is about."""

    key: Name
    label: Name
    singular: Name
    plural: Name
    roster: Table
    must_have: Name


class TablesPart(_Part):
    """`[tables]`: what the product writes."""

    published: Table
    quality: Table
    dependency: Table
    execution: Table
    ledger: Table
    replay: Table


class SeverityPart(_Part):
    """`[[quality.severities]]`: a level that applies below a score or a number of rows, or above a fallback rate."""

    name: Annotated[str, StringConstraints(pattern=r"^P[0-3]$")]
    score: Points
    rows: Rows = 0
    fallback: Share = Fraction(1)


class QualityPart(_Part):
    """`[quality]`: what differs from the rules of the pipeline document."""

    rows_min: Rows | None = None
    score_min: Annotated[float, Field(ge=0, le=100)] | None = None
    points: Mapping[Name, Points] | None = None
    freshness_points: list[Points] | None = Field(default=None, min_length=1)
    row_points: list[tuple[Rows, Points]] | None = Field(default=None, min_length=1)
    usable_rows_min: Rows | None = None
    usable_nulls_max: Share | None = None
    penalty_line: list[tuple[Share, LostPoints]] | None = Field(default=None, min_length=2)
    missing_free: Share | None = None
    done_fallback_max: Share | None = None
    severities: list[SeverityPart] | None = Field(default=None, min_length=1)


class IdentityPart(_Part):
    """`[[identity]]`: a published column that says what a row is about."""

    name: Name
    type: ColumnType
    table: Table | None = None
    columns: list[Name] | None = Field(default=None, min_length=1)


class BlockPart(_Part):
    """`[[blocks]]`: what one processor contributes."""

    name: Name
    processor: Name
    table: Table
    key: Name


class FeaturePart(_Part):
    """`[[features]]`: one published value."""

    name: Name
    type: ColumnType = "FLOAT64"
    unit: str = Field(min_length=1)
    block: Name
    phase3_table: Table
    phase3_column: Name | None = None
    required: bool = False


class PipelineFile(_Part):
    """The whole of `pipeline.toml`."""

    name: Name
    entity: EntityPart
    settings: Mapping[str, Any]
    tables: TablesPart
    quality: QualityPart = QualityPart()
    reads: Mapping[Table, Mapping[Name, ColumnType]]
    identity: list[IdentityPart] = Field(min_length=1)
    blocks: list[BlockPart] = Field(min_length=1)
    features: list[FeaturePart] = Field(min_length=1)
