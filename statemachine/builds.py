"""What a worker's claim, and the end of its build, do to a date."""

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from statemachine.decision import Decision, PublishOutcome, changed, fail, give_up, next_generation, start, unchanged
from statemachine.events import BuildClaimed, BuildCommitted, BuildFailed, EventKind, LeaseRenewed
from statemachine.evidence import (
    first_own_attempt,
    free_token,
    holds_lease,
    is_asked_for,
    is_own_commit,
    next_look,
    published_fields,
    rerun_waits,
    rests_on_retracted,
    upgrade_waits,
)
from statemachine.model import (
    BuildResult,
    DateRecord,
    FailedBecause,
    Failure,
    FailureKind,
    Lease,
    OnRerun,
    Policy,
    State,
    Trigger,
)
from statemachine.reasons import Reason


def claimed(record: DateRecord, event: BuildClaimed, now: datetime, policy: Policy) -> Decision:
    """Give the date to a worker, under a token that nobody holds."""
    kind = EventKind.BUILD_CLAIMED
    if record.state is not State.READY:
        return unchanged(record, kind, Reason.NOT_READY)
    if record.wake_at is not None and now < record.wake_at:
        return unchanged(record, kind, Reason.TOO_EARLY)
    if record.attempt >= policy.attempts_max:
        # The bound was lowered while the date waited for its next attempt.
        message = f"{record.attempt} attempts were made, {policy.attempts_max} are allowed"
        failure = Failure(because=FailureKind.UNAVAILABLE, message=message, at=now)
        return give_up(record, kind, Reason.GIVING_UP, failure, event.worker)
    until = now + policy.lease
    generation, attempt = token = free_token(record, event)
    return changed(
        record,
        kind,
        Reason.CLAIMED,
        generation=generation,
        attempt=attempt,
        own_from=first_own_attempt(record, event, token),
        lease=Lease(owner=event.worker, claimant=event.claimant, until_at=until, claimed_at=now),
        wake_at=until,
        relied_on=record.counted,
        claimed_runs=record.reported_runs,
        failure=None,
    )


def renewed(record: DateRecord, event: LeaseRenewed, now: datetime, policy: Policy) -> Decision:
    """Let the holder of the lease keep it."""
    kind = EventKind.LEASE_RENEWED
    holder = record.lease.owner if record.lease is not None else None
    if record.lease is None or record.giving_up or holder != event.worker or not holds_lease(record, event):
        return unchanged(record, kind, Reason.STALE)
    until = now + policy.lease
    return changed(record, kind, Reason.LEASE_RENEWED, lease=replace(record.lease, until_at=until), wake_at=until)


def committed(record: DateRecord, event: BuildCommitted, now: datetime, policy: Policy) -> Decision:
    """Follow the ledger: what it holds is published, whoever reports it and whatever this record believed."""
    kind, result = EventKind.BUILD_COMMITTED, event.result
    if result.generation < record.generation:
        unfinished = record.state not in {State.DONE, State.DEGRADED}
        if unfinished and result.generation > record.published_generation:
            return _committed_by_older(record, result, now)
        return unchanged(record, kind, Reason.STALE)
    if result.generation == record.generation and record.state in {State.DONE, State.DEGRADED}:
        return unchanged(record, kind, Reason.STALE)
    if is_asked_for(record) and not is_own_commit(record, event):
        return _overtaken(record, result, now)
    return _published(record, event, now, policy)


