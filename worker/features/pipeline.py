"""Pipeline definition as a value: processors, features, tables, quality rules and settings. Pure.

Pipeline-dependent code takes a `Pipeline` as an argument, or uses the pipeline of the open warehouse.
`worker.pipelines.files` reads a pipeline from TOML; `worker.features.sql` renders the SQL.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from worker.errors import Refused
from worker.features.findings import FindingPolicy
from worker.features.model import CellSource
from worker.features.own_tables import OptionalTables, OwnTables
from worker.features.quality import DEFAULT_POLICY, QualityPolicy
from worker.features.sql import NOTHING, NOWHERE, Templates, Unusable, finite, not_finite, render

LEFT_OUT = "left_out_reason"
"""Column of `generations`; NULL for a publishable row."""

PHASE4_DATE = "analysis_date"
"""Date column of every Phase 4 table."""

PROCESSED = "processed_at"
"""Column of every upstream table with the instant of writing; of several rows for a key the newest row counts."""

BLOCK_SOURCES = (
    CellSource.PHASE4,
    CellSource.PHASE3,
    CellSource.MIXED,
    CellSource.YESTERDAY,
    CellSource.MISSING,
)
"""Values of `<block>_source`; NULL if the block does not apply to the row."""

ROW_SOURCES = (CellSource.PHASE4, CellSource.PHASE3, CellSource.MIXED, CellSource.YESTERDAY)
"""Values of `data_source`. A row without cells lacks the indispensable feature and is left out."""


GAME_CHECKS = ("same", "other opponent", "phase4 only", "schedule only")
"""Values of `<block>_game`: the game of an entity by the block's Phase 4 table, compared with the schedule.

