"""A pipeline as a value: what it waits for, what it builds from it, where that lies and what it has to be worth. Pure.

Whatever in the product depends on which pipeline it runs takes one of these as an argument, or asks the warehouse that
was opened for it. `worker.pipelines.files` reads it from its TOML; its SQL is rendered from it (`worker.features.sql`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from worker.errors import Refused
from worker.features.model import CellSource
from worker.features.quality import DEFAULT_POLICY, QualityPolicy
from worker.features.sql import NOTHING, NOWHERE, Templates, Unusable, render

LEFT_OUT = "left_out_reason"
"""The column of `generations` that is NULL for a row that may be published."""

PHASE4_DATE = "analysis_date"
"""The date column of every Phase 4 table."""

PROCESSED = "processed_at"
"""The column of every upstream table that says when a row was written; of several for one key the newest counts."""

BLOCK_SOURCES = (
    CellSource.PHASE4,
    CellSource.PHASE3,
    CellSource.MIXED,
    CellSource.YESTERDAY,
    CellSource.MISSING,
)
"""The values of `<block>_source`; NULL where the block does not apply to the row."""

ROW_SOURCES = (CellSource.PHASE4, CellSource.PHASE3, CellSource.MIXED, CellSource.YESTERDAY)
"""The values of `data_source`. A row without any cell lacks the feature that it must have, and is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one Phase 4 processor contributes to a row.

    Attributes:
        name: Prefix of the block's columns, `<name>_source`.
        processor: Name in completion events.
        table: Its Phase 4 table, `dataset.table`.
        key: The column that joins it, next to `analysis_date`.
        matches: The identity column whose value stands in `key`.
    """

    name: str
    processor: str
    table: str
    key: str
    matches: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """How a feature is read from a row of one upstream table.

    Attributes:
        sql: The column's name, or an expression over columns of the table.
        columns: The columns that `sql` reads.
    """

    sql: str
    columns: Sequence[str]

    def named(self, name: str) -> str:
        """Return the text for a SELECT list that gives the value *name*."""
        return self.sql if self.sql == name else f"{self.sql} AS {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature of an entity.

    Attributes:
        name: Its column in the output.
        type: BigQuery type.
        unit: Unit or meaning of the number, and its range where it has one.
        block: Name of the block it comes with.
        phase3_table: Where the fallback value lies.
        phase4: How it is read from the block's Phase 4 table.
        phase3: How it is read from `phase3_table`.
        required: Whether a NULL counts against the NULL-field component.
    """

    name: str
    type: str
    unit: str
    block: str
    phase3_table: str
    phase4: Cell
    phase3: Cell
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the published table, in BigQuery types; `ARRAY<STRING>` is the only nested one.

    Attributes:
        name: Its name.
        type: Its type.
        required: Whether it is declared NOT NULL.
        values: The only values that it takes; empty where any value of the type may stand there.
    """

    name: str
    type: str
    required: bool = False
    values: Sequence[str] = ()


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
        plural: The word for several entities; the counting statement calls a block's entities `<block>_<plural>`.
        roster: The table that lists the active ones of a date.
        must_have: The feature without which an entity gets no row.
    """

    key: str
    label: str
    plural: str
    roster: str
    must_have: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The table that says which two teams meet on a date.

    Attributes:
        table: Its name, `dataset.table`.
        game: The column that tells two games apart.
        sides: The two columns that hold the teams.
        team: The identity column, from the roster, that holds an entity's team.
        opponent: The identity column that gets the other team; NULL where the team does not play.
        plays: The identity column that says whether the team plays.
    """

    table: str
    game: str
    sides: tuple[str, str]
    team: str
    opponent: str
    plays: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTable:
    """A table that upstream owns and a build reads.

    Attributes:
        name: `dataset.table`.
        date: Its date column, by which it is partitioned; empty where the definition names none.
        key: The column that joins it, by which it is clustered.
        matches: The identity column whose value stands in `key`.
        purpose: What it holds, for its DDL.
        rows: What one row is, for its DDL.
        columns: Its columns as the definition lists them: {name: BigQuery type}. A column that a build reads need not
            be listed.
    """

    name: str
    date: str
    key: str
    matches: str
    purpose: str
    rows: str
    columns: Mapping[str, str]

    @property
    def short(self) -> str:
        """The name without the dataset."""
        return self.name.partition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTables:
    """The tables that the product writes, and the views that show what is published, `dataset.table`.

    Attributes:
        published: View of the published rows, which consumers read.
        quality: View of what each published date is worth.
        dependency: View of what the Phase 4 tables held when the published rows were made.
        generations: The rows of every attempt, written once and never changed.
        history: What the rows of every attempt were worth.
        execution: Every attempt that ended.
        ledger: For each date its claim, and which attempt's rows are published.
        arrivals: Every report of a processor that counted.
        profile: Statistics of each feature in each generation.
        replay: What people asked for.
    """

    published: str
    quality: str
    dependency: str
    generations: str
    history: str
    execution: str
    ledger: str
    arrivals: str
    profile: str
    replay: str

    @property
    def views(self) -> tuple[str, ...]:
        """Return the names under which consumers read; each view shows the published generation alone."""
        return self.published, self.quality, self.dependency

    @property
    def stored(self) -> tuple[str, ...]:
        """Return the tables that hold rows."""
        return tuple(name for name in self.all if name not in self.views)

    @property
    def all(self) -> tuple[str, ...]:
        """Return all names, the views first."""
        return tuple(getattr(self, kind) for kind in self.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalTables:
    """Tables that no build needs, `dataset.table`; empty where the pipeline has none.

    Attributes:
        predictions: The consumer's predictions, which a report counts.
        joined_view: The materialized view of the Phase 4 join (ADR 0013).
        fallback_cache: Phase 3 values put aside for the fallback (ADR 0013).
    """

    predictions: str = ""
    joined_view: str = ""
    fallback_cache: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pipeline:
    """One validated definition. Two of them are the same only if they are the same object.

    Attributes:
        name: In keys, messages, labels and lineage.
        entity: What a row is about.
        identity: The published columns before the features, after `analysis_date`.
        blocks: One per processor, in the order in which they are shown.
        features: In the order of the published columns.
        upstream_tables: {`dataset.table`: table} of the tables that a build reads.
        schedule: Who meets whom; None for entities that meet nobody.
        tables: What the product writes.
        optional: What else the definition names.
        quality: How a build is scored and what it takes to be published.
        settings: {field of the settings: its default}, as text or number.
        templates: What its SQL is rendered from.
    """

    name: str
    entity: Entity
    identity: Sequence[IdentityColumn]
    blocks: Sequence[Block]
    features: Sequence[Feature]
    upstream_tables: Mapping[str, UpstreamTable]
    schedule: Schedule | None
    tables: OwnTables
    optional: OptionalTables = OptionalTables()
    quality: QualityPolicy = DEFAULT_POLICY
    settings: Mapping[str, Any] = field(default_factory=dict)
    templates: Templates = NOWHERE

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

    def needs_game(self, block: Block) -> bool:
        """Return whether the block applies only to an entity whose team plays: it is looked up by the opponent."""
        return self.schedule is not None and block.matches == self.schedule.opponent

    @property
    def listed(self) -> tuple[IdentityColumn, ...]:
        """Return the identity columns that the roster gives."""
        return tuple(column for column in self.identity if column.table == self.entity.roster)

    @property
    def phase3_tables(self) -> tuple[UpstreamTable, ...]:
        """Return the tables of the fallback, in the order in which the features name them."""
        return tuple(self.upstream_tables[name] for name in dict.fromkeys(one.phase3_table for one in self.features))

    def features_from(self, phase3_table: str) -> tuple[Feature, ...]:
        """Return the features whose fallback lies in a table."""
        return tuple(feature for feature in self.features if feature.phase3_table == phase3_table)

    @property
    def lookups(self) -> tuple[Column, ...]:
        """Return the identity columns by whose values upstream rows are found; the entity's key is the first."""
        matched = {block.matches for block in self.blocks} | {table.matches for table in self.phase3_tables}
        matched |= {self.entity.key}
        return tuple(sorted((c for c in self.identity if c.name in matched), key=lambda c: c.name != self.entity.key))

    @property
    def output_columns(self) -> tuple[Column, ...]:
        """Return the columns of the published rows, in order."""
        return (
            Column(name="analysis_date", type="DATE", required=True),
            *self.identity,
            *(Column(name=feature.name, type=feature.type) for feature in self.features),
            Column(name="quality_score", type="FLOAT64", required=True),
            Column(name="data_source", type="STRING", required=True, values=ROW_SOURCES),
            Column(name="phase4_available", type="BOOL"),
            Column(name="phase3_fallback_used", type="BOOL"),
            *(Column(name=f"{block.name}_source", type="STRING", values=BLOCK_SOURCES) for block in self.blocks),
            Column(name="phase3_features", type="ARRAY<STRING>"),
            Column(name="missing_features", type="ARRAY<STRING>"),
            Column(name="source_data_date", type="DATE"),
            Column(name="build_generation", type="INT64", required=True),
            Column(name="build_id", type="STRING", required=True),
            Column(name="processed_at", type="TIMESTAMP", required=True),
        )

    @property
    def generation_columns(self) -> tuple[Column, ...]:
        """Return the columns of `generations`, in the order in which a build selects them."""
        cells = (f"{block.name}_{phase}_cells" for block in self.blocks for phase in ("phase4", "phase3"))
        return (
            *self.output_columns,
            Column(name=LEFT_OUT, type="STRING"),
            *(Column(name=name, type="INT64", required=True) for name in cells),
        )

    @property
    def upstream(self) -> Mapping[str, Mapping[str, str]]:
        """Collect every upstream column that a build reads: {`dataset.table`: {column: BigQuery type}}.

        A build stops with `SchemaDrift` where an upstream table disagrees.
        """
        columns: dict[str, dict[str, str]] = {}
        for table, name, kind in self.columns_read():
            columns.setdefault(table, {})[name] = kind
        return MappingProxyType({table: MappingProxyType(types) for table, types in columns.items()})

    def columns_read(self) -> Iterator[tuple[str, str, str]]:
        """Yield (table, column, BigQuery type) of each upstream column that a build reads; some come twice."""
        types = {column.name: column.type for column in self.identity}
        yield self.entity.roster, self.upstream_tables[self.entity.roster].date, "DATE"
        for column in self.listed:
            yield from ((self.entity.roster, name, column.type) for name in column.columns)
        yield self.entity.roster, PROCESSED, "TIMESTAMP"
        if self.schedule is not None:
            table = self.schedule.table
            yield table, self.upstream_tables[table].date, "DATE"
            yield table, self.schedule.game, "STRING"
            yield from ((table, side, types[self.schedule.team]) for side in self.schedule.sides)
            yield table, PROCESSED, "TIMESTAMP"
        for phase3 in self.phase3_tables:
            yield phase3.name, phase3.date, "DATE"
            yield phase3.name, phase3.key, types[phase3.matches]
            yield phase3.name, PROCESSED, "TIMESTAMP"
            for feature in self.features_from(phase3.name):
                yield from self._cell_read(phase3.name, feature, feature.phase3)
        for block in self.blocks:
            yield block.table, PHASE4_DATE, "DATE"
            yield block.table, block.key, types[block.matches]
            yield block.table, PROCESSED, "TIMESTAMP"
            for feature in self.features_of(block.name):
                yield from self._cell_read(block.table, feature, feature.phase4)

    def _cell_read(self, table: str, feature: Feature, cell: Cell) -> Iterator[tuple[str, str, str]]:
        listed = self.upstream_tables[table].columns
        plain = cell.columns == (cell.sql,)
        yield from ((table, name, feature.type if plain else listed[name]) for name in cell.columns)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Name every dataset that a build reads or writes, each once."""
        tables = (*self.upstream, *self.tables.all)
        return tuple(dict.fromkeys(table.partition(".")[0] for table in tables))

    @property
    def statements(self) -> tuple[str, ...]:
        """Return the names of the statements that read."""
        absent = () if self.optional.predictions else ("report_predictions",)
        return tuple(name for name in self.templates.names("sql") if name not in absent)

    @property
    def changes(self) -> tuple[str, ...]:
        """Return the names of the statements that change the ledger, or delete rows."""
        return self.templates.names("dml")

    def text(
        self, name: str, without: Unusable = NOTHING, *, rows_of: str = "", unset: frozenset[str] = frozenset()
    ) -> str:
        """Render a statement; rendered once per pipeline and arguments.

        Args:
            name: The name of its template.
            without: Upstream tables and columns that count as empty; the statement reads typed NULLs in their place.
            rows_of: For a statement about one build's rows: the statement that selects the rows; empty where the rows
                lie in `generations`.
            unset: Parameters that get no value. BigQuery takes no NULL for a parameter, so the text does without them:
                no `as_of` leaves out its condition, an entity to look up that is not given finds nothing.

        Raises:
            Refused: The pipeline has no such statement.
        """
        if name in self.changes:
            return render(self, f"dml/{name}.sql")
        if name not in self.statements:
            raise Refused(f"the pipeline {self.name} has no statement {name}; see the statements it has: mlfs sql")
        return render(self, f"sql/{name}.sql", without=without, rows_of=rows_of, unset=unset)

    @property
    def described(self) -> tuple[str, ...]:
        """Return the tables and views that have DDL: the product's own, upstream's, then the optional ones."""
        extra = (self.optional.joined_view, self.optional.fallback_cache)
        return (*self.tables.all, *self.upstream, *filter(None, extra))

    def ddl_of(self, table: str) -> str:
        """Return the CREATE statement of a table, `dataset.table`.

        Upstream's own tables are never created by a worker. Their statements say how they have to look and lie.

        Raises:
            Refused: The pipeline has no such table.
        """
        if table not in self.described:
            raise Refused(f"the pipeline {self.name} has no table {table}; see the tables it has: mlfs sql")
        own = {getattr(self.tables, kind): kind for kind in OwnTables.__dataclass_fields__}
        extra = {self.optional.joined_view: "joined_view", self.optional.fallback_cache: "fallback_cache"}
        return render(self, f"ddl/{({**extra, **own}).get(table, 'upstream')}.sql", table=table)
