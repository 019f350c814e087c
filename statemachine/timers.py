"""What an instant does to a date once it has come: its opening, its deadline, the end of a lease or of the upgrades."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

from statemachine.decision import Decision, changed, end_failed, fail, next_generation, start, unchanged
from statemachine.events import EventKind, TimerFired
from statemachine.evidence import found
from statemachine.model import DateRecord, FailedBecause, Failure, FailureKind, Policy, State, Trigger
from statemachine.reasons import Reason


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
        case State.WAITING:
            return _deadline(record, event.probe, now, policy)
        case State.READY:
            return unchanged(record, kind, Reason.BUILD_DUE, start(record))
        case State.RUNNING:
            return _lease_expired(record, event.closed_generation, now, policy)
        case State.DEGRADED:
            return _degraded_is_due(record, event.probe, now)
        case State.DONE | State.FAILED:
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


def _degraded_is_due(record: DateRecord, probe: Mapping[str, int] | None, now: datetime) -> Decision:
    """The upgrade window ends; or, before that, the record was rebuilt and does not know what arrived late."""
    kind = EventKind.TIMER_FIRED
    if now >= record.upgrade_cutoff_at:
        return changed(record, kind, Reason.UPGRADE_WINDOW_CLOSED, wake_at=None)
    if probe is None:
        return unchanged(record, kind, Reason.NEEDS_PROBE)
    rows = record.result.dependency_rows if record.result is not None else {}
    late = found(record, (name for name, count in rows.items() if count == 0), probe, now)
    if not late:
        return changed(record, kind, Reason.STILL_MISSING, wake_at=record.upgrade_cutoff_at)
    kept = MappingProxyType({**record.completions, **late})
    fields = next_generation(record, Trigger.UPGRADE, now)
    return changed(record, kind, Reason.UPGRADE_STARTED, start(record), completions=kept, **fields)


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
