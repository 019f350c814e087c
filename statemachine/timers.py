"""What an instant does to a date once it has come: its opening, its deadline, the end of a lease or of the upgrades."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import assert_never

from statemachine.decision import Decision, changed, end_failed, fail, next_generation, start, unchanged
from statemachine.events import EventKind, TimerFired
from statemachine.evidence import awaited_tables, found, next_look
from statemachine.model import DateRecord, FailedBecause, Failure, FailureKind, Policy, State, Trigger
from statemachine.reasons import Reason

# What is due waits so long for the look into the tables, then it is decided without one.
PROBE_PATIENCE = timedelta(seconds=15)


def opened(record: DateRecord) -> Decision:
    """Open the date: from now on its deadline counts."""
    kind = EventKind.DATE_OPENED
    if record.version:
        return unchanged(record, kind, Reason.ALREADY_OPEN)
    return changed(record, kind, Reason.OPENED, wake_at=record.deadline_at)


def timer_fired(record: DateRecord, event: TimerFired, now: datetime, policy: Policy) -> Decision:
    """Do what was due."""
    kind = EventKind.TIMER_FIRED
    if record.wake_at is None:
        return unchanged(record, kind, Reason.NOTHING_DUE)
    if now < record.wake_at:
        return unchanged(record, kind, Reason.TOO_EARLY)
    match record.state:
        case State.FAILED if record.result is not None:
            return _degraded_is_due(record, event, now, policy)
        case State.WAITING | State.FAILED:
            return _deadline(record, event.probe, now, policy)
        case State.READY:
            return unchanged(record, kind, Reason.BUILD_DUE, start(record))
        case State.RUNNING:
            return _lease_expired(record, event.closed_generation, now, policy)
        case State.DEGRADED:
            return _degraded_is_due(record, event, now, policy)
        case State.DONE:
            return unchanged(record, kind, Reason.NOTHING_DUE)
        case _:
            assert_never(record.state)


def _deadline(record: DateRecord, probe: Mapping[str, int] | None, now: datetime, policy: Policy) -> Decision:
    kind = EventKind.TIMER_FIRED
    if probe is None:
        return unchanged(record, kind, Reason.NEEDS_PROBE)
    kept = MappingProxyType({**record.completions, **found(record, policy.missing(record), probe, now)})
    complete = not policy.missing(replace(record, completions=kept))
    trigger, reason = (Trigger.JOIN, Reason.FOUND_ALL) if complete else (Trigger.DEADLINE, Reason.DEADLINE_PASSED)
    return changed(record, kind, reason, start(record), completions=kept, **next_generation(record, trigger, now))


def _degraded_is_due(record: DateRecord, event: TimerFired, now: datetime, policy: Policy) -> Decision:
    """Look for rows that the published build did not have; close the upgrade window at its end."""
    kind = EventKind.TIMER_FIRED
    awaited, looked_at = awaited_tables(record), event.looked_at or now
    # The look at the cutoff may take a moment; one that comes later than that is too late, as an event would be.
    if awaited and now < record.upgrade_cutoff_at + PROBE_PATIENCE:
        if event.probe is None:
            return unchanged(record, kind, Reason.NEEDS_PROBE)
        if any(event.probe.get(name, 0) > 0 for name in awaited):
            kept = MappingProxyType({**record.completions, **found(record, awaited, event.probe, now)})
            fields = next_generation(record, Trigger.UPGRADE, now)
            return changed(record, kind, Reason.UPGRADE_STARTED, start(record), completions=kept, **fields)
        if looked_at < record.upgrade_cutoff_at:
            # The answer of a look that hung says nothing of the rows that came since, so the next look counts from
            # the beginning of this one.
            return changed(record, kind, Reason.STILL_MISSING, wake_at=next_look(record, looked_at, policy))
    if now >= record.upgrade_cutoff_at:
        return changed(record, kind, Reason.UPGRADE_WINDOW_CLOSED, wake_at=None)
    return changed(record, kind, Reason.STILL_MISSING, wake_at=next_look(record, now, policy))


def _lease_expired(record: DateRecord, closed_generation: int, now: datetime, policy: Policy) -> Decision:
    """The worker died, cannot reach the store, or gave up. The ledger fences it if it is still alive."""
    owner = record.lease.owner if record.lease is not None else "unknown"
    silence = Failure(because="lease_expired", message=f"worker {owner} stopped renewing its lease", at=now)
    failure = record.failure or silence
    kind = EventKind.TIMER_FIRED
    if not record.giving_up and record.attempt < policy.attempts_max:
        return changed(record, kind, Reason.LEASE_EXPIRED, start(record), lease=None, wake_at=now, failure=failure)
    if closed_generation != record.generation:
        # An attempt may have published, or still do so. Nobody comes after the last one to find that out.
        return unchanged(record, kind, Reason.NEEDS_PROBE)
    if failure.because == FailedBecause.CANCELLED:
        return end_failed(record, kind, Reason.CANCELLED, FailedBecause.CANCELLED, failure.message, now)
    if failure.because == FailureKind.FATAL:
        return fail(record, kind, Reason.FATAL_ERROR, FailedBecause.FATAL_ERROR, failure.message, now, policy)
    return fail(record, kind, Reason.RETRIES_EXHAUSTED, FailedBecause.RETRIES_EXHAUSTED, failure.message, now, policy)
