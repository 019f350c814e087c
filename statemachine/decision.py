"""What a decision is, and the steps that several of them share. The next state is always read from the table."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from statemachine.effects import Effect, PublishOutcome, StartBuild
from statemachine.events import EventKind
from statemachine.evidence import lost_what_it_stood_on
from statemachine.model import (
    BuildMode,
    DateRecord,
    FailedBecause,
    Failure,
    Lease,
    Policy,
    State,
    Trigger,
)
from statemachine.reasons import Reason
from statemachine.table import TRANSITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What an event does to a record, without having done it.

    Attributes:
        record: The next record; the very same object when nothing changes.
        reason: Why.
        effects: What to do about it.
        changed: Whether there is anything to store.
    """

    record: DateRecord
    reason: Reason
    effects: tuple[Effect, ...] = ()
    changed: bool = True


def unchanged(record: DateRecord, kind: EventKind, reason: Reason, *effects: Effect) -> Decision:
    """Leave the record as it is; the table must agree that this reason does that."""
    if TRANSITIONS[record.state][kind][reason] is not record.state:
        raise AssertionError(f"{record.state}/{kind}/{reason} is no outcome that stays")
    return Decision(record=record, reason=reason, effects=effects, changed=False)


def changed(record: DateRecord, kind: EventKind, reason: Reason, *effects: Effect, **fields: Any) -> Decision:  # noqa: ANN401 - checked by replace
    """Change fields and move to the state that the table gives for the reason."""
    state = TRANSITIONS[record.state][kind][reason]
    after = replace(record, state=state, version=record.version + 1, **fields)
    return Decision(record=after, reason=reason, effects=effects)


def next_generation(record: DateRecord, trigger: Trigger, now: datetime) -> dict[str, Any]:
    """Fields of a date made ready for a new generation."""
    return {
        "generation": record.generation + 1,
        "attempt": 0,
        "own_from": 0,
        "trigger": trigger,
        "mode": BuildMode.NORMAL,
        "wake_at": now,
        "lease": None,
        "failure": None,
        "requested_by": None,
        "request_reason": None,
        "request_id": "",
    }


def start(record: DateRecord) -> StartBuild:
    """Have the date claimed and built now."""
    return StartBuild(analysis_date=record.analysis_date)


def give_up(record: DateRecord, kind: EventKind, reason: Reason, failure: Failure, owner: str) -> Decision:
    """Let the sweep end the generation: an attempt whose reply was lost may have published, or may still do so."""
    lease = record.lease or Lease(owner=owner, until_at=failure.at, claimed_at=failure.at)
    return changed(record, kind, reason, lease=lease, wake_at=failure.at, failure=failure)


def fail(
    record: DateRecord,
    kind: EventKind,
    reason: Reason,
    because: FailedBecause,
    message: str,
    now: datetime,
    policy: Policy,
) -> Decision:
    """End the generation, unless what it was built on changed while it ran: then try again at once.

    Either a run that it relied on was taken back, and what went wrong may be that run's doing, or the completion that
    makes four came.
    """
    if lost_what_it_stood_on(record):
        fields = next_generation(record, Trigger.RETRACTION, now)
        return changed(record, kind, Reason.RESCUE_FOLLOWS, start(record), **fields)
    if record.counted - record.relied_on and not policy.missing(record):
        fields = next_generation(record, Trigger.RESCUE, now)
        return changed(record, kind, Reason.RESCUE_FOLLOWS, start(record), **fields)
    return end_failed(record, kind, reason, because, message, now)


def end_failed(
    record: DateRecord, kind: EventKind, reason: Reason, because: FailedBecause, message: str, now: datetime
) -> Decision:
    """Call the generation failed, and tell of it."""
    failure = Failure(because=because, message=message, at=now)
    told = replace(record, state=State.FAILED, failure=failure, lease=None)
    outcome = PublishOutcome(record=told, supersedes=None)
    wake_at = record.deadline_at if _deadline_is_to_come(record, because) else None
    return changed(record, kind, reason, outcome, lease=None, wake_at=wake_at, failure=failure)


def _deadline_is_to_come(record: DateRecord, because: FailedBecause) -> bool:
    """Whether a date that fails is still to be built at its deadline.

    An attempt that was claimed before the deadline does not stand for the build at the deadline, also where it ended
    after it. A date that a person cancelled waits for a person (ADR 0004). What is published stays published.
    """
    if because is FailedBecause.CANCELLED or record.result is not None:
        return False
    return record.lease is not None and record.lease.claimed_at < record.deadline_at
