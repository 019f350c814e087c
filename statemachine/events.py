"""Events of an analysis date, named in the past tense; each event is a frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, TypeAlias

from statemachine.model import BuildMode, BuildResult, Changes, Completion, FailureKind


class EventKind(StrEnum):
    """Names of the events, as the transition table, logs and history use them."""

    DATE_OPENED = "date_opened"
    COMPLETION_RECEIVED = "completion_received"
    TIMER_FIRED = "timer_fired"
    BUILD_CLAIMED = "build_claimed"
    LEASE_RENEWED = "lease_renewed"
    BUILD_COMMITTED = "build_committed"
    BUILD_FAILED = "build_failed"
    REPLAY_REQUESTED = "replay_requested"
    CANCEL_REQUESTED = "cancel_requested"
    COMPLETION_RETRACTED = "completion_retracted"


@dataclass(frozen=True, slots=True, kw_only=True)
class DateOpened:
    """The calendar expects this analysis date."""

    kind: ClassVar = EventKind.DATE_OPENED


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionReceived:
    """A processor reported."""

    kind: ClassVar = EventKind.COMPLETION_RECEIVED
    completion: Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    """The record's `wake_at` has come: deadline, retry delay, lease expiry or upgrade cutoff.

    Attributes:
        probe: Rows in each processor's table for the analysis date; None before a probe. Required at a deadline, and
            for a degraded analysis date whose build found no rows in a table.
        looked_at: Start of the probe, UTC; None for the instant of the decision.
        closed_generation: The generation to which the ledger was closed without a commit of the generation; 0 for none.
            Required at the end of a generation.
    """

    kind: ClassVar = EventKind.TIMER_FIRED
    probe: Mapping[str, int] | None = None
    looked_at: datetime | None = None
    closed_generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildClaimed:
    """A worker claims the analysis date.

    Attributes:
        worker: The worker.
        claimant: Unique to this claim; copied into lease, ledger and reports.
        ledger_claim: The newest (generation, attempt) claimed in the ledger, (0, 0) for none. A lost record counts
            from 1 again, and a manual build claims in the ledger only: the claim gets a higher token, so that no
            generation is committed twice. None if the ledger could not be read.
    """

    kind: ClassVar = EventKind.BUILD_CLAIMED
    worker: str
    claimant: str = ""
    ledger_claim: tuple[int, int] | None = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRenewed:
    """The worker with this claim of (generation, attempt) is alive."""

    kind: ClassVar = EventKind.LEASE_RENEWED
    worker: str
    generation: int
    attempt: int
    claimant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCommitted:
    """The ledger holds a commit of this result, so the result is published.

    Attributes:
        result: The committed result.
        read_from_ledger: Whether the reporter read the commit from the ledger instead of committing. The inputs of such
            a commit are unknown: the store may have lost the record and reused the fencing token.
        claimant: The claim of the committing worker; empty for a commit found in the ledger.
        changes: Difference from the publication before; None for a first publication and where not known.
    """

    kind: ClassVar = EventKind.BUILD_COMMITTED
    result: BuildResult
    read_from_ledger: bool = False
    claimant: str = ""
    changes: Changes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFailed:
    """The attempt of this claim ended without a commit."""

    kind: ClassVar = EventKind.BUILD_FAILED
    generation: int
    attempt: int
    failure: FailureKind
    message: str
    claimant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequested:
    """A person requests another build of the analysis date.

    Attributes:
        actor: The person.
        reason: The person's words.
        mode: Data that the new generation may use.
        take_over: Also during a build: the running attempt is fenced off, and the generation of the attempt ends.
        request_id: Unique to this request, for the row in the audit.
        as_of: Instant (UTC): the build reads upstream rows with `processed_at` up to the instant; None for no limit.
    """

    kind: ClassVar = EventKind.REPLAY_REQUESTED
    actor: str
    reason: str
    mode: BuildMode = BuildMode.NORMAL
    take_over: bool = False
    request_id: str = ""
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """A person requests the end of the present generation.

    Attributes:
        actor: The person.
        reason: The person's words.
        request_id: Unique to this request, for the row in the audit.
    """

    kind: ClassVar = EventKind.CANCEL_REQUESTED
    actor: str
    reason: str
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRetracted:
    """A person retracts a run of a processor.

    Attributes:
        processor: The processor of the run.
        identity: The report of the run, as in `Completion.identity`.
        actor: The person.
        reason: The person's words.
        rebuild: Whether an ended analysis date is built again at once, without the rows of the run.
        request_id: Unique to this request, for the row in the audit.
        completed_at: End of the run, UTC; only together with `taken_back_at`, otherwise read from the record.
        taken_back_at: Instant of a retraction read from the audit after the store lost the record, UTC. Such a
            retraction also holds for a run without a report in the record. None for a new retraction.
    """

    kind: ClassVar = EventKind.COMPLETION_RETRACTED
    processor: str
    identity: str
    actor: str
    reason: str
    rebuild: bool = False
    request_id: str = ""
    completed_at: datetime | None = None
    taken_back_at: datetime | None = None


InterventionEvent: TypeAlias = ReplayRequested | CancelRequested | CompletionRetracted
Event: TypeAlias = (
    DateOpened
    | CompletionReceived
    | TimerFired
    | BuildClaimed
    | LeaseRenewed
    | BuildCommitted
    | BuildFailed
    | InterventionEvent
)
