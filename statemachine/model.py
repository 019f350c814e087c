"""The nouns of one analysis date: its state, what arrived, what was built.

Everything here is a frozen value. A change is a new value, made in `statemachine.decide` and nowhere else.
Instants are aware datetimes in UTC and end in `_at`; an analysis date is a plain `date` of the league's calendar
(America/New_York).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where one analysis date stands."""

    WAITING = "waiting"
    """Opened by the calendar or by its first event; not every processor has succeeded."""
    READY = "ready"
    """A build is due at `wake_at`: now, or after a retry delay."""
    RUNNING = "running"
    """Claimed by one worker, which holds a lease; (generation, attempt) is the fencing token."""
    DONE = "done"
    """Published, with every dependency from Phase 4."""
    DEGRADED = "degraded"
    """Published, with some or all of it from Phase 3, or from yesterday."""
    FAILED = "failed"
    """Nothing was published for this generation; where it began before the deadline, the deadline still comes."""


TERMINAL_STATES = frozenset({State.DONE, State.DEGRADED, State.FAILED})
PUBLISHED_STATES = frozenset({State.DONE, State.DEGRADED})


class CompletionStatus(StrEnum):
    """What is known of one processor for one date."""

    SUCCESS = "success"
    """The processor said so."""
    FAILED = "failed"
    """The processor said it failed. Stored and shown, never counted."""
    FOUND = "found"
    """No event came, but the deadline's probe found rows in the processor's table."""


class Trigger(StrEnum):
    """Why the present generation exists."""

    JOIN = "join"
    """All processors reported success (or their tables were found filled at the deadline)."""
    DEADLINE = "deadline"
    """The deadline passed with something truly missing."""
    UPSTREAM_FAILED = "upstream_failed"
    """All reported, not all with success, and the policy says not to wait for the deadline."""
    UPGRADE = "upgrade"
    """A missing success arrived after a degraded build, before the upgrade cutoff."""
    RESCUE = "rescue"
    """The completion that was missing arrived after a failed generation."""
    RERUN = "rerun"
    """A processor ran again after the build, and the policy is to rebuild."""
    REPLAY = "replay"
    """A person asked for it."""
    RETRACTION = "retraction"
    """What was built rested on a run that a person has taken back."""


class BuildMode(StrEnum):
    """Which data a build may use."""

    NORMAL = "normal"
    """Phase 4 per cell, Phase 3 where Phase 4 has nothing."""
    FORCED_FALLBACK = "forced_fallback"
    """Phase 3 only, as if Phase 4 did not exist."""
    YESTERDAY = "yesterday"
    """The last resort: yesterday's published rows, marked as such."""


class FailureKind(StrEnum):
    """Why a build ended without publishing."""

    UNAVAILABLE = "unavailable"
    """The warehouse could not serve; worth another attempt."""
    FATAL = "fatal"
    """Another attempt would fail the same way: schema drift, denied access, a bug."""
    GATE_REFUSED = "gate_refused"
    """Built and scored, but below the gate."""
    NO_DATA = "no_data"
    """Neither phase has a row for any active entity."""


class FailedBecause(StrEnum):
    """Why a date stands in `failed`."""

    GATE_REFUSED = "gate_refused"
    NO_DATA = "no_data"
    FATAL_ERROR = "fatal_error"
    RETRIES_EXHAUSTED = "retries_exhausted"
    CANCELLED = "cancelled"


class OnUpstreamFailure(StrEnum):
    """What a processor's own failure report does while the date still waits."""

    WAIT = "wait"
    FALLBACK_NOW = "fallback_now"


