"""Values of an analysis date: state, completions, builds, record, policy.

Model: every value is frozen. A change is a new value, made by `statemachine.decide` only. Instants are aware datetimes
in UTC and end in `_at`; an analysis date is a plain `date` of the league's calendar (America/New_York).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from statemachine.decision import Change


# A rate is told to a hundredth of a percent; the ledger keeps it exact.
RATE_DIGITS = 4


class State(StrEnum):
    """State of an analysis date."""

    WAITING = "waiting"
    """Opened by the calendar or by the first event; not every processor has succeeded."""
    READY = "ready"
    """A build is due at `wake_at`: now, or after a retry delay."""
    RUNNING = "running"
    """Claimed by a worker, which holds a lease; (generation, attempt) is the fencing token."""
    DONE = "done"
    """Published, with every required dependency from Phase 4, and without a critical finding."""
    DEGRADED = "degraded"
    """Published, with some or all rows from Phase 3 or from yesterday, or with a critical finding."""
    FAILED = "failed"
    """The generation ended without a publication; a generation begun before the deadline leaves the deadline due."""


TERMINAL_STATES = frozenset({State.DONE, State.DEGRADED, State.FAILED})
PUBLISHED_STATES = frozenset({State.DONE, State.DEGRADED})


class CompletionStatus(StrEnum):
    """Kind of a processor's completion for an analysis date."""

    SUCCESS = "success"
    """The processor reported success."""
    FAILED = "failed"
    """The processor reported a failure. Stored and shown, never counted."""
    FOUND = "found"
    """No event came, but a probe found rows in the processor's table."""


class Trigger(StrEnum):
    """Why the present generation exists."""

    JOIN = "join"
    """All processors reported success, or a probe found rows in their tables at the deadline."""
    DEADLINE = "deadline"
    """The deadline passed, and a completion is missing."""
    UPSTREAM_FAILED = "upstream_failed"
    """All processors reported, some a failure, and the policy does not wait for the deadline."""
    UPGRADE = "upgrade"
    """After a degraded build and before the upgrade cutoff a missing success arrived, rows came without an event, or
    the processor that a critical finding names ran again."""
    RESCUE = "rescue"
    """The missing completion arrived after a failed generation."""
    RERUN = "rerun"
    """A processor ran again after the build, and the policy is to rebuild."""
    REPLAY = "replay"
    """A person requested the generation."""
    RETRACTION = "retraction"
    """The build used a run that a person has retracted."""


class BuildMode(StrEnum):
    """Data that a build may use."""

    NORMAL = "normal"
    """Phase 4 per cell, Phase 3 where Phase 4 has no value."""
    FORCED_FALLBACK = "forced_fallback"
    """Phase 3 only, as if Phase 4 did not exist."""
    YESTERDAY = "yesterday"
    """The last resort: the rows published yesterday, marked as yesterday's."""


class FailureKind(StrEnum):
    """Cause of a build without a publication."""

    UNAVAILABLE = "unavailable"
    """The warehouse did not serve; another attempt may succeed."""
    FATAL = "fatal"
    """Another attempt would fail the same way: schema drift, denied access, a bug."""
    GATE_REFUSED = "gate_refused"
    """Built and scored, but below the gate."""
    NO_DATA = "no_data"
    """Neither phase has the value without which no active entity gets a row."""
    NO_ROSTER = "no_roster"
    """No entity is active on the analysis date, or the table of the roster is unusable."""


class FailedBecause(StrEnum):
    """Cause of the state `failed`."""

    GATE_REFUSED = "gate_refused"
    NO_DATA = "no_data"
    NO_ROSTER = "no_roster"
    FATAL_ERROR = "fatal_error"
    RETRIES_EXHAUSTED = "retries_exhausted"
    CANCELLED = "cancelled"


class OnUpstreamFailure(StrEnum):
    """Effect of a reported failure while the analysis date waits."""

    WAIT = "wait"
    FALLBACK_NOW = "fallback_now"


