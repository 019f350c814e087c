"""The values that travel between the build, the score and the warehouse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from statemachine.model import BuildMode, FailureKind, State


class BuildPhase(StrEnum):
    """What a build is at, in this order; where its time goes. A label of metrics, so the set is closed."""

    CLAIM = "claim"
    """The ledger is told whose the date is."""
    VALIDATE = "validate"
    """Upstream tables are compared with the catalogue."""
    DEPENDENCIES = "dependencies"
    """Rows of the four Phase 4 tables are counted."""
    STAGE = "stage"
    """The rows are made, where no consumer sees them."""
    SCORE = "score"
    """The rows are counted and judged."""
    GATE = "gate"
    """The verdict; a refusal is written down."""
    PUBLISH = "publish"
    """The ledger is pointed at the rows: from then on consumers see them."""


class CellSource(StrEnum):
    """Where a block of a row, or a whole row, comes from."""

    PHASE4 = "phase4"
    PHASE3 = "phase3"
    MIXED = "mixed"
    MISSING = "missing"
    YESTERDAY = "yesterday"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One SQL statement in BigQuery dialect with its typed parameters.

    Attributes:
        name: As `mlfs sql` lists it; used in job ids, logs and spans.
        sql: The text, verbatim.
        parameters: Values by name. `date`, aware `datetime`, `int`, `float`, `str`, `bool`; a list is an array
            of one of them. Never None: BigQuery's documentation says that no parameter can be NULL.
    """

    name: str
    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildKey:
    """The identity of one attempt; generation and attempt together are the fencing token."""

    analysis_date: date
    generation: int
    attempt: int

    @property
    def build_id(self) -> str:
        """Deterministic name, the stem of job ids: `2024-12-15-g1-a1`."""
        return f"{self.analysis_date.isoformat()}-g{self.generation}-a{self.attempt}"

    @property
    def token(self) -> tuple[int, int]:
        """What the ledger compares."""
        return self.generation, self.attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build.

    Attributes:
        key: Date, generation, attempt.
        mode: Which data may be used.
        trigger: Why, for the execution log.
        phase3_lookback_days: How far back a Phase 3 row may lie, in days before the date.
        as_of: Use only upstream rows with `processed_at` up to this instant (UTC); None for no limit.
        started_at: When the attempt was claimed. UTC.
        claimant: Under which name the ledger is claimed; unique to one attempt of one worker.
        ignored: Processors whose table is not read and counts as empty: what it holds was taken back (ADR 0017).
    """

    key: BuildKey
    mode: BuildMode
    trigger: str
    phase3_lookback_days: int
    as_of: datetime | None
    started_at: datetime
    claimant: str
    ignored: frozenset[str] = frozenset()

    def reads(self, processor: str) -> bool:
        """Whether the build may read the processor's Phase 4 table."""
        return self.mode is not BuildMode.FORCED_FALLBACK and processor not in self.ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCounts:
    """Cells of one processor's block over all active entities it applies to, those left out included.

    Attributes:
        players: Entities the block applies to; players, in the shipped pipeline.
        cells_each: Features in the block.
        phase4_cells: Cells filled from Phase 4, over the entities that have a row.
        phase3_cells: Cells filled from Phase 3, likewise.
    """

    players: int
    cells_each: int
    phase4_cells: int
    phase3_cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An active entity without a row, and why.

    Attributes:
        key: What tells it apart.
        label: What people know it by.
        identity: Both, and what else is known of it, by column.
        reason: Why it has no row.
    """

    key: int | str
    label: str
    identity: Mapping[str, Any]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStats:
    """Counts of a build's rows: all that the score needs.

    Attributes:
        analysis_date: The date built.
        row_count: Rows that may be published.
        dependency_rows: Rows in each processor's table for the date, also when the build was forced past them.
        blocks: Counts per block name.
        required_nulls: NULLs in the required fields over all rows.
        newest_source_date: The newest source date of any row; None without rows.
        left_out_count: Active entities without a row.
        left_out: Who they are, by key; the first thousand at most. Listed when the build has ended.
    """

    analysis_date: date
    row_count: int
    dependency_rows: Mapping[str, int]
    blocks: Mapping[str, BlockCounts]
    required_nulls: int
    newest_source_date: date | None
    left_out_count: int
    left_out: Sequence[LeftOut] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """What a build is worth.

    Attributes:
        row_count: Rows that may be published.
        quality_score: 0 to 100, one decimal.
        components: The components by name, in points, one decimal each.
        component_total: Their sum.
        fallback_rate: Share of blocks not from Phase 4 (the ruling's x), 0 to 1.
        missing_rate: Share of blocks from neither phase, 0 to 1.
        severity: P0 to P3, None where nothing is wrong.
        gate_passed: Whether the build may become visible.
        gate_message: Why not, empty when passed.
        earned_state: `done` or `degraded` if it is published.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One scored and accepted build on its way to being visible."""

    request: BuildRequest
    stats: BuildStats
    report: QualityReport
    committed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What the warehouse knows of the published generation of a date; enough to rebuild the record from."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """How one attempt ended, short of an error.

    Attributes:
        request: What was asked for.
        stats: Counts of its rows.
        report: What it is worth.
        published: Whether the rows are visible now; False for a refused build and for a dry run.
        failure: Why the build may not be published; None where it may.
        message: The failure in words, empty without one.
        finished_at: When the attempt ended; the commit time of a published build. UTC.
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
    """What a statement would cost, asked without running it.

    Attributes:
        name: Of the statement.
        bytes_processed: What it would read; None where the engine does not say.
        usd: What that costs on demand, minimum charges included; 0 where nothing is billed.
        reads: What it reads, one text a table, with the engine's guess of rows where it has one.
    """

    name: str
    bytes_processed: int | None
    usd: float
    reads: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """What the jobs of one step for one date took on one day.

    Attributes:
        executed_on: The day they ran. UTC.
        analysis_date: The date they worked for; None for jobs that served no single date.
        step: `features`, `publish`, …; `build` where only whole attempts are on record.
        jobs: How many.
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
