"""What a person asks of a date: build it again, stop it, or no longer rely on a run that was wrong."""

from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, assert_never

from statemachine.decision import Decision, changed, end_failed, give_up, next_generation, start, unchanged
from statemachine.events import CancelRequested, CompletionRetracted, EventKind, ReplayRequested
from statemachine.evidence import rests_on_retracted
from statemachine.model import (
    PUBLISHED_STATES,
    RETRACTIONS_MAX,
    DateRecord,
    FailedBecause,
    Failure,
    Policy,
    Retraction,
    State,
    Trigger,
)
from statemachine.reasons import Reason

InterventionEvent = ReplayRequested | CancelRequested | CompletionRetracted


def asked(record: DateRecord, event: InterventionEvent, now: datetime, policy: Policy) -> Decision:
    """Do what a person asks, where it makes sense."""
    match event:
        case ReplayRequested():
            return _replay(record, event, now)
        case CancelRequested():
            return _cancel(record, event, now)
        case CompletionRetracted():
            return _retract(record, event, now, policy)
        case _:
            assert_never(event)


def _replay(record: DateRecord, event: ReplayRequested, now: datetime) -> Decision:
    """Make the date ready for a generation that a person asked for."""
    kind = EventKind.REPLAY_REQUESTED
    if event.request_id and event.request_id == record.request_id:
        return unchanged(record, kind, Reason.DUPLICATE)
    if record.state is State.RUNNING and not event.take_over:
        return unchanged(record, kind, Reason.REPLAY_REFUSED_RUNNING)
    fields = next_generation(record, Trigger.REPLAY, now)
    fields |= {"mode": event.mode, "requested_by": event.actor}
    fields |= {"request_reason": event.reason, "request_id": event.request_id}
    return changed(record, kind, Reason.REPLAY_ACCEPTED, start(record), **fields)


def _cancel(record: DateRecord, event: CancelRequested, now: datetime) -> Decision:
    """Stop the date; it stays failed until somebody replays it. ADR 0004."""
    kind = EventKind.CANCEL_REQUESTED
    if record.wake_at is None or record.state is State.DEGRADED:
        return unchanged(record, kind, Reason.CANCEL_REFUSED)
    message = f"by {event.actor}: {event.reason}"
    if record.state is State.FAILED:
        # Its generation was called failed already; what is stopped is the build at the deadline.
        failure = Failure(because=FailedBecause.CANCELLED, message=message, at=now)
        return changed(record, kind, Reason.CANCELLED, wake_at=None, failure=failure)
    if record.attempt:
        # What it has built may be published, or may still be: the ledger is closed to it first. ADR 0008.
        failure = Failure(because=FailedBecause.CANCELLED, message=message, at=now)
        return give_up(record, kind, Reason.CANCELLING, failure, event.actor)
    return end_failed(record, kind, Reason.CANCELLED, FailedBecause.CANCELLED, message, now)


def _retract(record: DateRecord, event: CompletionRetracted, now: datetime, policy: Policy) -> Decision:
    """Let a run no longer count; the date waits for another one, or does without. ADR 0017."""
    kind = EventKind.COMPLETION_RETRACTED
    if _is_known(record, event):
        return _retract_again(record, event, now)
    retraction = _retraction(record, event, now)
    if retraction is None or len(record.retractions) >= RETRACTIONS_MAX:
        return unchanged(record, kind, Reason.RETRACTION_REFUSED)
    kept = {name: one for name, one in record.completions.items() if not retraction.withdraws(one)}
    fields = {"completions": MappingProxyType(kept), "retractions": (*record.retractions, retraction)}
    match record.state:
        case State.WAITING:
            return changed(record, kind, Reason.RETRACTED, wake_at=record.deadline_at, **fields)
        case State.READY:
            return _retract_while_ready(record, fields, now, policy)
        case State.RUNNING:
            # The build has read the table, or is about to; what follows is decided when it ends.
            return changed(record, kind, Reason.RETRACTED, **fields)
        case State.DONE | State.DEGRADED | State.FAILED:
            return _rebuild(record, now, fields) if event.rebuild else changed(record, kind, Reason.RETRACTED, **fields)
        case _:
            assert_never(record.state)


def _is_known(record: DateRecord, event: CompletionRetracted) -> bool:
    """Whether this very request, or another one about the same run, has taken effect."""
    return any(
        (known.processor, known.identity) == (event.processor, event.identity)
        or (event.request_id and known.request_id == event.request_id)
        for known in record.retractions
    )


def _retract_again(record: DateRecord, event: CompletionRetracted, now: datetime) -> Decision:
    """Nothing is left to take back; what was built on it may still be left to replace."""
    repeated = event.request_id and any(known.request_id == event.request_id for known in record.retractions)
    published = record.result if record.state in PUBLISHED_STATES else None
    if event.rebuild and not repeated and published is not None and rests_on_retracted(record, published):
        return _rebuild(record, now, {})
    return unchanged(record, EventKind.COMPLETION_RETRACTED, Reason.DUPLICATE)


def _retraction(record: DateRecord, event: CompletionRetracted, now: datetime) -> Retraction | None:
    """Give what is to be remembered; None where there is nothing that could be taken back."""
    new = Retraction(
        processor=event.processor,
        identity=event.identity,
        completed_at=event.completed_at or now,
        actor=event.actor,
        reason=event.reason,
        at=event.taken_back_at or now,
        request_id=event.request_id,
    )
    if event.taken_back_at is not None:
        return new
    cancelled = record.failure is not None and record.failure.because == FailedBecause.CANCELLED
    known = record.completions.get(event.processor)
    if cancelled or known is None or not known.counts or known.identity != event.identity:
        return None
    # A run that completes from now on counts, whatever time the wrong one stated.
    return replace(new, completed_at=min(known.completed_at, now), token=(record.generation, record.attempt))


def _retract_while_ready(record: DateRecord, fields: dict[str, Any], now: datetime, policy: Policy) -> Decision:
    """Go back to waiting where only the join had made the date ready; what people and deadlines started goes on."""
    kind, after = EventKind.COMPLETION_RETRACTED, replace(record, **fields)
    match record.trigger:
        case Trigger.JOIN | Trigger.RESCUE:
            holds = not policy.missing(after)
        case Trigger.UPSTREAM_FAILED:
            holds = all(name in after.completions for name in policy.processors)
        case _:
            holds = True
    if holds:
        return changed(record, kind, Reason.RETRACTED, **fields)
    if record.result is None and now < record.deadline_at:
        # An attempt of this generation may still publish: its commit is followed, and replaced at once.
        fields |= {"trigger": None, "failure": None, "wake_at": record.deadline_at}
        return changed(record, kind, Reason.WAITS_AGAIN, **fields)
    fields |= next_generation(record, Trigger.DEADLINE, now)
    return changed(record, kind, Reason.FALLBACK_FOLLOWS, start(record), **fields)


def _rebuild(record: DateRecord, now: datetime, fields: dict[str, Any]) -> Decision:
    fields |= next_generation(record, Trigger.RETRACTION, now)
    return changed(record, EventKind.COMPLETION_RETRACTED, Reason.REBUILD_STARTED, start(record), **fields)