class OnRerun(StrEnum):
    """What a new run of a processor does to a date already published in full."""

    HOLD = "hold"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One processor's report about one date, in the form in which it counts.

    Attributes:
        processor: One of the pipeline's processors.
        status: What was reported, or `found` by the probe.
        identity: What makes two deliveries the same report: the run id, else the completion time, else the message id.
        completed_at: When the processor finished, or, where it did not say, when its message was published. UTC.
        received_at: When this worker first saw it. UTC.
        row_count: Rows the processor claims to have written, 0 or more; None where it did not say.
        error: The processor's own words about a failure.
        message_id: The bus's id of the message it came in.
        traceparent: W3C trace context of its reception, else of its sender, so that whoever builds can link to it.
        unknown_fields: What the report said beyond this, as JSON; None where there was nothing, or too much to keep.
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
        """Whether the build may rely on this processor's table."""
        return self.status is not CompletionStatus.FAILED

    @property
    def precedence(self) -> tuple[int, datetime, str, int]:
        """Total order of reports about one processor: the highest one is kept, whatever order they came in.

        A success is never displaced by a failure or by a probe, so the set of successes only grows and the join does
        not depend on the order of arrival.
        """
        rank = {CompletionStatus.FAILED: 0, CompletionStatus.FOUND: 1, CompletionStatus.SUCCESS: 2}[self.status]
        return rank, self.completed_at, self.identity, -1 if self.row_count is None else self.row_count


# Four processors, four wrong runs each: a night with more is to be cancelled, and a record stays small.
RETRACTIONS_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraction:
    """A person took back what one run of a processor had announced. ADR 0017.

    Attributes:
        processor: Whose run it was.
        identity: Which report it was, as in `Completion.identity`.
        completed_at: When that run had completed. UTC. Older runs were displaced by it and do not count either.
        actor: Who took it back.
        reason: Why, in their words.
        at: When. UTC.
        request_id: Unique to the request, for its row in the audit.
        token: (generation, attempt) of the date at that moment: a build up to it may have read what the run wrote. None
            where the retraction was read back from the audit, after the store had lost it.
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
        """Whether *completion* does not count because of this: it is the run, or one that the run had displaced.

        Rows that were only found do not say which run wrote them, so they never speak against a retraction.
        """
        if completion.processor != self.processor:
            return False
        same_run = completion.identity == self.identity or completion.status is CompletionStatus.FOUND
        return same_run or completion.completed_at < self.completed_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one worker to build one (generation, attempt) until an instant (UTC).

    Attributes:
        owner: The worker.
        until_at: When it ends unless it is renewed.
        claimed_at: When it was given.
        claimant: Unique to one claim. After the store lost the date, a claim of its former life may bear the same token
            and the same owner.
    """

    owner: str
    until_at: datetime
    claimed_at: datetime
    claimant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What one published (or refused) build was worth; the ledger holds the same facts.

    Attributes:
        generation: The generation it belongs to, 1 or more.
        attempt: The attempt within it, 1 or more.
        state: The state the build earned: done or degraded (None for a refused build).
        row_count: Rows in the published table for the date.
        quality_score: 0 to 100, one decimal.
        component_total: Sum of the six components, 0 to 100.
        components: The six components by name, in points.
        fallback_rate: Share of blocks not from Phase 4, 0 to 1.
        missing_rate: Share of blocks from neither phase, 0 to 1.
        severity: P0 to P3, or None where nothing is wrong.
        dependency_rows: Rows in each processor's table for the date, by processor.
        left_out: Active entities without a row.
        committed_at: When the publishing transaction ran. UTC.
        duration_s: Seconds from the claim to the commit.
        mode: Which data the build used, where the record that was told of it knew; the ledger does not say.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """One cell of a row that the generation before had, too.

    Attributes:
        column: Its column.
        key: The row's entity.
        label: What people know the entity by.
        before: Its value; None for no value, or for one that is no number.
        after: Likewise.
    """

    column: str
    key: int | str
    label: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a publication changed, in short.

    Attributes:
        from_generation: The generation that was published before it.
        rows_added: Rows that the generation before does not have.
        rows_removed: Rows that only the generation before has.
        cells_changed: Cells of rows that both have, whose value differs.
        largest: The largest of these changes, largest first.
    """

    from_generation: int
    rows_added: int
    rows_removed: int
    cells_changed: int
    largest: tuple[CellChange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why and when a generation ended, or an attempt went wrong."""

    because: str
    message: str
    at: datetime


