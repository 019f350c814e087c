"""Rules of a worker's events: claim, lease, commit and failure of a build."""

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from statemachine.decision import Change, PublishOutcome, Ruling, fail, give_up, next_generation, start
from statemachine.events import BuildClaimed, BuildCommitted, BuildFailed, LeaseRenewed
from statemachine.evidence import (
    first_own_attempt,
    free_token,
    holds_lease,
    is_asked_for,
    is_own_commit,
    mode_of,
    next_look,
    rerun_waits,
    rests_on_retracted,
    upgrade_waits,
)
from statemachine.model import (
    NO_RUNS,
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


def claimed(record: DateRecord, event: BuildClaimed, now: datetime, policy: Policy) -> Ruling:
    """Claim a ready analysis date under a fencing token above every used token."""
    if record.state is not State.READY:
        return Ruling(Reason.NOT_READY)
    if record.wake_at is not None and now < record.wake_at:
        return Ruling(Reason.TOO_EARLY)
    if record.attempt >= policy.attempts_max:
        # The limit was lowered while the analysis date waited for the next attempt.
        message = f"{record.attempt} attempts were made, {policy.attempts_max} are allowed"
        failure = Failure(because=FailureKind.UNAVAILABLE, message=message, at=now)
        return give_up(record, Reason.GIVING_UP, failure, event.worker)
    until = now + policy.lease
    generation, attempt = token = free_token(record, event)
    change = Change(
        generation=generation,
        attempt=attempt,
        own_from=first_own_attempt(record, event, token),
        lease=Lease(owner=event.worker, claimant=event.claimant, until_at=until, claimed_at=now),
        wake_at=until,
        relied_on=record.counted,
        claimed_runs=record.reported_runs,
        failure=None,
    )
    return Ruling(Reason.CLAIMED, change)


def renewed(record: DateRecord, event: LeaseRenewed, now: datetime, policy: Policy) -> Ruling:
    """Extend the lease for the claim that holds the lease."""
    holder = record.lease.owner if record.lease is not None else None
    if record.lease is None or record.giving_up or holder != event.worker or not holds_lease(record, event):
        return Ruling(Reason.STALE)
    until = now + policy.lease
    return Ruling(Reason.LEASE_RENEWED, Change(lease=replace(record.lease, until_at=until), wake_at=until))


def committed(record: DateRecord, event: BuildCommitted, now: datetime, policy: Policy) -> Ruling:
    """Follow the ledger: a commit in the ledger is published, whatever the record says."""
    result = event.result
    if result.generation < record.generation:
        unfinished = record.state not in {State.DONE, State.DEGRADED}
        if unfinished and result.generation > record.published_generation:
            return _committed_by_older(record, result, now)
        return Ruling(Reason.STALE)
    if result.generation == record.generation and record.state in {State.DONE, State.DEGRADED}:
        return Ruling(Reason.STALE)
    if is_asked_for(record) and not is_own_commit(record, event):
        return _overtaken(record, result, now)
    return _published(record, event, now, policy)


def _published(record: DateRecord, event: BuildCommitted, now: datetime, policy: Policy) -> Ruling:
    """Publish the commit of the present generation, and start the generation requested during the build."""
    result = event.result
    foreign = event.read_from_ledger or (result.generation, result.attempt) != (record.generation, record.attempt)
    change = _publication(record, result)
    if foreign:
        # The commit belongs to an earlier attempt or to a lost record. Processors with rows in their tables count as
        # the inputs of the build; the runs behind the rows are unknown.
        relied_on = frozenset(name for name, rows in result.dependency_rows.items() if rows > 0)
        change = replace(change, relied_on=relied_on, claimed_runs=NO_RUNS)
    before = record.with_change(change, state=result.state or State.DEGRADED, version=record.version)
    outcome = PublishOutcome(record=before, supersedes=record.published_generation or None, changes=event.changes)
    if rests_on_retracted(record, result):
        follows, reason = Trigger.RETRACTION, Reason.COMMITTED_REBUILD_FOLLOWS
    elif policy.rerun is OnRerun.REBUILD and rerun_waits(record, result, policy):
        follows, reason = Trigger.RERUN, Reason.COMMITTED_RERUN_FOLLOWS
    elif result.state is State.DONE:
        return Ruling(Reason.COMMITTED_DONE, replace(change, wake_at=None), (outcome,))
    elif now >= record.upgrade_cutoff_at:
        return Ruling(Reason.COMMITTED_DEGRADED, replace(change, wake_at=None), (outcome,))
    elif upgrade_waits(before, policy):
        follows, reason = Trigger.UPGRADE, Reason.COMMITTED_UPGRADE_FOLLOWS
    else:
        # A record that follows a foreign commit may have lost arrivals since that commit: probe the tables at once.
        wake_at = now if foreign else next_look(before, now, policy)
        return Ruling(Reason.COMMITTED_DEGRADED, replace(change, wake_at=wake_at), (outcome,))
    return Ruling(reason, next_generation(before, follows, now, change), (outcome, *start(record)))


def _publication(record: DateRecord, result: BuildResult) -> Change:
    """Return the change of a record whose analysis date has *result* in the ledger."""
    # A later attempt may report the commit of an earlier attempt whose worker died.
    attempt = max(result.attempt, record.attempt if result.generation == record.generation else 0)
    return Change(
        generation=result.generation,
        attempt=attempt,
        as_of=record.as_of if result.generation == record.generation else None,
        result=replace(result, mode=mode_of(record, result)),
        lease=None,
        failure=None,
    )


def _outcome_of(record: DateRecord, result: BuildResult) -> PublishOutcome:
    """Return the outcome message of a commit of another generation."""
    published = replace(
        record, state=result.state or State.DEGRADED, generation=result.generation, result=result, lease=None
    )
    return PublishOutcome(record=published, supersedes=record.published_generation or None)


def _overtaken(record: DateRecord, result: BuildResult, now: datetime) -> Ruling:
    """Publish a commit of no attempt of the present generation, and raise the present generation above the commit.

    The ledger committed this number, or a higher number, before the request for the generation or beside the request:
    the commit does not answer the request. ADR 0027.
    """
    outcome = _outcome_of(record, result)
    raised = Change(generation=result.generation + 1, own_from=0, wake_at=now, result=result)
    if record.giving_up:
        # The generation still ends as failed: the sweep closes the ledger to the new number first.
        return Ruling(Reason.COMMITTED_BY_OLDER_GENERATION, raised, (outcome,))
    raised = replace(raised, attempt=0, lease=None, failure=None)
    return Ruling(Reason.COMMITTED_REPLAY_FOLLOWS, raised, (outcome, *start(record)))


def _committed_by_older(record: DateRecord, result: BuildResult, now: datetime) -> Ruling:
    """Publish the commit of an older generation, which consumers read until the present generation is published."""
    outcome = _outcome_of(record, result)
    if record.state is State.WAITING:
        # The analysis date waits because a run of this build was retracted; the build is published now, so waiting
        # would leave the retracted run published.
        change = next_generation(record, Trigger.RETRACTION, now, Change(result=result))
        return Ruling(Reason.COMMITTED_REBUILD_FOLLOWS, change, (outcome, *start(record)))
    # A failed analysis date with a publication is not built again at the deadline.
    wake_at = None if record.state is State.FAILED else record.wake_at
    return Ruling(Reason.COMMITTED_BY_OLDER_GENERATION, Change(result=result, wake_at=wake_at), (outcome,))


def build_failed(record: DateRecord, event: BuildFailed, now: datetime, policy: Policy) -> Ruling:
    """Schedule another attempt, give up, or fail, by the kind of the failure."""
    if record.giving_up or not holds_lease(record, event):
        return Ruling(Reason.STALE)
    failure = Failure(because=event.failure, message=event.message, at=now)
    match event.failure:
        case FailureKind.UNAVAILABLE if record.attempt < policy.attempts_max:
            change = Change(lease=None, wake_at=now + policy.retry_delay, failure=failure)
            return Ruling(Reason.RETRY_SCHEDULED, change)
        case FailureKind.UNAVAILABLE | FailureKind.FATAL:
            return give_up(record, Reason.GIVING_UP, failure, "nobody")
        case FailureKind.GATE_REFUSED:
            reason, because = Reason.GATE_REFUSED, FailedBecause.GATE_REFUSED
        case FailureKind.NO_DATA:
            reason, because = Reason.NO_DATA, FailedBecause.NO_DATA
        case FailureKind.NO_ROSTER:
            reason, because = Reason.NO_ROSTER, FailedBecause.NO_ROSTER
        case _:
            assert_never(event.failure)
    return fail(record, reason, because, event.message, now, policy)
