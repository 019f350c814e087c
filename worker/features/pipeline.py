"""A pipeline as a value: what it waits for, what it builds from it, where that lies and what it has to be worth. Pure.

Whatever in the product depends on which pipeline it runs takes one of these as an argument, or asks the warehouse that
was opened for it. `worker.pipeline_files` reads it from a folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from worker.errors import Refused
from worker.features.quality import DEFAULT_POLICY, QualityPolicy

STAGED = "mlfs_staging.this_build"
"""The name under which SQL reads the staging table of the attempt at hand; adapters put the real one in its place."""

LEFT_OUT = "left_out_reason"
"""The staging table's own column, NULL for a row that may be published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one Phase 4 processor contributes to a row.

    Attributes:
        name: Prefix of the block's columns, `<name>_source`.
        processor: Name in completion events.
        table: Its Phase 4 table, `dataset.table`.
        key: The column that joins it, next to `analysis_date`.
    """

    name: str
    processor: str
    table: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature of an entity.

    Attributes:
        name: Its column in the output, and in its block's Phase 4 table.
        type: BigQuery type.
        unit: Unit or meaning of the number, and its range where it has one.
        block: Name of the block it comes with.
        phase3_table: Where the fallback value lies.
        phase3_column: The column there.
        required: Whether a NULL counts against the NULL-field component.
    """

    name: str
    type: str
    unit: str
    block: str
    phase3_table: str
    phase3_column: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the published table, in BigQuery types; `ARRAY<STRING>` is the only nested one."""

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityColumn(Column):
    """A published column that says what a row is about.

    Attributes:
        table: Where it is read, `dataset.table`; empty where it is made from others.
        columns: The columns there; several where either may give it.
    """

    table: str
    columns: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """What a row is about.

    Attributes:
        key: The published column that tells entities apart within a date.
        label: The published column that people know one by.
        singular: The word for one, `player`.
        plural: The word for several; the counting statement calls a block's entities `<block>_<plural>`.
        roster: The table that lists the active ones of a date.
        must_have: The feature without which an entity gets no row.
    """

    key: str
    label: str
    singular: str
    plural: str
    roster: str
    must_have: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables that the product writes, `dataset.table`; their DDL lies in the pipeline's folder."""

    published: str
    quality: str
    dependency: str
    execution: str
    ledger: str
    replay: str

    @property
    def all(self) -> tuple[str, ...]:
        """Give all of them, the published one first."""
        return self.published, self.quality, self.dependency, self.execution, self.ledger, self.replay


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pipeline:
    """One validated definition. Two of them are the same only if they are the same object.

    Attributes:
        name: In keys, messages, labels and lineage.
        entity: What a row is about.
        identity: The published columns before the features, after `analysis_date`.
        blocks: One per processor, in the order in which they are shown.
        features: In the order of the published columns.
        reads: {table: {column: BigQuery type}} that a build reads beside the features' own columns.
        tables: What the product writes.
        quality: How a build is scored and what it takes to be published.
        settings: {field of the settings: its default}, as text or number.
        sql: Statements by name, in BigQuery dialect.
        ddl: CREATE TABLE statements by table name, without the dataset.
    """

    name: str
    entity: Entity
    identity: Sequence[IdentityColumn]
    blocks: Sequence[Block]
    features: Sequence[Feature]
    reads: Mapping[str, Mapping[str, str]]
    tables: Tables
    quality: QualityPolicy = DEFAULT_POLICY
    settings: Mapping[str, Any] = field(default_factory=dict)
    sql: Mapping[str, str] = field(default_factory=dict)
    ddl: Mapping[str, str] = field(default_factory=dict)

    @property
    def processors(self) -> tuple[str, ...]:
        """Name the processors whose success a date waits for."""
        return tuple(block.processor for block in self.blocks)

    @property
    def required_fields(self) -> tuple[str, ...]:
        """Name the features whose NULLs count."""
        return tuple(feature.name for feature in self.features if feature.required)

    def features_of(self, block: str) -> tuple[Feature, ...]:
        """Give the features of a block, in catalogue order."""
        return tuple(feature for feature in self.features if feature.block == block)

    def block_of(self, feature: Feature) -> Block:
        """Give the block that a feature comes with."""
        return next(block for block in self.blocks if block.name == feature.block)

    @property
    def output_columns(self) -> tuple[Column, ...]:
        """Give the published table's columns, in order; what staging holds beside these is for counting only."""
        return (
            *_columns(analysis_date="DATE"),
            *(Column(name=column.name, type=column.type) for column in self.identity),
            *(Column(name=feature.name, type=feature.type) for feature in self.features),
            *_columns(quality_score="FLOAT64", data_source="STRING", phase4_available="BOOL"),
            *_columns(phase3_fallback_used="BOOL"),
            *(Column(name=f"{block.name}_source", type="STRING") for block in self.blocks),
            *_columns(
                phase3_features="ARRAY<STRING>",
                missing_features="ARRAY<STRING>",
                source_data_date="DATE",
                build_generation="INT64",
                build_id="STRING",
                processed_at="TIMESTAMP",
            ),
        )

    @property
    def upstream(self) -> Mapping[str, Mapping[str, str]]:
        """Collect every upstream column that a build reads: {`dataset.table`: {column: BigQuery type}}.

        A build stops with `SchemaDrift` where an upstream table disagrees.
        """
        columns = {table: dict(types) for table, types in self.reads.items()}
        key_types = {column.name: column.type for column in self.identity}
        for block in self.blocks:
            phase4 = {"analysis_date": "DATE", block.key: key_types[block.key], "processed_at": "TIMESTAMP"}
            features = {feature.name: feature.type for feature in self.features_of(block.name)}
            columns[block.table] = {**phase4, **columns.get(block.table, {}), **features}
        for feature in self.features:
            columns.setdefault(feature.phase3_table, {})[feature.phase3_column] = feature.type
        return MappingProxyType({table: MappingProxyType(types) for table, types in columns.items()})

    @property
    def datasets(self) -> tuple[str, ...]:
        """Name every dataset that a build reads or writes, each once."""
        tables = (*self.upstream, *self.tables.all)
        return tuple(dict.fromkeys(table.partition(".")[0] for table in tables))

    def ddl_of(self, table: str) -> str:
        """Give the CREATE TABLE statement of one of the product's own tables, `dataset.table`."""
        return self.ddl[table.partition(".")[2]]

    def text(self, name: str) -> str:
        """Give a statement by the name of its file.

        Raises:
            Refused: The pipeline ships none; only what a build needs is required of it.
        """
        if name not in self.sql:
            raise Refused(f"the pipeline {self.name} has no sql/{name}.sql, which this needs; add it to its folder")
        return self.sql[name]


def _columns(**types: str) -> tuple[Column, ...]:
    return tuple(Column(name=name, type=kind) for name, kind in types.items())
