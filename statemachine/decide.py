"""The only place where an analysis date changes.

`decide` is total and pure: every event in every state gets a decision; one that no longer matters returns the record
unchanged, with the reason. The next state is always read from `statemachine.table`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, assert_never

from statemachine.effects import Effect, PublishOutcome, StartBuild
from statemachine.events import (
    BuildClaimed,
    BuildCommitted,
    BuildFailed,
    CancelRequested,
    CompletionReceived,
    DateOpened,
    Event,
    EventKind,
    LeaseRenewed,
    ReplayRequested,
    TimerFired,
)
from statemachine.evidence import (
    found,
    free_token,
    holds_lease,
    missing_from_result,
    published_fields,
    rerun_waits,
    upgrade_waits,
)
from statemachine.model import (
    BuildMode,
    Completion,
    CompletionStatus,
    DateRecord,
    FailedBecause,
    Failure,
    FailureKind,
    Lease,
    OnRerun,
    OnUpstreamFailure,
    Policy,
    State,
    Trigger,
)
from statemachine.reasons import Reason
from statemachine.table import TRANSITIONS


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


def decide(record: DateRecord, event: Event, *, now: datetime, policy: Policy) -> Decision:
    """Say what *event* does to *record*, without doing it.

    Args:
        record: The record as last stored; version 0 for a date seen for the first time.
        event: What happened to this date.
        now: Instant of the decision, aware, UTC. The core reads no clock.
        policy: The pipeline's rules.

    Returns:
        The next record, the reason, and the effects to store with it in one commit.
    """
    match event:
        case DateOpened():
            return _opened(record)
        case CompletionReceived():
            return _completion(record, event.completion, now, policy)
        case TimerFired():
            return _timer(record, event, now, policy)
        case BuildClaimed():
            return _claimed(record, event, now, policy)
        case LeaseRenewed():
            return _renewed(record, event, now, policy)
        case BuildCommitted():
            return _committed(record, event, now, policy)
        case BuildFailed():
            return _build_failed(record, event, now, policy)
        case ReplayRequested():
            return _replay(record, event, now)
        case CancelRequested():
            return _cancel(record, event, now)
        case _:
            assert_never(event)


def _unchanged(record: DateRecord, kind: EventKind, reason: Reason, *effects: Effect) -> Decision:
    """Leave the record as it is; the table must agree that this reason does that."""
    if TRANSITIONS[record.state][kind][reason] is not record.state:
        raise AssertionError(f"{record.state}/{kind}/{reason} is no outcome that stays")
    return Decision(record=record, reason=reason, effects=effects, changed=False)


def _changed(record: DateRecord, kind: EventKind, reason: Reason, *effects: Effect, **fields: Any) -> Decision:  # noqa: ANN401 - checked by replace
    """Change fields and move to the state that the table gives for the reason."""
    state = TRANSITIONS[record.state][kind][reason]
    after = replace(record, state=state, version=record.version + 1, **fields)
    return Decision(record=after, reason=reason, effects=effects)


def _next_generation(record: DateRecord, trigger: Trigger, now: datetime) -> dict[str, Any]:
    """Fields of a date made ready for a new generation."""
    return {
        "generation": record.generation + 1,
        "attempt": 0,
        "trigger": trigger,
        "mode": BuildMode.NORMAL,
        "wake_at": now,
        "lease": None,
        "failure": None,
        "requested_by": None,
        "request_reason": None,
        "request_id": "",
    }


def _start(record: DateRecord) -> StartBuild:
    return StartBuild(analysis_date=record.analysis_date)


# --- opening ---------------------------------------------------------------------------------------------------------


def _opened(record: DateRecord) -> Decision:
    kind = EventKind.DATE_OPENED
    if record.version:
        return _unchanged(record, kind, Reason.ALREADY_OPEN)
    return _changed(record, kind, Reason.OPENED, wake_at=record.deadline_at)


# --- completions -----------------------------------------------------------------------------------------------------


def _completion(record: DateRecord, arrived: Completion, now: datetime, policy: Policy) -> Decision:
    kind = EventKind.COMPLETION_RECEIVED
    known = record.completions.get(arrived.processor)
    if known is not None:
        if (known.identity, known.status) == (arrived.identity, arrived.status):
            return _unchanged(record, kind, Reason.DUPLICATE)
        if known.precedence >= arrived.precedence:
            return _unchanged(record, kind, Reason.OUTDATED)
    kept = MappingProxyType({**record.completions, arrived.processor: arrived})
    after = replace(record, completions=kept)
    if arrived.status is CompletionStatus.FAILED and record.state is not State.WAITING:
        return _changed(record, kind, Reason.FAILURE_RECORDED, completions=kept)
    match record.state:
        case State.WAITING:
            return _completion_while_waiting(record, after, arrived, now, policy)
        case State.READY | State.RUNNING:
            return _changed(record, kind, Reason.RECORDED, completions=kept)
        case State.DONE:
            return _completion_after_done(record, after, arrived, now, policy)
        case State.DEGRADED:
            return _completion_after_degraded(record, after, arrived, now, policy)
        case State.FAILED:
            return _completion_after_failed(record, after, now, policy)
        case _:
            assert_never(record.state)


def _completion_while_waiting(
    record: DateRecord, after: DateRecord, arrived: Completion, now: datetime, policy: Policy
) -> Decision:
    kind, kept = EventKind.COMPLETION_RECEIVED, after.completions
    if not policy.missing(after):
        fields = _next_generation(record, Trigger.JOIN, now)
        return _changed(record, kind, Reason.JOIN_COMPLETE, _start(record), completions=kept, **fields)
    all_reported = all(name in kept for name in policy.processors)
    if all_reported and policy.on_upstream_failure is OnUpstreamFailure.FALLBACK_NOW:
        fields = _next_generation(record, Trigger.UPSTREAM_FAILED, now)
        return _changed(record, kind, Reason.UPSTREAM_FAILED, _start(record), completions=kept, **fields)
    failed = arrived.status is CompletionStatus.FAILED
    reason = Reason.FAILURE_RECORDED if failed else Reason.RECORDED
    return _changed(record, kind, reason, completions=kept, wake_at=record.deadline_at)


def _completion_after_done(
    record: DateRecord, after: DateRecord, arrived: Completion, now: datetime, policy: Policy
) -> Decision:
    known = record.completions.get(arrived.processor)
    if known is None or known.status is CompletionStatus.FOUND:
        # The build had found this table filled; the event only confirms it.
        return _changed(record, EventKind.COMPLETION_RECEIVED, Reason.RECORDED, completions=after.completions)
    return _rerun(record, after.completions, now, policy)


def _rerun(record: DateRecord, kept: Mapping[str, Completion], now: datetime, policy: Policy) -> Decision:
    """A processor that the published build relied on ran again."""
    kind = EventKind.COMPLETION_RECEIVED
    if policy.rerun is OnRerun.HOLD:
        return _changed(record, kind, Reason.RERUN_HELD, completions=kept)
    fields = _next_generation(record, Trigger.RERUN, now)
    return _changed(record, kind, Reason.RERUN_STARTED, _start(record), completions=kept, **fields)


def _completion_after_degraded(
    record: DateRecord, after: DateRecord, arrived: Completion, now: datetime, policy: Policy
) -> Decision:
    kind, kept = EventKind.COMPLETION_RECEIVED, after.completions
    if arrived.processor not in missing_from_result(record):
        return _completion_after_done(record, after, arrived, now, policy)
    if now >= record.upgrade_cutoff_at:
        return _changed(record, kind, Reason.UPGRADE_TOO_LATE, completions=kept)
    fields = _next_generation(record, Trigger.UPGRADE, now)
    return _changed(record, kind, Reason.UPGRADE_STARTED, _start(record), completions=kept, **fields)


def _completion_after_failed(record: DateRecord, after: DateRecord, now: datetime, policy: Policy) -> Decision:
    kind, kept = EventKind.COMPLETION_RECEIVED, after.completions
    # A person's cancel stands until a person replays: data known to be bad must not publish itself. ADR 0004.
    cancelled = record.failure is not None and record.failure.because == FailedBecause.CANCELLED
    if policy.missing(after) or cancelled:
        return _changed(record, kind, Reason.RECORDED, completions=kept)
    fields = _next_generation(record, Trigger.RESCUE, now)
    return _changed(record, kind, Reason.RESCUE_STARTED, _start(record), completions=kept, **fields)


# --- timers ----------------------------------------------------------------------------------------------------------


def _timer(record: DateRecord, event: TimerFired, now: datetime, policy: Policy) -> Decision:
    kind = EventKind.TIMER_FIRED
    if record.wake_at is None:
        return _unchanged(record, kind, Reason.NOTHING_DUE)
    if now < record.wake_at:
        return _unchanged(record, kind, Reason.TOO_EARLY)
    match record.state:
        case State.WAITING:
            return _deadline(record, event.probe, now, policy)
        case State.READY:
            return _unchanged(record, kind, Reason.BUILD_DUE, _start(record))
        case State.RUNNING:
            return _lease_expired(record, event.closed_generation, now, policy)
        case State.DEGRADED:
            return _degraded_is_due(record, event.probe, now)
        case State.DONE | State.FAILED:
            return _unchanged(record, kind, Reason.NOTHING_DUE)
        case _:
            assert_never(record.state)


def _deadline(record: DateRecord, probe: Mapping[str, int] | None, now: datetime, policy: Policy) -> Decision:
    kind = EventKind.TIMER_FIRED
    if probe is None:
        return _unchanged(record, kind, Reason.NEEDS_PROBE)
    kept = MappingProxyType({**record.completions, **found(record, policy.missing(record), probe, now)})
    complete = not policy.missing(replace(record, completions=kept))
    trigger, reason = (Trigger.JOIN, Reason.FOUND_ALL) if complete else (Trigger.DEADLINE, Reason.DEADLINE_PASSED)
    return _changed(record, kind, reason, _start(record), completions=kept, **_next_generation(record, trigger, now))


def _degraded_is_due(record: DateRecord, probe: Mapping[str, int] | None, now: datetime) -> Decision:
    """The upgrade window ends; or, before that, the record was rebuilt and does not know what arrived late."""
    kind = EventKind.TIMER_FIRED
    if now >= record.upgrade_cutoff_at:
        return _changed(record, kind, Reason.UPGRADE_WINDOW_CLOSED, wake_at=None)
    if probe is None:
        return _unchanged(record, kind, Reason.NEEDS_PROBE)
    rows = record.result.dependency_rows if record.result is not None else {}
    late = found(record, (name for name, count in rows.items() if count == 0), probe, now)
    if not late:
        return _changed(record, kind, Reason.STILL_MISSING, wake_at=record.upgrade_cutoff_at)
    kept = MappingProxyType({**record.completions, **late})
    fields = _next_generation(record, Trigger.UPGRADE, now)
    return _changed(record, kind, Reason.UPGRADE_STARTED, _start(record), completions=kept, **fields)


def _lease_expired(record: DateRecord, closed_generation: int, now: datetime, policy: Policy) -> Decision:
    """The worker died, cannot reach the store, or gave up. The ledger fences it if it is still alive."""
    owner = record.lease.owner if record.lease is not None else "unknown"
    silence = Failure(because="lease_expired", message=f"worker {owner} stopped renewing its lease", at=now)
    failure = record.failure or silence
    kind = EventKind.TIMER_FIRED
    if not record.giving_up and record.attempt < policy.attempts_max:
        return _changed(record, kind, Reason.LEASE_EXPIRED, _start(record), lease=None, wake_at=now, failure=failure)
    if closed_generation != record.generation:
        # An attempt may have published, or still do so. Nobody comes after the last one to find that out.
        return _unchanged(record, kind, Reason.NEEDS_PROBE)
    if failure.because == FailedBecause.CANCELLED:
        return _end_failed(record, kind, Reason.CANCELLED, FailedBecause.CANCELLED, failure.message, now)
    if failure.because == FailureKind.FATAL:
        return _fail(record, kind, Reason.FATAL_ERROR, FailedBecause.FATAL_ERROR, failure.message, now, policy)
    return _fail(record, kind, Reason.RETRIES_EXHAUSTED, FailedBecause.RETRIES_EXHAUSTED, failure.message, now, policy)


# --- builds ----------------------------------------------------------------------------------------------------------


def _claimed(record: DateRecord, event: BuildClaimed, now: datetime, policy: Policy) -> Decision:
    kind = EventKind.BUILD_CLAIMED
    if record.state is not State.READY:
        return _unchanged(record, kind, Reason.NOT_READY)
    if record.wake_at is not None and now < record.wake_at:
        return _unchanged(record, kind, Reason.TOO_EARLY)
    if record.attempt >= policy.attempts_max:
        # The bound was lowered while the date waited for its next attempt.
        message = f"{record.attempt} attempts were made, {policy.attempts_max} are allowed"
        failure = Failure(because=FailureKind.UNAVAILABLE, message=message, at=now)
        return _give_up(record, kind, Reason.GIVING_UP, failure, event.worker)
    until = now + policy.lease
    generation, attempt = free_token(record, event)
    return _changed(
        record,
        kind,
        Reason.CLAIMED,
        generation=generation,
        attempt=attempt,
        lease=Lease(owner=event.worker, claimant=event.claimant, until_at=until, claimed_at=now),
        wake_at=until,
        relied_on=record.counted,
        claimed_runs=record.reported_runs,
        failure=None,
    )


def _renewed(record: DateRecord, event: LeaseRenewed, now: datetime, policy: Policy) -> Decision:
    kind = EventKind.LEASE_RENEWED
    holder = record.lease.owner if record.lease is not None else None
    if record.lease is None or record.giving_up or holder != event.worker or not holds_lease(record, event):
        return _unchanged(record, kind, Reason.STALE)
    until = now + policy.lease
    return _changed(record, kind, Reason.LEASE_RENEWED, lease=replace(record.lease, until_at=until), wake_at=until)


def _committed(record: DateRecord, event: BuildCommitted, now: datetime, policy: Policy) -> Decision:
    """Follow the ledger: what it holds is published, whoever reports it and whatever this record believed."""
    kind, result = EventKind.BUILD_COMMITTED, event.result
    if result.generation < record.generation:
        unfinished = record.state not in {State.DONE, State.DEGRADED}
        if unfinished and result.generation > record.published_generation:
            # It is what consumers read until the present generation is published, so they are told of it.
            older = replace(
                record, state=result.state or State.DEGRADED, generation=result.generation, result=result, lease=None
            )
            outcome = PublishOutcome(record=older, supersedes=record.published_generation or None)
            return _changed(record, kind, Reason.COMMITTED_BY_OLDER_GENERATION, outcome, result=result)
        return _unchanged(record, kind, Reason.STALE)
    if result.generation == record.generation and record.state in {State.DONE, State.DEGRADED}:
        return _unchanged(record, kind, Reason.STALE)
    relied_on = record.relied_on
    foreign = event.found or (result.generation, result.attempt) != (record.generation, record.attempt)
    if foreign:
        # An earlier attempt's, or from before a loss: the tables that had rows are what that build stood on.
        relied_on = frozenset(name for name, rows in result.dependency_rows.items() if rows > 0)
    fields = published_fields(record, result) | {"relied_on": relied_on}
    before = replace(record, state=result.state or State.DEGRADED, **fields)
    outcome = PublishOutcome(record=before, supersedes=record.published_generation or None)
    if policy.rerun is OnRerun.REBUILD and rerun_waits(record):
        fields |= _next_generation(before, Trigger.RERUN, now)
        return _changed(record, kind, Reason.COMMITTED_RERUN_FOLLOWS, outcome, _start(record), **fields)
    if result.state is State.DONE:
        return _changed(record, kind, Reason.COMMITTED_DONE, outcome, wake_at=None, **fields)
    if now >= record.upgrade_cutoff_at:
        return _changed(record, kind, Reason.COMMITTED_DEGRADED, outcome, wake_at=None, **fields)
    if upgrade_waits(before):
        fields |= _next_generation(before, Trigger.UPGRADE, now)
        return _changed(record, kind, Reason.COMMITTED_UPGRADE_FOLLOWS, outcome, _start(record), **fields)
    # A record that follows somebody else's commit may have forgotten what arrived since: the tables are looked at.
    wake_at = now if foreign else record.upgrade_cutoff_at
    return _changed(record, kind, Reason.COMMITTED_DEGRADED, outcome, wake_at=wake_at, **fields)


def _build_failed(record: DateRecord, event: BuildFailed, now: datetime, policy: Policy) -> Decision:
    kind = EventKind.BUILD_FAILED
    if record.giving_up or not holds_lease(record, event):
        return _unchanged(record, kind, Reason.STALE)
    match event.failure:
        case FailureKind.UNAVAILABLE if record.attempt < policy.attempts_max:
            return _changed(
                record,
                kind,
                Reason.RETRY_SCHEDULED,
                lease=None,
                wake_at=now + policy.retry_delay,
                failure=Failure(because=event.failure, message=event.message, at=now),
            )
        case FailureKind.UNAVAILABLE | FailureKind.FATAL:
            failure = Failure(because=event.failure, message=event.message, at=now)
            return _give_up(record, kind, Reason.GIVING_UP, failure, "nobody")
        case FailureKind.GATE_REFUSED:
            reason, because = Reason.GATE_REFUSED, FailedBecause.GATE_REFUSED
        case FailureKind.NO_DATA:
            reason, because = Reason.NO_DATA, FailedBecause.NO_DATA
        case _:
            assert_never(event.failure)
    return _fail(record, kind, reason, because, event.message, now, policy)


def _give_up(record: DateRecord, kind: EventKind, reason: Reason, failure: Failure, owner: str) -> Decision:
    """Let the sweep end the generation: an attempt whose reply was lost may have published, or may still do so."""
    lease = record.lease or Lease(owner=owner, until_at=failure.at, claimed_at=failure.at)
    return _changed(record, kind, reason, lease=lease, wake_at=failure.at, failure=failure)


def _fail(
    record: DateRecord,
    kind: EventKind,
    reason: Reason,
    because: FailedBecause,
    message: str,
    now: datetime,
    policy: Policy,
) -> Decision:
    """End the generation, unless the completion that makes four came while it ran: then try that one at once."""
    if record.counted - record.relied_on and not policy.missing(record):
        fields = _next_generation(record, Trigger.RESCUE, now)
        return _changed(record, kind, Reason.RESCUE_FOLLOWS, _start(record), **fields)
    return _end_failed(record, kind, reason, because, message, now)


def _end_failed(
    record: DateRecord, kind: EventKind, reason: Reason, because: FailedBecause, message: str, now: datetime
) -> Decision:
    failure = Failure(because=because, message=message, at=now)
    told = replace(record, state=State.FAILED, failure=failure, lease=None)
    outcome = PublishOutcome(record=told, supersedes=None)
    return _changed(record, kind, reason, outcome, lease=None, wake_at=None, failure=failure)


# --- people ----------------------------------------------------------------------------------------------------------


def _replay(record: DateRecord, event: ReplayRequested, now: datetime) -> Decision:
    kind = EventKind.REPLAY_REQUESTED
    if event.request_id and event.request_id == record.request_id:
        return _unchanged(record, kind, Reason.DUPLICATE)
    if record.state is State.RUNNING and not event.take_over:
        return _unchanged(record, kind, Reason.REPLAY_REFUSED_RUNNING)
    fields = _next_generation(record, Trigger.REPLAY, now)
    fields |= {"mode": event.mode, "requested_by": event.actor}
    fields |= {"request_reason": event.reason, "request_id": event.request_id}
    return _changed(record, kind, Reason.REPLAY_ACCEPTED, _start(record), **fields)


def _cancel(record: DateRecord, event: CancelRequested, now: datetime) -> Decision:
    kind = EventKind.CANCEL_REQUESTED
    if record.state in {State.DONE, State.DEGRADED, State.FAILED}:
        return _unchanged(record, kind, Reason.CANCEL_REFUSED)
    message = f"by {event.actor}: {event.reason}"
    if record.attempt:
        # What it has built may be published, or may still be: the ledger is closed to it first. ADR 0008.
        failure = Failure(because=FailedBecause.CANCELLED, message=message, at=now)
        return _give_up(record, kind, Reason.CANCELLING, failure, event.actor)
    return _end_failed(record, kind, Reason.CANCELLED, FailedBecause.CANCELLED, message, now)
