"""What a person asks of a date: build it again, or stop it."""

from datetime import datetime

from statemachine.decision import Decision, changed, end_failed, give_up, next_generation, start, unchanged
from statemachine.events import CancelRequested, EventKind, ReplayRequested
from statemachine.model import DateRecord, FailedBecause, Failure, State, Trigger
from statemachine.reasons import Reason


def replay(record: DateRecord, event: ReplayRequested, now: datetime) -> Decision:
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


def cancel(record: DateRecord, event: CancelRequested, now: datetime) -> Decision:
    """Stop the date; it stays failed until somebody replays it. ADR 0004."""
    kind = EventKind.CANCEL_REQUESTED
    if record.state in {State.DONE, State.DEGRADED, State.FAILED}:
        return unchanged(record, kind, Reason.CANCEL_REFUSED)
    message = f"by {event.actor}: {event.reason}"
    if record.attempt:
        # What it has built may be published, or may still be: the ledger is closed to it first. ADR 0008.
        failure = Failure(because=FailedBecause.CANCELLED, message=message, at=now)
        return give_up(record, kind, Reason.CANCELLING, failure, event.actor)
    return end_failed(record, kind, Reason.CANCELLED, FailedBecause.CANCELLED, message, now)
