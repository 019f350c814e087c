"""What can happen to one analysis date, in the past tense. Each event is a frozen value about one date."""

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
    """The calendar expects this date."""

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
        probe: Rows in each processor's table for the date; None when nobody has looked into the warehouse yet. A
            deadline, and a degraded date whose build lacked a table, need them.
        looked_at: When that look into the warehouse began, UTC; None for the instant of the decision.
        closed_generation: The generation that the ledger was closed to, after which it held no commit of it; 0 for
            none. The end of a generation needs it.
    """

    kind: ClassVar = EventKind.TIMER_FIRED
    probe: Mapping[str, int] | None = None
    looked_at: datetime | None = None
    closed_generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildClaimed:
    """A worker wants to build the date.

    Attributes:
        worker: Who.
        claimant: Unique to this claim; lease, ledger and reports bear it.
        ledger_claim: The newest (generation, attempt) that the warehouse's ledger has seen claimed, (0, 0) for none.
            Every commit was claimed before. A record that was lost counts from 1 again, and somebody may have built by
            hand: the claim goes above that, so that no generation is ever committed twice. None where the ledger could
            not be read.
    """

    kind: ClassVar = EventKind.BUILD_CLAIMED
    worker: str
    claimant: str = ""
    ledger_claim: tuple[int, int] | None = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRenewed:
    """The worker that holds this claim of (generation, attempt) is alive."""

    kind: ClassVar = EventKind.LEASE_RENEWED
    worker: str
    generation: int
    attempt: int
    claimant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCommitted:
    """The warehouse's ledger holds a commit of this result: it is published, whoever reports it.

    Attributes:
        result: What was committed.
        found: Whether the reporter found it in the ledger, and did not just commit it itself. What such a build stood
            on is not known: after a loss of the record, even the very same token may be its former life's.
        claimant: The claim under which the reporter committed; empty where the commit was found.
        changes: What the commit changed; None for a first publication, and where the reporter does not know.
    """

    kind: ClassVar = EventKind.BUILD_COMMITTED
    result: BuildResult
    found: bool = False
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
    """A person wants the date built again.

    Attributes:
        actor: Who.
        reason: Why, in their words.
        mode: Which data the new generation may use.
        take_over: Also when a build is running: the running one is fenced off and its generation ends.
        request_id: Unique to this request, for its row in the audit.
    """

    kind: ClassVar = EventKind.REPLAY_REQUESTED
    actor: str
    reason: str
    mode: BuildMode = BuildMode.NORMAL
    take_over: bool = False
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """A person wants the present generation to stop.

    Attributes:
        actor: Who.
        reason: Why, in their words.
        request_id: Unique to this request, for its row in the audit.
    """

    kind: ClassVar = EventKind.CANCEL_REQUESTED
    actor: str
    reason: str
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRetracted:
    """A person takes back what a run of a processor announced.

    Attributes:
        processor: Whose run it was.
        identity: Which report, as in `Completion.identity`.
        actor: Who.
        reason: Why, in their words.
        rebuild: Have a date that has ended built again at once, without that run's rows.
        request_id: Unique to this request, for its row in the audit.
        completed_at: When the run had completed, UTC; only together with `taken_back_at`, else the record knows it.
        taken_back_at: When it was taken back, UTC, where the audit holds this retraction and the record lost it: then
            it holds for a run that has not been reported (again) yet, too. None for a new one.
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
