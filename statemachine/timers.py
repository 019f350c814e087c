"""Rules of due instants: opening, deadline, end of a lease, end of the upgrades."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from statemachine.decision import Change, Ruling, end_failed, fail, next_generation, start
from statemachine.events import TimerFired
from statemachine.evidence import awaited_tables, next_look, with_found
from statemachine.model import DateRecord, FailedBecause, Failure, FailureKind, Policy, State, Trigger
from statemachine.reasons import Reason

# A due analysis date waits this long for the probe, and is decided without a probe afterwards.
PROBE_PATIENCE = timedelta(seconds=15)


def opened(record: DateRecord) -> Ruling:
    """Open the analysis date, so that the deadline becomes due."""
    if record.version:
        return Ruling(Reason.ALREADY_OPEN)
    return Ruling(Reason.OPENED, Change(wake_at=record.deadline_at))


def timer_fired(record: DateRecord, event: TimerFired, now: datetime, policy: Policy) -> Ruling:
    """Decide the due step of the record's state."""
    if record.wake_at is None:
        return Ruling(Reason.NOTHING_DUE)
    if now < record.wake_at:
        return Ruling(Reason.TOO_EARLY)
    match record.state:
        case State.FAILED if record.result is not None:
            return _degraded_is_due(record, event, now, policy)
        case State.WAITING | State.FAILED:
            return _deadline(record, event.probe, now, policy)
        case State.READY:
            return Ruling(Reason.BUILD_DUE, effects=start(record))
        case State.RUNNING:
            return _lease_expired(record, event.closed_generation, now, policy)
        case State.DEGRADED:
            return _degraded_is_due(record, event, now, policy)
        case State.DONE:
            return Ruling(Reason.NOTHING_DUE)
        case _:
            assert_never(record.state)


def _deadline(record: DateRecord, probe: Mapping[str, int] | None, now: datetime, policy: Policy) -> Ruling:
    if probe is None:
        return Ruling(Reason.NEEDS_PROBE)
    kept = with_found(record, policy.missing(record), probe, now)
    complete = not policy.missing(replace(record, completions=kept))
    trigger, reason = (Trigger.JOIN, Reason.FOUND_ALL) if complete else (Trigger.DEADLINE, Reason.DEADLINE_PASSED)
    return Ruling(reason, next_generation(record, trigger, now, Change(completions=kept)), start(record))


def _degraded_is_due(record: DateRecord, event: TimerFired, now: datetime, policy: Policy) -> Ruling:
    """Upgrade if the probe shows rows missing from the published build; close the upgrade window at the cutoff."""
    awaited, looked_at = awaited_tables(record, policy), event.looked_at or now
    # The probe at the cutoff may take a moment. A probe that ends after the patience is too late, as an event would be.
    if awaited and now < record.upgrade_cutoff_at + PROBE_PATIENCE:
        if event.probe is None:
            return Ruling(Reason.NEEDS_PROBE)
        if any(event.probe.get(name, 0) > 0 for name in awaited):
            change = Change(completions=with_found(record, awaited, event.probe, now))
            return Ruling(Reason.UPGRADE_STARTED, next_generation(record, Trigger.UPGRADE, now, change), start(record))
        if looked_at < record.upgrade_cutoff_at:
            # A probe that hung misses rows that arrived since the start of the probe, so the next probe counts from
            # that start.
            return Ruling(Reason.STILL_MISSING, Change(wake_at=next_look(record, looked_at, policy)))
    if now >= record.upgrade_cutoff_at:
        return Ruling(Reason.UPGRADE_WINDOW_CLOSED, Change(wake_at=None))
    return Ruling(Reason.STILL_MISSING, Change(wake_at=next_look(record, now, policy)))


def _lease_expired(record: DateRecord, closed_generation: int, now: datetime, policy: Policy) -> Ruling:
    """Start the next attempt, or end the generation after the last attempt.

    The worker died, gave up, or cannot reach the store. The ledger refuses a living worker with the expired lease.
    """
    owner = record.lease.owner if record.lease is not None else "unknown"
    silence = Failure(because="lease_expired", message=f"worker {owner} stopped renewing its lease", at=now)
    failure = record.failure or silence
    if not record.giving_up and record.attempt < policy.attempts_max:
        return Ruling(Reason.LEASE_EXPIRED, Change(lease=None, wake_at=now, failure=failure), start(record))
    if closed_generation != record.generation:
        # An attempt may have published or may still publish. After the last attempt no later claim reads the ledger,
        # so read the ledger before failing the generation.
        return Ruling(Reason.NEEDS_PROBE)
    if failure.because == FailedBecause.CANCELLED:
        return end_failed(record, Reason.CANCELLED, FailedBecause.CANCELLED, failure.message, now, policy)
    if failure.because == FailureKind.FATAL:
        return fail(record, Reason.FATAL_ERROR, FailedBecause.FATAL_ERROR, failure.message, now, policy)
    return fail(record, Reason.RETRIES_EXHAUSTED, FailedBecause.RETRIES_EXHAUSTED, failure.message, now, policy)
