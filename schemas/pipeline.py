"""Shape of `pipeline.toml`, the file that defines a pipeline.

Model: the models check single values: names, types, ranges. `worker.pipelines.files` reads the file and checks that the
values fit together.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

_WORDS = """
all analyse analyze and anti any array as asc asof assert_rows_modified asymmetric at authorization between binary
both by case cast check collate collation column columns concurrently constraint contains create cross cube current
default deferrable define desc describe distinct do else end enum escape except exclude exists extract false fetch
following for foreign freeze from full generated glob group grouping groups hash having if ignore ilike in initially
inner intersect interval into is isnull join lambda lateral leading left like limit lookup map merge natural new no
not notnull null nulls of offset on only or order outer over overlaps partition pivot pivot_longer pivot_wider placing
positional preceding primary proto qualify range recursive references respect returning right rollup rows select semi
set show similar some struct summarize symmetric table tablesample then to trailing treat true try_cast tuple
unbounded union unique unnest unpack unpivot using variadic verbose when where window with within
"""
RESERVED = frozenset(_WORDS.split())
"""Words that BigQuery or DuckDB reads as part of the language; no column and no table may bear one unquoted."""


def _plain(name: str) -> str:
    if taken := RESERVED.intersection(name.split(".")):
        raise ValueError(f"{', '.join(sorted(taken))} is a reserved word of SQL; choose another name")
    return name


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ColumnName = Annotated[Name, AfterValidator(_plain)]
Table = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"), AfterValidator(_plain)]
# Text that becomes a comment or an expression of a statement: one line, no control characters.
Line = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
ColumnType = Annotated[
    str, StringConstraints(pattern=r"^(DATE|INT64|FLOAT64|STRING|BOOL|TIMESTAMP|NUMERIC|ARRAY<STRING>)$")
]


def _exact(value: object) -> object:
    """Read the decimal text exactly: the float 0.1 is not a tenth."""
    return Fraction(str(value)) if isinstance(value, float) else value


Share = Annotated[Fraction, BeforeValidator(_exact), Field(ge=0, le=1)]
LostPoints = Annotated[Fraction, BeforeValidator(_exact), Field(ge=0, le=100)]
Points = Annotated[int, Field(ge=0, le=100)]
Rows = Annotated[int, Field(ge=0)]
# The squares of such numbers are still numbers, so no statistic of a column overflows.
Limit = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]


class _Part(BaseModel):
    # An unknown key is a typing error, and ignoring the key would change the pipeline silently.
    model_config = ConfigDict(frozen=True, extra="forbid")


class EntityPart(_Part):
    """`[entity]`: the subject of a row."""

    # Deprecated: older definitions carry the key; no code reads the value.
    singular: Any = Field(default=None, exclude=True)
    key: ColumnName
    label: ColumnName
    plural: Name
    roster: Table
    must_have: ColumnName


class TablesPart(_Part):
    """`[tables]`: tables and views written by the product."""

    published: Table
    quality: Table
    dependency: Table
    generations: Table
    history: Table
    execution: Table
    ledger: Table
    arrivals: Table
    profile: Table
    replay: Table


class SeverityPart(_Part):
    """`[[quality.severities]]`: a level that applies below a score or a number of rows, or above a fallback rate."""

    name: Annotated[str, StringConstraints(pattern=r"^P[0-3]$")]
    score: Points
    rows: Rows = 0
    fallback: Share = Fraction(1)


class QualityPart(_Part):
    """`[quality]`: differences from the rules of the pipeline document."""

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


class LevelsPart(_Part):
    """`[findings.CHECK]`: numbers from which a check notes, warns, is critical, or refuses the publication."""

    note: float | None = None
    warning: float | None = None
    critical: float | None = None
    refuse: float | None = None


class FindingsPart(_Part):
    """`[findings]`: rules of the checks of a build; a check without a table finds nothing."""

    nights: Annotated[int, Field(ge=1, le=60)] | None = None
    nights_min: Annotated[int, Field(ge=1, le=60)] | None = None
    warning_below: Mapping[Name, Annotated[float, Field(ge=0, le=100)]] | None = None
    critical_below: Mapping[Name, Annotated[float, Field(ge=0, le=100)]] | None = None
    levels: Mapping[Name, LevelsPart] = Field(default_factory=dict)


class OptionalPart(_Part):
    """`[optional]`: tables that no build needs; without a key, no statement uses the table.

    A report reads `predictions`. The DDL alone describes the other two tables (ADR 0013).
    """

    predictions: Table | None = None
    joined_view: Table | None = None
    fallback_cache: Table | None = None


class UpstreamPart(_Part):
    """`[upstream."dataset.table"]`: a table of upstream. Required for the roster and for Phase 3 tables."""

    date: ColumnName | None = None
    key: ColumnName | None = None
    matches: ColumnName | None = None
    purpose: Line | None = None
    rows: Line | None = None
    columns: Mapping[ColumnName, ColumnType] = Field(default_factory=dict)


class SchedulePart(_Part):
    """`[schedule]`: the table of games by analysis date, and the identity columns read from the schedule."""

    table: Table
    game: ColumnName
    sides: tuple[ColumnName, ColumnName]
    team: ColumnName
    opponent: ColumnName
    plays: ColumnName
    teams: Table | None = None
    teams_column: ColumnName | None = None


class IdentityPart(_Part):
    """`[[identity]]`: a published column that identifies the subject of a row."""

    name: ColumnName
    type: ColumnType
    column: ColumnName | None = None


class BlockPart(_Part):
    """`[[blocks]]`: the contribution of a processor."""

    name: Name
    processor: Name
    table: Table
    key: ColumnName
    matches: ColumnName | None = None
    required: bool = True


class FeaturePart(_Part):
    """`[[features]]`: a published value."""

    name: ColumnName
    type: ColumnType = "FLOAT64"
    unit: str = Field(min_length=1)
    block: Name
    phase3_table: Table
    phase3_column: ColumnName | None = None
    expression: Line | None = None
    phase3_expression: Line | None = None
    required: bool = False
    range: tuple[Limit, Limit] | None = None
    bins: list[Limit] = Field(default_factory=list, max_length=19)


class PipelineFile(_Part):
    """The whole of `pipeline.toml`."""

    name: Name
    entity: EntityPart
    settings: Mapping[str, Any]
    tables: TablesPart
    optional: OptionalPart = OptionalPart()
    quality: QualityPart = QualityPart()
    findings: FindingsPart = FindingsPart()
    upstream: Mapping[Table, UpstreamPart]
    schedule: SchedulePart | None = None
    identity: list[IdentityPart] = Field(min_length=1)
    blocks: list[BlockPart] = Field(min_length=1)
    features: list[FeaturePart] = Field(min_length=1)