NULL if the Phase 4 table has no word about the entity, or if the entity plays by neither.
"""


TOLD = ("plays", "opponent", "team")
"""Columns of a schedule that a Phase 4 table may repeat about an entity, as fields of `Schedule`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Block: the features of a Phase 4 processor in a row.

    Attributes:
        name: Prefix of the block's columns, `<name>_source`.
        processor: Name in completion events.
        table: Phase 4 table, `dataset.table`.
        key: Column of the join, next to `analysis_date`.
        matches: Identity column with the value of `key`.
        required: Whether the absence of the processor at the deadline degrades the analysis date.
    """

    name: str
    processor: str
    table: str
    key: str
    matches: str
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Expression that reads a feature from a row of an upstream table.

    NaN and infinity are missing values: a statement reads NULL for both, so no later expression sees either.

    Attributes:
        sql: Column name, or an expression over columns of the table.
        columns: Columns read by `sql`.
        clean: `sql` with NULL in place of NaN and infinity in the columns read; empty for a plain column.
        is_float: Whether the type of the value is FLOAT64.
    """

    sql: str
    columns: Sequence[str]
    clean: str = ""
    is_float: bool = True

    @property
    def not_finite(self) -> str:
        """The condition that the value is NaN or infinite upstream; empty for another type than FLOAT64."""
        return not_finite(self.sql) if self.is_float else ""

    def named(self, name: str) -> Sequence[str]:
        """Return the parts of the text for a SELECT list with the name *name*."""
        text = self.clean or self.sql
        if self.is_float:
            return (*finite(text), f"AS {name}")
        return (text,) if text == name else (text, f"AS {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """Feature of an entity.

    Attributes:
        name: Column in the output.
        type: BigQuery type.
        unit: Unit or meaning of the number.
        block: Name of the block.
        phase3_table: Table of the fallback value.
        phase4: Expression for the block's Phase 4 table.
        phase3: Expression for `phase3_table`.
        required: Whether a NULL counts against the NULL-field component.
        range: Lowest and highest possible value, both included; None for a feature whose values are not judged.
        bins: Ascending edges inside the range: a value belongs to the bin whose number is the count of edges up to
            the value. Empty for a feature whose distribution is not compared.
    """

    name: str
    type: str
    unit: str
    block: str
    phase3_table: str
    phase4: Cell
    phase3: Cell
    required: bool
    range: tuple[float, float] | None = None
    bins: tuple[float, ...] = ()

    @property
    def step(self) -> float:
        """A value that differs by more than this has moved: a hundredth of the distance between the outer edges.

        Without two edges a thousandth of the range; 0 without a range.
        """
        if len(self.bins) > 1:
            return (self.bins[-1] - self.bins[0]) / 100
        return 0.0 if self.range is None else (self.range[1] - self.range[0]) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Column of a table, in BigQuery types.

    Attributes:
        name: Name of the column.
        type: BigQuery type.
        required: Whether the column is declared NOT NULL.
        values: All possible values; empty for a column with any value of the type.
    """

    name: str
    type: str
    required: bool = False
    values: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityColumn(Column):
    """Published column that identifies the entity of a row.

    Attributes:
        table: Source table, `dataset.table`; empty for a derived column.
        columns: Source columns; several if either column may hold the value.
    """

    table: str
    columns: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Entity: the subject of a row.

    Attributes:
        key: Published column that identifies an entity within an analysis date.
        label: Published column with the name of an entity for people.
        plural: Word for several entities; the counting statement names a block's entities `<block>_<plural>`.
        roster: Table with the active entities of a date.
        must_have: Feature without which an entity gets no row.
    """

    key: str
    label: str
    plural: str
    roster: str
    must_have: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Table with the pairs of teams that meet on a date.

    Attributes:
        table: Name of the table, `dataset.table`.
        game: Column that identifies a game.
        sides: Both columns with the teams.
        team: Identity column, from the roster, with an entity's team.
        opponent: Identity column for the other team; NULL if the team does not play.
        plays: Identity column that is true if the team plays.
        teams: Table with the names of all teams, `dataset.table`; empty without a team list. A build works without
            the table, and then takes every name for a team.
        teams_column: Column of `teams` with the name.
    """

    table: str
    game: str
    sides: tuple[str, str]
    team: str
    opponent: str
    plays: str
    teams: str = ""
    teams_column: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTable:
    """Upstream table that a build reads.

    Attributes:
        name: `dataset.table`.
        date: Date column of the partitions; empty if the definition names none.
        key: Column of the join and of the clustering.
        matches: Identity column with the value of `key`.
        purpose: Content of the table, for the DDL.
        rows: Meaning of a row, for the DDL.
        columns: Columns listed in the definition: {name: BigQuery type}. A build may read unlisted columns, too.
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
        """Name without the dataset."""
        return self.name.partition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pipeline:
    """Validated definition. Two pipelines are equal only if they are the same object.

    Attributes:
        name: Name in keys, messages, labels and lineage.
        entity: Subject of a row.
        identity: Published columns before the features, after `analysis_date`.
        blocks: A block for each processor, in the order of display.
        features: Features in the order of the published columns.
        upstream_tables: {`dataset.table`: table} of the tables that a build reads.
        schedule: Table of the games; None for entities without opponents.
        tables: Tables of the product.
        optional: Optional tables of the definition.
        quality: Rules of the score and the quality gate.
        findings: Rules of the checks of a build.
        settings: {field of the settings: default}, as text or number.
        templates: Templates of the SQL.
    """

    name: str
    entity: Entity
    identity: Sequence[IdentityColumn]
    blocks: Sequence[Block]
    features: Sequence[Feature]
    upstream_tables: Mapping[str, UpstreamTable]
    schedule: Schedule | None
    tables: OwnTables
    optional: OptionalTables = field(default_factory=OptionalTables)
    quality: QualityPolicy = DEFAULT_POLICY
    findings: FindingPolicy = field(default_factory=FindingPolicy)
    settings: Mapping[str, Any] = field(default_factory=dict)
    templates: Templates = NOWHERE

    @property
    def processors(self) -> tuple[str, ...]:
        """Return the processors whose success an analysis date waits for."""
        return tuple(block.processor for block in self.blocks)

    @property
    def required_fields(self) -> tuple[str, ...]:
        """Return the features whose NULLs count."""
        return tuple(feature.name for feature in self.features if feature.required)

    def features_of(self, block: str) -> tuple[Feature, ...]:
        """Return the features of a block, in catalogue order."""
        return tuple(feature for feature in self.features if feature.block == block)

    def block_of(self, feature: Feature) -> Block:
        """Return the block of a feature."""
        return next(block for block in self.blocks if block.name == feature.block)

    @property
    def optional_processors(self) -> frozenset[str]:
        """Return the processors whose absence at the deadline does not degrade an analysis date. ADR 0036."""
        return frozenset(block.processor for block in self.blocks if not block.required)

    def absent_optional(self, dependency_rows: Mapping[str, int]) -> frozenset[str]:
        """Return the optional processors without a row, from the row counts of a build by processor."""
        return frozenset(name for name in self.optional_processors if not dependency_rows.get(name, 0))

    def needs_game(self, block: Block) -> bool:
        """Return whether the block applies only to an entity whose team plays: the opponent joins the table."""
        return self.schedule is not None and block.matches == self.schedule.opponent

    @property
    def witnesses(self) -> tuple[Block, ...]:
        """Return the blocks whose Phase 4 table lists, for each entity, whether the entity plays and against whom."""
        if self.schedule is None:
            return ()
        told = {self.schedule.plays, self.schedule.opponent}
        return tuple(
            block
            for block in self.blocks
            if block.matches == self.entity.key and told <= self.upstream_tables[block.table].columns.keys()
        )

    @property
    def team_witnesses(self) -> tuple[Block, ...]:
        """Return the witnesses whose table lists the team, too: together, the opponents of a night without schedule."""
        return tuple(block for block in self.witnesses if len(self.columns_of_witness(block)) == len(TOLD))

    @property
    def listed(self) -> tuple[IdentityColumn, ...]:
        """Return the identity columns of the roster."""
        return tuple(column for column in self.identity if column.table == self.entity.roster)

    @property
    def phase3_tables(self) -> tuple[UpstreamTable, ...]:
        """Return the tables of the fallback, in the order in which the features name them."""
        return tuple(
            self.upstream_tables[name] for name in dict.fromkeys(feature.phase3_table for feature in self.features)
        )

    def features_from(self, phase3_table: str) -> tuple[Feature, ...]:
        """Return the features with a fallback in a table."""
        return tuple(feature for feature in self.features if feature.phase3_table == phase3_table)

    @property
    def lookups(self) -> tuple[Column, ...]:
        """Return the identity columns that join upstream rows, the entity's key first."""
        matched = {block.matches for block in self.blocks} | {table.matches for table in self.phase3_tables}
        matched |= {self.entity.key}
        return tuple(sorted((c for c in self.identity if c.name in matched), key=lambda c: c.name != self.entity.key))

    @property
    def judged_features(self) -> tuple[Feature, ...]:
        """Return the features with a range: features whose values are judged."""
        return tuple(feature for feature in self.features if feature.range is not None)

    @property
    def team_columns(self) -> tuple[str, ...]:
        """Return the identity columns by which entities share the value of a judged feature."""
        return tuple(dict.fromkeys(filter(None, (self.team_of(feature) for feature in self.judged_features))))

    @property
    def edges_max(self) -> int:
        """Return the largest number of bin edges of a judged feature, at least 1."""
        return max((len(feature.bins) for feature in self.judged_features), default=0) or 1

    def team_of(self, feature: Feature) -> str:
        """Return the identity column by which many entities share the value; empty for a value of the entity itself.

        The block says the column if upstream looks the block up by another column than the entity's key, else the
        Phase 3 table: all players of a team have the pace of the team.
        """
        for matches in (self.block_of(feature).matches, self.upstream_tables[feature.phase3_table].matches):
            if matches != self.entity.key:
                return matches
        return ""

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
        """Return the columns of `generations`, in the order of a build's SELECT."""
        cells = (f"{block.name}_{phase}_cells" for block in self.blocks for phase in ("phase4", "phase3"))
        return (
            *self.output_columns,
            Column(name=LEFT_OUT, type="STRING"),
            *(Column(name=name, type="INT64", required=True) for name in cells),
            *self._game_columns(),
        )

    def _game_columns(self) -> Iterator[Column]:
        """Yield the columns of `generations` about the source of the opponent; none without a schedule."""
        if self.schedule is None:
            return
        yield Column(name="opponent_source", type="STRING", values=("schedule", "phase4"))
        for block in self.witnesses:
            yield Column(name=f"{block.name}_game", type="STRING", values=GAME_CHECKS)

    @property
    def references(self) -> Mapping[str, Mapping[str, str]]:
        """Return the upstream columns without which a build works: {`dataset.table`: {column: BigQuery type}}."""
        if self.schedule is None or not self.schedule.teams:
            return MappingProxyType({})
        table, types = self.upstream_tables[self.schedule.teams], {column.name: column.type for column in self.identity}
        name = types.get(self.schedule.team, "STRING")
        columns = {table.key: table.columns.get(table.key, name), self.schedule.teams_column: name}
        return MappingProxyType({table.name: MappingProxyType(columns | {PROCESSED: "TIMESTAMP"})})

    @property
    def readable(self) -> Mapping[str, Mapping[str, str]]:
        """Return every upstream column that a build may read: the columns of `upstream` and of `references`."""
        return MappingProxyType({**self.upstream, **self.references})

    @property
    def upstream(self) -> Mapping[str, Mapping[str, str]]:
        """Return every upstream column that a build reads: {`dataset.table`: {column: BigQuery type}}.

        A build stops with `SchemaDrift` if an upstream table disagrees.
        """
        columns: dict[str, dict[str, str]] = {}
        for table, name, kind in self.columns_read():
            columns.setdefault(table, {})[name] = kind
        return MappingProxyType({table: MappingProxyType(types) for table, types in columns.items()})

    def columns_read(self) -> Iterator[tuple[str, str, str]]:
        """Yield (table, column, BigQuery type) of each upstream column that a build reads; some columns twice."""
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
            yield from ((block.table, name, types[name]) for name in self.columns_of_witness(block))
            for feature in self.features_of(block.name):
                yield from self._cell_read(block.table, feature, feature.phase4)

    def columns_of_witness(self, block: Block) -> tuple[str, ...]:
        """Return the columns of a block's table about tonight's game; none if the table is no witness."""
        if self.schedule is None or block not in self.witnesses:
            return ()
        names = [getattr(self.schedule, told) for told in TOLD]
        return tuple(name for name in names if name in self.upstream_tables[block.table].columns)

    def _cell_read(self, table: str, feature: Feature, cell: Cell) -> Iterator[tuple[str, str, str]]:
        listed = self.upstream_tables[table].columns
        plain = cell.columns == (cell.sql,)
        yield from ((table, name, feature.type if plain else listed[name]) for name in cell.columns)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Return every dataset that a build reads or writes, without repetition."""
        tables = (*self.upstream, *self.references, *self.tables.all)
        return tuple(dict.fromkeys(table.partition(".")[0] for table in tables))

    @property
    def statements(self) -> tuple[str, ...]:
        """Return the names of the reading statements."""
        needs = {
            "report_predictions": self.optional.predictions,
            "profile": self.judged_features,
            "game_days": self.schedule,
        }
        absent = {name for name, needed in needs.items() if not needed}
        return tuple(name for name in self.templates.names("sql") if name not in absent)

    @property
    def changes(self) -> tuple[str, ...]:
        """Return the names of the statements that change the ledger or delete rows."""
        return self.templates.names("dml")

    def text(
        self, name: str, without: Unusable = NOTHING, *, rows_of: str = "", unset: frozenset[str] = frozenset()
    ) -> str:
        """Return the text of a statement; rendered texts are cached by pipeline and arguments.

        Args:
            name: Name of the template.
            without: Upstream tables and columns that count as empty; the statement reads typed NULLs instead.
            rows_of: For a statement about a build's rows: the statement that selects the rows; empty for rows in
                `generations`.
            unset: Parameters without a value. BigQuery accepts no NULL as a parameter, so the text leaves these
                parameters out: without `as_of` the condition is missing, and an entity without a value finds no row.

        Raises:
            Refused: The pipeline has no such statement.
        """
        if name in self.changes:
            return render(self, f"dml/{name}.sql")
        if name not in self.statements:
            raise Refused(f"the pipeline {self.name} has no statement {name}; list the statements: mlfs sql")
        return render(self, f"sql/{name}.sql", without=without, rows_of=rows_of, unset=unset)

    @property
    def described(self) -> tuple[str, ...]:
        """Return the tables and views with DDL: the product's tables, then upstream and optional tables."""
        extra = (self.optional.joined_view, self.optional.fallback_cache)
        return (*self.tables.all, *self.upstream, *filter(None, extra))

    def ddl_of(self, table: str) -> str:
        """Return the CREATE statement of a table, `dataset.table`.

        A worker never creates upstream tables; the statements of these tables are documentation.

        Raises:
            Refused: The pipeline has no such table.
        """
        if table not in self.described:
            raise Refused(f"the pipeline {self.name} has no table {table}; list the tables: mlfs sql")
        own = {getattr(self.tables, kind): kind for kind in OwnTables.__dataclass_fields__}
        extra = {self.optional.joined_view: "joined_view", self.optional.fallback_cache: "fallback_cache"}
        return render(self, f"ddl/{({**extra, **own}).get(table, 'upstream')}.sql", table=table)