def _published(record: DateRecord, event: BuildCommitted, now: datetime, policy: Policy) -> Decision:
    """Publish the commit as the present generation's, and start what was asked for while it was built."""
    kind, result = EventKind.BUILD_COMMITTED, event.result
    relied_on = record.relied_on
    foreign = event.found or (result.generation, result.attempt) != (record.generation, record.attempt)
    if foreign:
        # An earlier attempt's, or from before a loss: the tables that had rows are what that build stood on.
        relied_on = frozenset(name for name, rows in result.dependency_rows.items() if rows > 0)
    fields = published_fields(record, result) | {"relied_on": relied_on}
    before = replace(record, state=result.state or State.DEGRADED, **fields)
    outcome = PublishOutcome(record=before, supersedes=record.published_generation or None, changes=event.changes)
    if rests_on_retracted(record, result):
        fields |= next_generation(before, Trigger.RETRACTION, now)
        return changed(record, kind, Reason.COMMITTED_REBUILD_FOLLOWS, outcome, start(record), **fields)
    if policy.rerun is OnRerun.REBUILD and rerun_waits(record):
        fields |= next_generation(before, Trigger.RERUN, now)
        return changed(record, kind, Reason.COMMITTED_RERUN_FOLLOWS, outcome, start(record), **fields)
    if result.state is State.DONE:
        return changed(record, kind, Reason.COMMITTED_DONE, outcome, wake_at=None, **fields)
    if now >= record.upgrade_cutoff_at:
        return changed(record, kind, Reason.COMMITTED_DEGRADED, outcome, wake_at=None, **fields)
    if upgrade_waits(before):
        fields |= next_generation(before, Trigger.UPGRADE, now)
        return changed(record, kind, Reason.COMMITTED_UPGRADE_FOLLOWS, outcome, start(record), **fields)
    # A record that follows somebody else's commit may have forgotten what arrived since: the tables are looked at.
    wake_at = now if foreign else next_look(before, now, policy)
    return changed(record, kind, Reason.COMMITTED_DEGRADED, outcome, wake_at=wake_at, **fields)


def _outcome_of(record: DateRecord, result: BuildResult) -> PublishOutcome:
    """Return the outcome message of a commit that is not the present generation's."""
    told = replace(
        record, state=result.state or State.DEGRADED, generation=result.generation, result=result, lease=None
    )
    return PublishOutcome(record=told, supersedes=record.published_generation or None)


def _overtaken(record: DateRecord, result: BuildResult, now: datetime) -> Decision:
    """Publish a commit that no attempt of the present generation made, and raise that generation above the commit.

    The ledger committed this number, or a higher one, before the generation was asked for, or beside it: the commit
    answers nothing that was asked for. ADR 0027.
    """
    kind, outcome = EventKind.BUILD_COMMITTED, _outcome_of(record, result)
    raised = {"generation": result.generation + 1, "own_from": 0, "wake_at": now, "result": result}
    if record.giving_up:
        # The generation still ends as it was going to: the sweep closes the ledger to its new number first.
        return changed(record, kind, Reason.COMMITTED_BY_OLDER_GENERATION, outcome, **raised)
    raised |= {"attempt": 0, "lease": None, "failure": None}
    return changed(record, kind, Reason.COMMITTED_REPLAY_FOLLOWS, outcome, start(record), **raised)


def _committed_by_older(record: DateRecord, result: BuildResult, now: datetime) -> Decision:
    """Tell consumers of what they read until the present generation is published."""
    kind, outcome = EventKind.BUILD_COMMITTED, _outcome_of(record, result)
    if record.state is State.WAITING:
        # It waits again because a run of this build was taken back; now that it is out, waiting would leave it there.
        fields = next_generation(record, Trigger.RETRACTION, now)
        return changed(record, kind, Reason.COMMITTED_REBUILD_FOLLOWS, outcome, start(record), result=result, **fields)
    # A failed date that turns out to be published is not built again at its deadline.
    wake_at = None if record.state is State.FAILED else record.wake_at
    return changed(record, kind, Reason.COMMITTED_BY_OLDER_GENERATION, outcome, result=result, wake_at=wake_at)


def build_failed(record: DateRecord, event: BuildFailed, now: datetime, policy: Policy) -> Decision:
    """Try again, give up, or fail, by what went wrong."""
    kind = EventKind.BUILD_FAILED
    if record.giving_up or not holds_lease(record, event):
        return unchanged(record, kind, Reason.STALE)
    match event.failure:
        case FailureKind.UNAVAILABLE if record.attempt < policy.attempts_max:
            return changed(
                record,
                kind,
                Reason.RETRY_SCHEDULED,
                lease=None,
                wake_at=now + policy.retry_delay,
                failure=Failure(because=event.failure, message=event.message, at=now),
            )
        case FailureKind.UNAVAILABLE | FailureKind.FATAL:
            failure = Failure(because=event.failure, message=event.message, at=now)
            return give_up(record, kind, Reason.GIVING_UP, failure, "nobody")
        case FailureKind.GATE_REFUSED:
            reason, because = Reason.GATE_REFUSED, FailedBecause.GATE_REFUSED
        case FailureKind.NO_DATA:
            reason, because = Reason.NO_DATA, FailedBecause.NO_DATA
        case _:
            assert_never(event.failure)
    return fail(record, kind, reason, because, event.message, now, policy)
