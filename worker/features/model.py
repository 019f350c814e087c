"""Values exchanged between the build, the score and the warehouse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from statemachine.model import BuildMode, FailureKind, Finding, State
from worker.features.profile import Profile


class BuildPhase(StrEnum):
    """Phase of a build, in this order. A label of metrics, so the set is closed."""

    CLAIM = "claim"
    """Claim the analysis date in the ledger."""
    VALIDATE = "validate"
    """Compare upstream tables with the catalogue."""
    DEPENDENCIES = "dependencies"
    """Count the rows of the four Phase 4 tables."""
    STAGE = "stage"
    """Store the rows, still invisible to consumers."""
    SCORE = "score"
    """Count and score the rows."""
    GATE = "gate"
    """Apply the quality gate and store a refusal."""
    PUBLISH = "publish"
    """Change the pointer of the ledger: consumers then see the rows."""


class CellSource(StrEnum):
    """Source of a block in a row, or of a whole row."""

    PHASE4 = "phase4"
    PHASE3 = "phase3"
    MIXED = "mixed"
    MISSING = "missing"
    YESTERDAY = "yesterday"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """SQL statement in BigQuery's dialect with typed parameters.

    Attributes:
        name: Name in `mlfs sql`, job ids, logs and spans.
        sql: The text, verbatim.
        parameters: Values by name. `date`, aware `datetime`, `int`, `float`, `str`, `bool`; a list is an array of a
            single type. Never None, because BigQuery documents that no parameter can be NULL.
    """

    name: str
    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildKey:
    """Identity of an attempt; generation and attempt together are the fencing token."""

    analysis_date: date
    generation: int
    attempt: int

    @property
    def build_id(self) -> str:
        """Deterministic name, the stem of job ids: `2024-12-15-g1-a1`."""
        return f"{self.analysis_date.isoformat()}-g{self.generation}-a{self.attempt}"

    @property
    def token(self) -> tuple[int, int]:
        """Fencing token, compared by the ledger."""
        return self.generation, self.attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Request of a build.

    Attributes:
        key: Analysis date, generation, attempt.
        mode: Allowed data.
        trigger: Reason of the build, for the execution log.
        phase3_lookback_days: Maximal age of a Phase 3 row, in days before the analysis date.
        as_of: Use only upstream rows with `processed_at` up to this instant (UTC); None for no limit.
        started_at: Instant of the claim. UTC.
        claimant: Name of the claim in the ledger; unique to an attempt of a worker.
        ignored: Processors whose table counts as empty after a retraction (ADR 0017).
        claimed_rows: Rows that the counted event of each processor claims; a processor without a claim is absent.
    """

    key: BuildKey
    mode: BuildMode
    trigger: str
    phase3_lookback_days: int
    as_of: datetime | None
    started_at: datetime
    claimant: str
    ignored: frozenset[str] = frozenset()
    claimed_rows: Mapping[str, int] = field(default_factory=dict)

    def reads(self, processor: str) -> bool:
        """Whether the build may read the processor's Phase 4 table."""
        return self.mode is not BuildMode.FORCED_FALLBACK and processor not in self.ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCounts:
    """Cells of a processor's block over all active entities with the block, with entities left out.

    Attributes:
        players: Number of entities with the block; players, in the shipped pipeline.
        cells_each: Number of features in the block.
        phase4_cells: Number of cells from Phase 4, over the entities with a row.
        phase3_cells: Number of cells from Phase 3, over the entities with a row.
    """

    players: int
    cells_each: int
    phase4_cells: int
    phase3_cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Active entity without a row, and the reason.

    Attributes:
        key: Key of the entity.
        label: Name of the entity for people.
        identity: Key, name and further known columns.
        reason: Reason for the missing row.
    """

    key: int | str
    label: str
    identity: Mapping[str, Any]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamFault:
    """Upstream table or column that no build can use as the catalogue describes the table.

    Attributes:
        table: Name of the table, `dataset.table`.
        column: Name of the column; empty if the whole table is unusable.
        wanted: BigQuery type of the column in the catalogue; empty for a table.
        found: Type or absence of the column, or the reason why the table cannot be read.
    """

    table: str
    column: str = ""
    wanted: str = ""
    found: str = "absent"

    @property
    def text(self) -> str:
        """Return the fault as a sentence fragment with table and column."""
        if not self.column:
            return f"table {self.table} {self.found}"
        if self.found.startswith("absent"):
            return f"{self.table} has no column {self.column} ({self.wanted}){self.found.removeprefix('absent')}"
        return f"{self.table}.{self.column} is {self.found}, not {self.wanted}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """Counts of the rows of an analysis date in a Phase 4 table.

    Attributes:
        rows: Number of rows.
        keys: Number of different keys; a row without a key counts in `rows` alone.
        doubled_keys: Number of keys with several rows.
        undated_rows: Rows without `processed_at`.
        old_rows: Rows processed before the start (UTC) of the day two days before the analysis date.
        ahead_rows: Rows processed more than a day after the start of the build.
    """

    rows: int
    keys: int
    doubled_keys: int
    undated_rows: int
    old_rows: int
    ahead_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GameCounts:
    """Active entities by tonight's games: the schedule compared with Phase 4 and with the team list.

    Attributes:
        from_phase4: Entities with an opponent from Phase 4, because the schedule has no game.
        checked: Entities who play by the schedule or by a Phase 4 table.
        differing: The number of these for whom both differ, by kind of the difference.
        witnesses: (differing, checked) by block, for each Phase 4 table with a word about games.
        unknown: (teams, entities concerned) by source, `schedule` or `roster`, where the team list lacks teams.
    """

    from_phase4: int = 0
    checked: int = 0
    differing: Mapping[str, int] = field(default_factory=dict)
    witnesses: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unknown: Mapping[str, tuple[Sequence[str], int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStats:
    """Counts of a build's rows: the input of the score.

    Attributes:
        analysis_date: The analysis date of the build.
        row_count: Rows that may be published.
        dependency_rows: Row count of each processor's table, also for a forced build.
        blocks: Counts per block name.
        required_nulls: NULLs in the required fields over all rows.
        newest_source_date: The newest source date of any row; None without rows.
        left_out_count: Active entities without a row.
        left_out: These entities, by key; the first thousand at most. Listed at the end of the build.
        unusable: Upstream tables and columns that counted as empty.
        left_empty: Cells that Phase 4 left empty, by feature; only features with an unusable Phase 3 source.
        table_facts: Counts of each Phase 4 table with rows that the build read, by processor.
        profile: Statistics of the features, and the nights before; empty if the statistics could not be read.
        not_finite: Number of NaN and infinite values in the Phase 4 rows of the analysis date, by feature.
        games: Facts about tonight's games; None for a pipeline without schedule.
    """

    analysis_date: date
    row_count: int
    dependency_rows: Mapping[str, int]
    blocks: Mapping[str, BlockCounts]
    required_nulls: int
    newest_source_date: date | None
    left_out_count: int
    left_out: Sequence[LeftOut] = ()
    unusable: Sequence[UpstreamFault] = ()
    left_empty: Mapping[str, int] = field(default_factory=dict)
    table_facts: Mapping[str, TableFacts] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)
    not_finite: Mapping[str, int] = field(default_factory=dict)
    games: GameCounts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """Score and verdict of a build.

    Attributes:
        row_count: Rows that may be published.
        quality_score: 0 to 100, one decimal.
        components: Components by name, in points with one decimal.
        component_total: Sum of the components.
        fallback_rate: Share of blocks not from Phase 4 (the ruling's x), 0 to 1.
        missing_rate: Share of blocks from neither phase, 0 to 1.
        severity: P0 to P3, None without a fault.
        gate_passed: Whether the quality gate passed.
        gate_message: Reason of a refusal, empty after a pass.
        earned_state: `done` or `degraded`, the state after a publication.
        findings: Reasons why the rows may be wrong, the most severe first.
    """

    row_count: int
    quality_score: float
    components: Mapping[str, float]
    component_total: float
    fallback_rate: float
    missing_rate: float
    severity: str | None
    gate_passed: bool
    gate_message: str
    earned_state: State
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Scored and accepted build before publication."""

    request: BuildRequest
    stats: BuildStats
    report: QualityReport
    committed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """Published generation of an analysis date in the warehouse, sufficient to restore the record."""

    analysis_date: date
    generation: int
    attempt: int
    build_id: str
    state: State
    row_count: int
    quality_score: float
    component_total: float
    components: Mapping[str, float]
    fallback_rate: float
    missing_rate: float
    severity: str | None
    dependency_rows: Mapping[str, int]
    left_out: int
    started_at: datetime
    committed_at: datetime
    findings: tuple[Finding, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """Result of an attempt that ended without an exception.

    Attributes:
        request: The request of the build.
        stats: Counts of the rows.
        report: Score and verdict.
        published: Whether the rows are visible now; False for a refused build and for a dry run.
        failure: Reason why the build may not be published; None for an accepted build.
        message: The failure in words, empty without a failure.
        finished_at: End of the attempt; the commit time of a published build. UTC.
    """

    request: BuildRequest
    stats: BuildStats
    report: QualityReport
    published: bool
    failure: FailureKind | None
    message: str
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementEstimate:
    """Estimated cost of a statement that did not run.

    Attributes:
        name: Name of the statement.
        bytes_processed: Bytes to read; None if the engine returns no estimate.
        usd: On-demand price with minimum charges; 0 for an engine without charges.
        reads: A text for each table, with the engine's guess of the rows if available.
    """

    name: str
    bytes_processed: int | None
    usd: float
    reads: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Cost of the jobs of a step for an analysis date on a calendar day.

    Attributes:
        executed_on: Calendar day of the jobs. UTC.
        analysis_date: The analysis date of the jobs; None for jobs without a single analysis date.
        step: `features`, `publish`, …; `build` if only whole attempts are recorded.
        jobs: Number of jobs.
        bytes_processed: Read, in bytes.
        bytes_billed: Billed, in bytes.
        slot_ms: Slot time in milliseconds.
        usd: On-demand price of the billed bytes.
    """

    executed_on: date
    analysis_date: date | None
    step: str
    jobs: int
    bytes_processed: int
    bytes_billed: int
    slot_ms: int
    usd: float
