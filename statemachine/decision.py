"""What a decision is, and the steps that several of them share. The next state is always read from the table.

What a decision wants done, in the imperative.

`PublishOutcome` is stored with the record, in the outbox, by the same commit. `StartBuild` is only a hint to the
worker that made the date ready: if it dies, the wake index tells everybody else.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, TypeAlias

from statemachine.events import EventKind
from statemachine.evidence import awaited_tables, lost_what_it_stood_on
from statemachine.model import (
    BuildMode,
    Changes,
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
class StartBuild:
    """Claim and build the date now."""

    analysis_date: date


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOutcome:
    """Tell the consumers how a generation ended.

    Attributes:
        record: The record whose result or failure is told.
        supersedes: The generation published before this one, None when this is the first.
        changes: What this one changed; None when this is the first, and where it is not known.
    """

    record: DateRecord
    supersedes: int | None
    changes: Changes | None = None


Effect: TypeAlias = StartBuild | PublishOutcome


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
    return changed(record, kind, reason, outcome, lease=None, wake_at=_still_due(record, because, now), failure=failure)


def _still_due(record: DateRecord, because: FailedBecause, now: datetime) -> datetime | None:
    """Return when a date that fails is looked at again.

    A date without a publication is still to be built at its deadline: an attempt that was claimed before the deadline
    does not stand for that build, also where the attempt ended after it. A publication without some of the tables is
    still to be upgraded, until the cutoff; where the upgrade itself failed, the same rows would let it fail again. A
    date that a person cancelled waits for a person (ADR 0004).
    """
    if because is FailedBecause.CANCELLED:
        return None
    if record.result is not None and record.trigger is Trigger.UPGRADE:
        return None
    if record.result is not None:
        look_at = max(now, record.deadline_at)
        return look_at if awaited_tables(record) and look_at < record.upgrade_cutoff_at else None
    claimed_before = record.lease is not None and record.lease.claimed_at < record.deadline_at
    return record.deadline_at if claimed_before else None