EMPTY: Mapping[str, Completion] = MappingProxyType({})
NO_RUNS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class DateRecord:
    """Everything remembered about one analysis date; one record a date, stored under a version.

    Attributes:
        analysis_date: The night, in the league's calendar.
        state: Where it stands.
        version: Rises by one with each stored change except a renewed lease; 0 means never stored.
        revision: Name of the commit or renewal that stored this record, or the record before the decision; empty for a
            record never stored. Versions begin at 1 again after the store lost a date, revisions never repeat.
        generation: Rises with every new trigger; 0 until the first.
        attempt: Rises with every claim inside a generation; 0 until the first.
        own_from: The first attempt of the present generation that was claimed above every token in the ledger; 0 before
            such a claim. A commit of this generation under a lower attempt may be older than the generation. ADR 0027.
        opened_at: When the record was created. UTC.
        deadline_at: When waiting ends. UTC, from the pipeline's wall clock on that date.
        upgrade_cutoff_at: After this a late completion no longer upgrades a degraded date. UTC.
        completions: The report kept for each processor that reported.
        wake_at: The next instant at which something is due, None when nothing is. UTC.
        trigger: Why the present generation exists.
        mode: Which data its build may use.
        relied_on: Processors whose completion counted when the present generation was last claimed.
        claimed_runs: Identity of each reported success at that claim, by processor.
        lease: Held while running.
        result: The last published build, of whatever generation.
        failure: The last thing that went wrong in this generation. While running: the error after which this generation
            is given up, once the ledger has been asked.
        requested_by: Who asked for the present generation, where a person did.
        request_reason: In their words.
        request_id: Which of their requests; empty where it has no name.
        retractions: What people took back, oldest first. It stays for the life of the record, so that no redelivery
            brings a run back.
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
    retractions: tuple[Retraction, ...] = ()

    @property
    def counted(self) -> frozenset[str]:
        """Processors whose completion counts."""
        return frozenset(name for name, completion in self.completions.items() if completion.counts)

    @property
    def ignored(self) -> frozenset[str]:
        """Processors whose table no build may read: the last that counted was taken back, and no other run followed."""
        return frozenset(retraction.processor for retraction in self.retractions) - self.counted

    def withdrawn(self, completion: Completion) -> bool:
        """Whether a person has taken back this run, or a newer one of the processor's that had displaced it."""
        return any(retraction.withdraws(completion) for retraction in self.retractions)

    @property
    def reported_runs(self) -> Mapping[str, str]:
        """Identity of each reported success, by processor; rows that only the probe found have none."""
        return MappingProxyType(
            {
                name: completion.identity
                for name, completion in self.completions.items()
                if completion.status is CompletionStatus.SUCCESS
            }
        )

    def with_lease_until(self, instant: datetime | None) -> "DateRecord":
        """Return the record with the lease extended to *instant*; without a lease the record as before."""
        if self.lease is None or instant is None:
            return self
        return replace(self, lease=replace(self.lease, until_at=instant), wake_at=instant)

    @property
    def giving_up(self) -> bool:
        """Whether the generation fails unless the ledger holds a commit of it."""
        return self.state is State.RUNNING and self.failure is not None

    @property
    def published_generation(self) -> int:
        """The generation consumers can read now; 0 when nothing was ever published."""
        return self.result.generation if self.result is not None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of one pipeline that are a matter of choice.

    Attributes:
        processors: The completions that make a join, in the order people list them.
        attempts_max: Builds tried per generation before it fails.
        retry_delay: Wait between two attempts.
        lease: How long a claim holds without renewal.
        look_every: How often the tables of a degraded date are looked into between its deadline and its cutoff.
        on_upstream_failure: Wait for the deadline, or fall back once all have reported.
        rerun: What a new run of a processor does to a date in `done`.

    Source: three attempts five minutes apart are the pipeline document's retry policy. A look each minute is what the
    25 minutes between deadline and cutoff need: a look costs one query, and an upgrade comes a minute late at most.
    """

    processors: tuple[str, ...]
    attempts_max: int = 3
    retry_delay: timedelta = timedelta(minutes=5)
    lease: timedelta = timedelta(seconds=60)
    look_every: timedelta = timedelta(minutes=1)
    on_upstream_failure: OnUpstreamFailure = OnUpstreamFailure.WAIT
    rerun: OnRerun = OnRerun.HOLD

    def missing(self, record: DateRecord) -> tuple[str, ...]:
        """Processors that do not count yet, in the pipeline's order."""
        counted = record.counted
        return tuple(name for name in self.processors if name not in counted)
