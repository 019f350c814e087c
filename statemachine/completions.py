"""What a processor's report does to a date, in each of its states."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

from statemachine.decision import Decision, changed, next_generation, start, unchanged
from statemachine.events import EventKind
from statemachine.evidence import missing_from_result
from statemachine.model import (
    Completion,
    CompletionStatus,
    DateRecord,
    FailedBecause,
    OnRerun,
    OnUpstreamFailure,
    Policy,
    State,
    Trigger,
)
from statemachine.reasons import Reason


def completion_received(record: DateRecord, arrived: Completion, now: datetime, policy: Policy) -> Decision:
    """Keep the report if it outranks what is known, and say what follows from it."""
    kind = EventKind.COMPLETION_RECEIVED
    no_news = _no_news(record, arrived)
    if no_news is not None:
        return unchanged(record, kind, no_news)
    kept = MappingProxyType({**record.completions, arrived.processor: arrived})
    after = replace(record, completions=kept)
    if arrived.status is CompletionStatus.FAILED and record.state is not State.WAITING:
        return changed(record, kind, Reason.FAILURE_RECORDED, completions=kept)
    match record.state:
        case State.WAITING:
            return _completion_while_waiting(record, after, arrived, now, policy)
        case State.READY | State.RUNNING:
            return changed(record, kind, Reason.RECORDED, completions=kept)
        case State.DONE:
            return _completion_after_done(record, after, arrived, now, policy)
        case State.DEGRADED:
            return _completion_after_degraded(record, after, arrived, now, policy)
        case State.FAILED:
            return _completion_after_failed(record, after, now, policy)
        case _:
            assert_never(record.state)


def _no_news(record: DateRecord, arrived: Completion) -> Reason | None:
    """Say why the report changes nothing; None where it does."""
    if record.withdrawn(arrived):
        return Reason.RUN_RETRACTED
    known = record.completions.get(arrived.processor)
    if known is None:
        return None
    if (known.identity, known.status) == (arrived.identity, arrived.status):
        return Reason.DUPLICATE
    return Reason.OUTDATED if known.precedence >= arrived.precedence else None


def _completion_while_waiting(
    record: DateRecord, after: DateRecord, arrived: Completion, now: datetime, policy: Policy
) -> Decision:
    kind, kept = EventKind.COMPLETION_RECEIVED, after.completions
    if not policy.missing(after):
        fields = next_generation(record, Trigger.JOIN, now)
        return changed(record, kind, Reason.JOIN_COMPLETE, start(record), completions=kept, **fields)
    all_reported = all(name in kept for name in policy.processors)
    if all_reported and policy.on_upstream_failure is OnUpstreamFailure.FALLBACK_NOW:
        fields = next_generation(record, Trigger.UPSTREAM_FAILED, now)
        return changed(record, kind, Reason.UPSTREAM_FAILED, start(record), completions=kept, **fields)
    failed = arrived.status is CompletionStatus.FAILED
    reason = Reason.FAILURE_RECORDED if failed else Reason.RECORDED
    return changed(record, kind, reason, completions=kept, wake_at=record.deadline_at)


def _completion_after_done(
    record: DateRecord, after: DateRecord, arrived: Completion, now: datetime, policy: Policy
) -> Decision:
    known = record.completions.get(arrived.processor)
    if arrived.processor in record.ignored:
        # What is published rests on a run that was taken back, or does without: this is the one it waits for.
        return _upgrade(record, after.completions, now)
    if known is None or known.status is CompletionStatus.FOUND:
        # The build had found this table filled; the event only confirms it.
        return changed(record, EventKind.COMPLETION_RECEIVED, Reason.RECORDED, completions=after.completions)
    return _rerun(record, after.completions, now, policy)


def _rerun(record: DateRecord, kept: Mapping[str, Completion], now: datetime, policy: Policy) -> Decision:
    """A processor that the published build relied on ran again."""
    kind = EventKind.COMPLETION_RECEIVED
    if policy.rerun is OnRerun.HOLD:
        return changed(record, kind, Reason.RERUN_HELD, completions=kept)
    fields = next_generation(record, Trigger.RERUN, now)
    return changed(record, kind, Reason.RERUN_STARTED, start(record), completions=kept, **fields)


def _completion_after_degraded(
    record: DateRecord, after: DateRecord, arrived: Completion, now: datetime, policy: Policy
) -> Decision:
    if arrived.processor not in missing_from_result(record):
        return _completion_after_done(record, after, arrived, now, policy)
    return _upgrade(record, after.completions, now)


def _upgrade(record: DateRecord, kept: Mapping[str, Completion], now: datetime) -> Decision:
    """Build again with what was missing, while consumers can still make use of it."""
    kind = EventKind.COMPLETION_RECEIVED
    if now >= record.upgrade_cutoff_at:
        return changed(record, kind, Reason.UPGRADE_TOO_LATE, completions=kept)
    fields = next_generation(record, Trigger.UPGRADE, now)
    return changed(record, kind, Reason.UPGRADE_STARTED, start(record), completions=kept, **fields)


def _completion_after_failed(record: DateRecord, after: DateRecord, now: datetime, policy: Policy) -> Decision:
    kind, kept = EventKind.COMPLETION_RECEIVED, after.completions
    # A person's cancel stands until a person replays: data known to be bad must not publish itself. ADR 0004.
    cancelled = record.failure is not None and record.failure.because == FailedBecause.CANCELLED
    if policy.missing(after) or cancelled:
        return changed(record, kind, Reason.RECORDED, completions=kept)
    fields = next_generation(record, Trigger.RESCUE, now)
    return changed(record, kind, Reason.RESCUE_STARTED, start(record), completions=kept, **fields)