class OnRerun(StrEnum):
    """Effect of a new run of a processor on an analysis date published in full."""

    HOLD = "hold"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Report of a processor about an analysis date, as stored.

    Attributes:
        processor: One of the pipeline's processors.
        status: The reported status, or `found` by a probe.
        identity: Equal for all deliveries of a report: the run id, else the completion time, else the message id.
        completed_at: End of the run, or, if not reported, the publish time of the message. UTC.
        received_at: Instant of the first delivery to this worker. UTC.
        row_count: Rows reported as written, 0 or more; None if not reported.
        error: The processor's words about a failure.
        message_id: Id of the message on the bus.
        traceparent: W3C trace context of the reception, else of the sender, for a link from the span of the build.
        unknown_fields: All other fields of the report, as JSON; None without other fields, or with too many to keep.
    """

    processor: str
    status: CompletionStatus
    identity: str
    completed_at: datetime
    received_at: datetime
    row_count: int | None = None
    error: str | None = None
    message_id: str | None = None
    traceparent: str | None = None
    unknown_fields: str | None = None

    @property
    def counts(self) -> bool:
        """Return whether a build may use the processor's table."""
        return self.status is not CompletionStatus.FAILED

    @property
    def precedence(self) -> tuple[int, datetime, str, int]:
        """Return the rank in the total order of reports about a processor; the highest report is kept.

        A failure or a probe never displaces a success, so the set of successes only grows. The join does not depend on
        the order of arrival.
        """
        rank = {CompletionStatus.FAILED: 0, CompletionStatus.FOUND: 1, CompletionStatus.SUCCESS: 2}[self.status]
        return rank, self.completed_at, self.identity, -1 if self.row_count is None else self.row_count


