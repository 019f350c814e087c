"""Rules of a person's requests: replay, cancel, retract a run."""

from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

from statemachine.decision import Change, Ruling, end_failed, give_up, next_generation, start
from statemachine.events import CancelRequested, CompletionRetracted, ReplayRequested
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


def replay(record: DateRecord, event: ReplayRequested, now: datetime) -> Ruling:
    """Make the analysis date ready for a generation requested by a person."""
    if event.request_id and event.request_id == record.request_id:
        return Ruling(Reason.DUPLICATE)
    if record.state is State.RUNNING and not event.take_over:
        return Ruling(Reason.REPLAY_REFUSED_RUNNING)
    change = replace(
        next_generation(record, Trigger.REPLAY, now),
        mode=event.mode,
        requested_by=event.actor,
        request_reason=event.reason,
        request_id=event.request_id,
        as_of=event.as_of,
    )
    return Ruling(Reason.REPLAY_ACCEPTED, change, start(record))


def cancel(record: DateRecord, event: CancelRequested, now: datetime, policy: Policy) -> Ruling:
    """Stop the analysis date, which stays failed until a replay. ADR 0004."""
    if record.wake_at is None or record.state is State.DEGRADED:
        return Ruling(Reason.CANCEL_REFUSED)
    message = f"by {event.actor}: {event.reason}"
    failure = Failure(because=FailedBecause.CANCELLED, message=message, at=now)
    if record.state is State.FAILED:
        # The generation has failed already; the cancel stops the build at the deadline.
        return Ruling(Reason.CANCELLED, Change(wake_at=None, failure=failure))
    if record.attempt:
        # An attempt may have published or may still publish: close the ledger first. ADR 0008.
        return give_up(record, Reason.CANCELLING, failure, event.actor)
    return end_failed(record, Reason.CANCELLED, FailedBecause.CANCELLED, message, now, policy)


def retract(record: DateRecord, event: CompletionRetracted, now: datetime, policy: Policy) -> Ruling:
    """Retract a run; the analysis date waits for another run, or is built without the table. ADR 0017."""
    if _is_known(record, event):
        return _retract_again(record, event, now)
    retraction = _retraction(record, event, now)
    if retraction is None or len(record.retractions) >= RETRACTIONS_MAX:
        return Ruling(Reason.RETRACTION_REFUSED)
    kept = {name: known for name, known in record.completions.items() if not retraction.withdraws(known)}
    change = Change(completions=MappingProxyType(kept), retractions=(*record.retractions, retraction))
    match record.state:
        case State.WAITING:
            return Ruling(Reason.RETRACTED, replace(change, wake_at=record.deadline_at))
        case State.READY:
            return _retract_while_ready(record, change, now, policy)
        case State.RUNNING:
            # The build has read the table, or will; the end of the build decides about the rows.
            return Ruling(Reason.RETRACTED, change)
        case State.DONE | State.DEGRADED | State.FAILED:
            return _rebuild(record, now, change) if event.rebuild else Ruling(Reason.RETRACTED, change)
        case _:
            assert_never(record.state)


def _is_known(record: DateRecord, event: CompletionRetracted) -> bool:
    """Return whether this request, or another request about the same run, has taken effect."""
    return any(
        (known.processor, known.identity) == (event.processor, event.identity)
        or (event.request_id and known.request_id == event.request_id)
        for known in record.retractions
    )


def _retract_again(record: DateRecord, event: CompletionRetracted, now: datetime) -> Ruling:
    """Rebuild a publication that rests on the retracted run, if the request wants a rebuild; else do not change."""
    repeated = event.request_id and any(known.request_id == event.request_id for known in record.retractions)
    published = record.result if record.state in PUBLISHED_STATES else None
    if event.rebuild and not repeated and published is not None and rests_on_retracted(record, published):
        return _rebuild(record, now, Change())
    return Ruling(Reason.DUPLICATE)


def _retraction(record: DateRecord, event: CompletionRetracted, now: datetime) -> Retraction | None:
    """Return the retraction to store; None without a run to retract."""
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
    # A run that completes from now on counts, whatever completion time the wrong run stated.
    return replace(new, completed_at=min(known.completed_at, now), token=(record.generation, record.attempt))


def _retract_while_ready(record: DateRecord, change: Change, now: datetime, policy: Policy) -> Ruling:
    """Return to waiting if only the join made the analysis date ready; keep the generations of people and deadlines."""
    after = record.with_change(change, state=record.state, version=record.version)
    match record.trigger:
        case Trigger.JOIN | Trigger.RESCUE:
            holds = not policy.holding_back(after, now)
        case Trigger.UPSTREAM_FAILED:
            holds = all(name in after.completions for name in policy.processors)
        case _:
            holds = True
    if holds:
        return Ruling(Reason.RETRACTED, change)
    if record.result is None and now < record.deadline_at:
        # An attempt of this generation may still publish: the record follows that commit and replaces it at once.
        return Ruling(Reason.WAITS_AGAIN, replace(change, trigger=None, failure=None, wake_at=record.deadline_at))
    return Ruling(Reason.FALLBACK_FOLLOWS, next_generation(record, Trigger.DEADLINE, now, change), start(record))


def _rebuild(record: DateRecord, now: datetime, change: Change) -> Ruling:
    change = next_generation(record, Trigger.RETRACTION, now, change)
    return Ruling(Reason.REBUILD_STARTED, change, start(record))