# Four processors, four wrong runs each: cancel an analysis date with more. The limit keeps a record small.
RETRACTIONS_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraction:
    """Retraction of a run of a processor by a person. ADR 0017.

    Attributes:
        processor: The processor of the run.
        identity: The report of the run, as in `Completion.identity`.
        completed_at: End of the run. UTC. The run had displaced older runs, so older runs do not count either.
        actor: The person.
        reason: The person's words.
        at: Instant of the retraction. UTC.
        request_id: Unique to the request, for the row in the audit.
        token: (generation, attempt) at the retraction: a build up to this token may have read rows of the run. None for
            a retraction read from the audit after the store had lost the retraction.
    """

    processor: str
    identity: str
    completed_at: datetime
    actor: str
    reason: str
    at: datetime
    request_id: str = ""
    token: tuple[int, int] | None = None

    def withdraws(self, completion: Completion) -> bool:
        """Return whether *completion* does not count: the retracted run, or a run displaced by the retracted run.

        Found rows do not name the run of the rows, so found rows never overrule a retraction.
        """
        if completion.processor != self.processor:
            return False
        same_run = completion.identity == self.identity or completion.status is CompletionStatus.FOUND
        return same_run or completion.completed_at < self.completed_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Time limit of a claim: until the limit (UTC) the owner may build (generation, attempt).

    Attributes:
        owner: The worker.
        until_at: End of the lease unless renewed.
        claimed_at: Instant of the claim.
        claimant: Unique to a claim. After the store lost the record, an older claim may have the same token and owner.
    """

    owner: str
    until_at: datetime
    claimed_at: datetime
    claimant: str = ""


class FindingSeverity(StrEnum):
    """Weight of a finding."""

    NOTE = "note"
    """Worth knowing; changes neither state nor severity."""
    WARNING = "warning"
    """The rows may be wrong in part: severity P3 at least."""
    CRITICAL = "critical"
    """The rows cannot be believed: the analysis date is degraded, severity P2 at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A reason why the rows of a build may be wrong, with the evidence.

    Attributes:
        check: Name of the check, a member of `worker.features.findings.Check`.
        severity: Weight of the finding.
        subject: The judged table, column, feature, team or component.
        observed: The measured figure, for people.
        expected: The figure that the check accepts, for people.
        next_step: The next step of the person on call.
        processor: The processor whose new run may end the finding; empty if no processor is responsible.
    """

    check: str
    severity: FindingSeverity
    subject: str
    observed: str
    expected: str
    next_step: str
    processor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """Figures of a published or refused build; the ledger holds the same figures.

    Attributes:
        generation: Generation of the build, 1 or more.
        attempt: Attempt within the generation, 1 or more.
        state: State earned by the build: done or degraded; None for a refused build.
        row_count: Rows in the published table for the analysis date.
        quality_score: 0 to 100, one decimal.
        component_total: Sum of the six components, 0 to 100.
        components: The six components by name, in points.
        fallback_rate: Share of blocks not from Phase 4, 0 to 1.
        missing_rate: Share of blocks from neither phase, 0 to 1.
        severity: P0 to P3, or None without a fault.
        dependency_rows: Rows in each processor's table for the analysis date, by processor.
        left_out: Active entities without a row.
        committed_at: Instant of the publication. UTC.
        duration_s: Seconds from the claim to the commit.
        mode: Build mode, copied from the record of the same generation; otherwise NORMAL, because the ledger stores no
            mode.
        findings: Findings about the rows, the most severe first; None for a result stored before builds were judged.
    """

    generation: int
    attempt: int
    state: State | None
    row_count: int
    quality_score: float
    component_total: float
    components: Mapping[str, float]
    fallback_rate: float
    missing_rate: float
    severity: str | None
    dependency_rows: Mapping[str, int]
    left_out: int
    committed_at: datetime
    duration_s: float
    mode: BuildMode = BuildMode.NORMAL
    findings: tuple[Finding, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """Change of a cell in a row of two generations.

    Attributes:
        column: Column of the cell.
        key: Entity of the row.
        label: Name of the entity for people.
        before: Value before; None without a value, or if the value is no number.
        after: Value after, likewise.
    """

    column: str
    key: int | str
    label: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Short form of the difference between a publication and the publication before.

    Attributes:
        from_generation: The generation published before.
        rows_added: Rows missing in the generation before.
        rows_removed: Rows only in the generation before.
        cells_changed: Cells of rows in both generations with different values.
        largest: The largest changes of cells, largest first.
    """

    from_generation: int
    rows_added: int
    rows_removed: int
    cells_changed: int
    largest: tuple[CellChange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Cause, message and instant of a failed generation or attempt."""

    because: str
    message: str
    at: datetime


EMPTY: Mapping[str, Completion] = MappingProxyType({})
NO_RUNS: Mapping[str, str] = MappingProxyType({})


class Keep(Enum):
    """Type of `KEEP`, the value of a field without a change."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class DateRecord:
    """The stored record of an analysis date, under a version.

    Attributes:
        analysis_date: The date in the league's calendar.
        state: State of the analysis date.
        version: Rises by one with each stored change except a renewed lease; 0 means never stored.
        revision: Name of the commit or renewal that stored this record, or the record before the decision; empty for a
            record never stored. Versions begin at 1 again after the store lost a date, revisions never repeat.
        generation: Rises with every new trigger; 0 until the first.
        attempt: Rises with every claim inside a generation; 0 until the first.
        own_from: First attempt of the present generation claimed above every token in the ledger; 0 before such a
            claim. A commit of this generation under a lower attempt may be older than the generation. ADR 0027.
        opened_at: Instant of the first commit. UTC.
        deadline_at: End of waiting. UTC, from the pipeline's wall clock on the analysis date.
        upgrade_cutoff_at: Instant after which a late completion no longer upgrades a degraded analysis date. UTC.
        completions: The kept report of each processor with a report.
        wake_at: The next due instant; None if no step is due. UTC.
        trigger: Reason of the present generation.
        mode: Data that the build of the present generation may use.
        relied_on: Processors whose completion counted when the present generation was last claimed.
        claimed_runs: Identity of each reported success at that claim, by processor.
        lease: Held while running.
        result: The last published build of any generation.
        failure: The last failure of this generation. While running: the error after which the generation is given up,
            once the ledger has been read.
        requested_by: The person behind the present generation, if any.
        request_reason: The person's words.
        request_id: Id of the person's request; empty without an id.
        as_of: Instant (UTC) up to which the build of the present generation reads upstream rows, by `processed_at`;
            None without a limit.
        retractions: Retractions, oldest first. Kept for the life of the record, so that no redelivery brings a
            retracted run back.
    """

    analysis_date: date
    state: State
    version: int = 0
    revision: str = field(default="", compare=False)
    generation: int = 0
    attempt: int = 0
    own_from: int = 0
    opened_at: datetime
    deadline_at: datetime
    upgrade_cutoff_at: datetime
    completions: Mapping[str, Completion] = field(default_factory=lambda: EMPTY)
    wake_at: datetime | None = None
    trigger: Trigger | None = None
    mode: BuildMode = BuildMode.NORMAL
    relied_on: frozenset[str] = frozenset()
    claimed_runs: Mapping[str, str] = field(default_factory=lambda: NO_RUNS)
    lease: Lease | None = None
    result: BuildResult | None = None
    failure: Failure | None = None
    requested_by: str | None = None
    request_reason: str | None = None
    request_id: str = ""
    as_of: datetime | None = None
    retractions: tuple[Retraction, ...] = ()

    @property
    def counted(self) -> frozenset[str]:
        """Return the processors whose completion counts."""
        return frozenset(name for name, completion in self.completions.items() if completion.counts)

    @property
    def ignored(self) -> frozenset[str]:
        """Return the processors whose table no build may read: a retraction, and no later run that counts."""
        return frozenset(retraction.processor for retraction in self.retractions) - self.counted

    def withdrawn(self, completion: Completion) -> bool:
        """Return whether a person retracted this run, or a newer run of the processor that had displaced this run."""
        return any(retraction.withdraws(completion) for retraction in self.retractions)

    @property
    def reported_runs(self) -> Mapping[str, str]:
        """Return the identity of each reported success, by processor; found rows have no identity."""
        return MappingProxyType(
            {
                name: completion.identity
                for name, completion in self.completions.items()
                if completion.status is CompletionStatus.SUCCESS
            }
        )

    def with_change(self, change: "Change", *, state: State, version: int) -> "DateRecord":
        """Return the record with the changed fields, in *state* and under *version*."""
        new = {name: value for name in change.__slots__ if (value := getattr(change, name)) is not KEEP}
        return replace(self, state=state, version=version, **new)

    def with_lease_until(self, instant: datetime | None) -> "DateRecord":
        """Return the record with the lease extended to *instant*; without a lease the record as before."""
        if self.lease is None or instant is None:
            return self
        return replace(self, lease=replace(self.lease, until_at=instant), wake_at=instant)

    @property
    def giving_up(self) -> bool:
        """Return whether the generation fails unless the ledger holds a commit of the generation."""
        return self.state is State.RUNNING and self.failure is not None

    @property
    def published_generation(self) -> int:
        """Return the generation that consumers can read now; 0 before the first publication."""
        return self.result.generation if self.result is not None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Configurable rules of a pipeline.

    Attributes:
        processors: Processors of the join, in the order of the pipeline's definition.
        optional: Those of the processors whose absence at the deadline is no reason for `degraded`. ADR 0036.
        attempts_max: Attempts in a generation before the generation fails.
        retry_delay: Wait between two attempts.
        lease: Duration of a claim without renewal.
        look_every: Pause between two probes of a degraded analysis date from the deadline to the cutoff.
        on_upstream_failure: Wait for the deadline, or fall back once all have reported.
        rerun: Effect of a new run of a processor on an analysis date in `done`.

    Source: three attempts five minutes apart are the retry policy of the pipeline document. A probe each minute costs a
    query, and an upgrade between deadline and cutoff comes a minute late at most.
    """

    processors: tuple[str, ...]
    optional: frozenset[str] = frozenset()
    attempts_max: int = 3
    retry_delay: timedelta = timedelta(minutes=5)
    lease: timedelta = timedelta(seconds=60)
    look_every: timedelta = timedelta(minutes=1)
    on_upstream_failure: OnUpstreamFailure = OnUpstreamFailure.WAIT
    rerun: OnRerun = OnRerun.HOLD

    def missing(self, record: DateRecord) -> tuple[str, ...]:
        """Return the processors that do not count yet, in the pipeline's order."""
        counted = record.counted
        return tuple(name for name in self.processors if name not in counted)

    def holding_back(self, record: DateRecord, now: datetime) -> tuple[str, ...]:
        """Return the missing processors that a build at *now* waits for; from the deadline on only required ones."""
        missing = self.missing(record)
        if now < record.deadline_at:
            return missing
        return tuple(name for name in missing if name not in self.optional)
