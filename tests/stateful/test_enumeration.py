"""Every state, every set of arrivals, every event, before and after the due time: all is decided, all is sound.

The machine is small enough to be looked at completely. A run of the suite meets every record and every event, and of
their pairs a third, always the same; `EVERY_NIGHT=1` meets every pair, in some minutes.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import cache
from itertools import combinations, product
from random import Random
from types import MappingProxyType

import pytest

from statemachine.decide import Decision, decide
from statemachine.decision import PublishOutcome, StartBuild
from statemachine.events import (
    BuildClaimed,
    BuildCommitted,
    BuildFailed,
    CancelRequested,
    CompletionReceived,
    CompletionRetracted,
    DateOpened,
    Event,
    EventKind,
    LeaseRenewed,
    ReplayRequested,
    TimerFired,
)
from statemachine.evidence import awaited_tables
from statemachine.invariants import change_violations, violations
from statemachine.model import (
    NO_RUNS,
    RETRACTIONS_MAX,
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
    Retraction,
    State,
    Trigger,
)
from statemachine.reasons import Reason
from statemachine.table import TRANSITIONS
from statemachine.timers import PROBE_PATIENCE
from tests.support.nights import (
    CUTOFF,
    DEADLINE,
    EVENING,
    EVERY_TABLE_FILLED,
    MINUTE,
    NO_ROWS,
    POLICY,
    PROCESSORS,
    SECOND,
    completion,
    finding,
    result,
    unseen,
)
from worker.foresight.recording import STARTS

CASES_MIN = 300_000
PAIRS_APART = 1 if os.environ.get("EVERY_NIGHT") else 3
NOW = (DEADLINE - SECOND, DEADLINE, CUTOFF)
AFTER_THE_LAST_LOOK = CUTOFF + PROBE_PATIENCE
POLICIES = tuple(
    replace(POLICY, on_upstream_failure=upstream, rerun=rerun, attempts_max=2)
    for upstream, rerun in ((OnUpstreamFailure.WAIT, OnRerun.HOLD), (OnUpstreamFailure.FALLBACK_NOW, OnRerun.REBUILD))
)
HALF_FILLED = {name: 0 if name in PROCESSORS[:2] else 400 for name in PROCESSORS}
OPTIONAL = frozenset(PROCESSORS[:2])
"""The processors without rows in a half-filled result."""
NEXT_RUN = EVENING + MINUTE
ASKED_FOR = "r1"
TAKEN_BACK = "r2"


def arrivals() -> Iterator[dict[str, Completion]]:
    """All sixteen sets of successes; of the rest nothing is known, or one failed, or all failed, or one was found."""
    for size in range(len(PROCESSORS) + 1):
        for successes in combinations(PROCESSORS, size):
            present = {name: completion(name) for name in successes}
            absent = [name for name in PROCESSORS if name not in successes]
            yield present
            if absent:
                one = absent[0]
                yield present | {one: completion(one, CompletionStatus.FAILED)}
                yield present | {one: completion(one, CompletionStatus.FOUND)}
                yield present | {name: completion(name, CompletionStatus.FAILED) for name in absent}


def retraction(run: str, at: datetime, token: tuple[int, int] | None) -> Retraction:
    return Retraction(
        processor=PROCESSORS[3],
        identity=f"run:{run}",
        completed_at=at,
        actor="ana",
        reason="why",
        at=DEADLINE,
        request_id=TAKEN_BACK,
        token=token,
    )


def retracted_arrivals() -> Iterator[tuple[dict[str, Completion], tuple[Retraction, ...]]]:
    """A run was taken back: with nothing since, with its next run since, with others still missing; in this life or the
    one before, and as often as is allowed."""
    others = {name: completion(name) for name in PROCESSORS[:3]}
    again = completion(PROCESSORS[3], run="2", at=NEXT_RUN)
    many = tuple(retraction(f"x{number}", EVENING, (1, 1)) for number in range(RETRACTIONS_MAX))
    for token in ((2, 1), None):
        once = (retraction("1", EVENING, token),)
        for arrived in (others, others | {PROCESSORS[3]: again}, dict(list(others.items())[:1])):
            yield arrived, once
    yield others | {PROCESSORS[3]: again}, many


OLDER = (None, result(1, 1, State.DEGRADED, rows=HALF_FILLED))


def unfinished(state: State) -> Iterator[DateRecord]:
    """The ways in which a date can be on its way, as far as the rules tell them apart."""
    base = replace(unseen(), state=state, version=5, request_id="" if state is State.WAITING else ASKED_FOR)
    match state:
        case State.WAITING:
            yield unseen()
            yield base
            for attempt in (0, 1):
                # After a retraction: the generation was claimed, or was not.
                yield replace(base, generation=2, attempt=attempt)
        case State.READY:
            for published, attempt in product(OLDER, (0, 1, 2)):
                yield replace(base, generation=2, attempt=attempt, result=published, wake_at=DEADLINE)
            for published, trigger in product(OLDER, (Trigger.JOIN, Trigger.UPSTREAM_FAILED)):
                yield replace(base, generation=2, attempt=1, result=published, wake_at=DEADLINE, trigger=trigger)
            for attempt in (0, 1):
                # A person asked for it, and it was claimed above the ledger, or not yet.
                asked = replace(base, generation=2, attempt=attempt, own_from=attempt, wake_at=DEADLINE)
                yield replace(asked, trigger=Trigger.REPLAY)
        case State.RUNNING:
            # Claimed with these completions, or with older runs of them; given up for one reason or another, or not; in
            # the evening or, where nothing was published before, at the deadline.
            early = Lease(owner="worker-a", until_at=DEADLINE, claimed_at=EVENING)
            claims = ((None, early), (OLDER[1], early), (None, replace(early, claimed_at=DEADLINE)))
            older_runs = MappingProxyType(dict.fromkeys(PROCESSORS, "0"))
            fatal = Failure(because=FailureKind.FATAL, message="it broke", at=EVENING)
            away = Failure(because=FailureKind.UNAVAILABLE, message="away", at=EVENING)
            stopped = Failure(because=FailedBecause.CANCELLED, message="by ana: why", at=EVENING)
            builds = ((NO_RUNS, None), (older_runs, None), (NO_RUNS, fatal), (NO_RUNS, away), (NO_RUNS, stopped))
            for (published, lease), attempt, (runs, failure) in product(claims, (1, 2), builds):
                yield replace(
                    base,
                    generation=2,
                    attempt=attempt,
                    result=published,
                    lease=lease,
                    wake_at=DEADLINE,
                    claimed_runs=runs,
                    failure=failure,
                )
            for own_from, failure in product((0, 1), (None, stopped)):
                asked = replace(base, generation=2, attempt=1, own_from=own_from, trigger=Trigger.REPLAY)
                yield replace(asked, lease=lease, wake_at=DEADLINE, failure=failure)


def finished(state: State) -> Iterator[DateRecord]:
    """The ways in which a generation can have ended."""
    base = replace(unseen(), state=state, version=5, request_id=ASKED_FOR)
    match state:
        case State.DONE:
            yield replace(base, generation=2, attempt=1, result=result(2, 1, State.DONE), wake_at=None)
        case State.DEGRADED:
            for rows, wake_at in product((EVERY_TABLE_FILLED, HALF_FILLED), (CUTOFF, DEADLINE, None)):
                published_now = result(2, 1, State.DEGRADED, rows=rows)
                yield replace(base, generation=2, attempt=1, result=published_now, wake_at=wake_at)
            # A critical finding names a processor, whose run at the claim is known, or is not.
            doubted_now = result(2, 1, State.DEGRADED, findings=(finding(PROCESSORS[3]),))
            for runs in (NO_RUNS, MappingProxyType({PROCESSORS[3]: "run:1"})):
                yield replace(base, generation=2, attempt=1, result=doubted_now, wake_at=CUTOFF, claimed_runs=runs)
        case State.FAILED:
            # One that still waits for its deadline is sound only where nothing is published and nobody cancelled it.
            whys = (FailedBecause.GATE_REFUSED, FailedBecause.CANCELLED)
            for published, because, wake_at in product(OLDER, whys, (None, DEADLINE)):
                failure = Failure(because=because, message="it broke", at=EVENING)
                yield replace(base, generation=2, attempt=1, result=published, failure=failure, wake_at=wake_at)


def arrivals_beside_optional() -> Iterator[dict[str, Completion]]:
    """Of the optional processors nothing is known, or one failed, was found, or reported; one required is missing."""
    required = {name: completion(name) for name in PROCESSORS[2:]}
    yield required
    yield required | {PROCESSORS[0]: completion(PROCESSORS[0], CompletionStatus.FAILED)}
    yield required | {PROCESSORS[0]: completion(PROCESSORS[0])}
    yield {name: completion(name) for name in PROCESSORS[:3]}


def records(known: Iterator[dict[str, Completion]] | None = None) -> Iterator[DateRecord]:
    """Every sound record, by state, arrivals and what its build relied on; with *known* of these arrivals alone."""
    every = [*((arrived, ()) for arrived in known or arrivals()), *(() if known else retracted_arrivals())]
    for state, (arrived, taken_back) in product(State, every):
        for shape in (*unfinished(state), *finished(state)):
            base = replace(shape, completions=MappingProxyType(arrived), retractions=taken_back)
            relied = {frozenset[str](), base.counted, frozenset(PROCESSORS[2:])}
            for relied_on in relied if state not in {State.WAITING, State.READY} else (frozenset[str](),):
                record = replace(base, relied_on=relied_on)
                waits_for_nothing = state is State.WAITING and not POLICY.missing(record)
                if not violations(record) and not waits_for_nothing:
                    yield record


@cache
def events() -> tuple[Event, ...]:
    """Every kind of event in every variant that a rule tells apart, for tokens older, equal and newer."""
    reports = [
        CompletionReceived(completion=completion(name, status, run=run, at=at))
        for name in (PROCESSORS[0], PROCESSORS[3])
        for status in (CompletionStatus.SUCCESS, CompletionStatus.FAILED)
        for run, at in (("0", EVENING - MINUTE), ("1", EVENING), ("2", NEXT_RUN))
    ]
    probes = [TimerFired(probe=probe) for probe in (None, NO_ROWS, HALF_FILLED, EVERY_TABLE_FILLED)]
    timers = [*probes, TimerFired(closed_generation=2)]
    commits = [
        BuildCommitted(result=result(generation, 1, state, rows=HALF_FILLED), read_from_ledger=found)
        for generation, state in product((1, 2, 3), (State.DONE, State.DEGRADED))
        for found in ((False, True) if generation == 2 else (False,))
    ]
    doubted_now = result(2, 1, State.DEGRADED, findings=(finding(PROCESSORS[3]),))
    commits += [BuildCommitted(result=doubted_now, read_from_ledger=found) for found in (False, True)]
    endings = [
        BuildFailed(generation=2, attempt=attempt, failure=failure, message="it broke")
        for attempt, failure in product((1, 2), FailureKind)
    ]
    return (
        DateOpened(),
        *reports,
        *timers,
        *(BuildClaimed(worker="worker-a", ledger_claim=claim) for claim in ((0, 0), (4, 2), None)),
        *(LeaseRenewed(worker=worker, generation=2, attempt=1) for worker in ("worker-a", "worker-b")),
        *commits,
        *endings,
        *(ReplayRequested(actor="ana", reason="why", take_over=take_over) for take_over in (False, True)),
        ReplayRequested(actor="ana", reason="why", request_id=ASKED_FOR),
        ReplayRequested(actor="ana", reason="why", as_of=EVENING),
        CancelRequested(actor="ana", reason="why"),
        *retractions(),
    )


def retractions() -> Iterator[CompletionRetracted]:
    """Of what counts, of another run, with a rebuild, sent again, and read back from the audit after a loss."""
    for processor, run in product((PROCESSORS[0], PROCESSORS[3]), ("1", "2")):
        yield CompletionRetracted(processor=processor, identity=f"run:{run}", actor="ana", reason="why")
    cache = CompletionRetracted(processor=PROCESSORS[3], identity="run:1", actor="ana", reason="why", rebuild=True)
    yield cache
    yield replace(cache, request_id=TAKEN_BACK)
    yield replace(cache, identity="run:2", completed_at=NEXT_RUN, taken_back_at=DEADLINE)


def cases() -> Iterator[tuple[DateRecord, Event, datetime, Policy]]:
    """The policies differ only in what a report does, and in what follows a commit."""
    dice = Random(20)  # noqa: S311 -- a regular choice would miss what the order of the records repeats
    for record, event in product(records(), events()):
        if dice.randrange(PAIRS_APART):
            continue
        instants = (*NOW, AFTER_THE_LAST_LOOK) if isinstance(event, TimerFired) else NOW
        policies = POLICIES if isinstance(event, CompletionReceived | BuildCommitted) else POLICIES[:1]
        for now, policy in product(instants, policies):
            yield record, event, now, policy


def faults(record: DateRecord, decision: Decision, event: Event, now: datetime, policy: Policy) -> Iterator[str]:
    """What is wrong with one decision."""
    after = decision.record
    outcomes = TRANSITIONS[record.state].get(event.kind, {})
    if outcomes.get(decision.reason) is not after.state:
        yield f"the table does not lead to {after.state}"
    if not decision.changed and after is not record:
        yield "said to change nothing, but gives another record"
    if decision.changed:
        yield from change_violations(record, after, policy)
    yield from _faults_of_the_start(record, decision)
    starts = [effect for effect in decision.effects if isinstance(effect, StartBuild)]
    if decision.changed and bool(starts) != (after.state is State.READY and _is_due(after, decision)):
        yield "a date made ready for now is started, and no other"
    ends = after.state in {State.DONE, State.DEGRADED, State.FAILED} and record.state is not after.state
    told = [effect.record.state for effect in decision.effects if isinstance(effect, PublishOutcome)]
    if decision.changed and ends and told != [after.state]:
        yield f"ends in {after.state} and tells {told}"
    is_owed = after.state is State.FAILED and _is_owed_a_look(record, decision, now, policy)
    if decision.changed and after.state is State.FAILED and is_owed != bool(after.wake_at):
        yield f"failed, and due at {after.wake_at}"
    closed = after.state is State.DEGRADED and after.wake_at is None and now < after.upgrade_cutoff_at
    if decision.changed and closed and (record.state is not State.DEGRADED or record.wake_at is not None):
        yield "degraded before its cutoff, and never looked at again"


def _faults_of_the_start(before: DateRecord, decision: Decision) -> Iterator[str]:
    """Whether the arrivals, which know the reason alone, name the trigger of each generation."""
    after, reason = decision.record, decision.reason
    starts = decision.changed and after.state is State.READY and after.generation > before.generation
    if not starts and decision.changed and reason in STARTS:
        yield "begins no generation, and the arrivals name a trigger"
    # A generation that was overtaken is the same generation under a higher number.
    if starts and reason is not Reason.COMMITTED_REPLAY_FOLLOWS:
        named = {STARTS.get(reason)} | ({Trigger.RETRACTION} if reason is Reason.RESCUE_FOLLOWS else set())
        if after.trigger not in named:
            yield f"begins a generation by {after.trigger}, and the arrivals name {named}"


def _is_owed_a_look(before: DateRecord, decision: Decision, now: datetime, policy: Policy) -> bool:
    """Whether a failed date is still built at its deadline or upgraded until its cutoff: written a second time."""
    after = decision.record
    if after.failure is not None and after.failure.because == FailedBecause.CANCELLED:
        return False
    if before.state is State.FAILED:
        same_wait = (before.result is None) == (after.result is None)
        return before.wake_at is not None and same_wait and decision.reason is not Reason.UPGRADE_WINDOW_CLOSED
    if after.result is not None:
        is_other = after.trigger is not Trigger.UPGRADE
        return is_other and bool(awaited_tables(after, policy)) and now < after.upgrade_cutoff_at
    return before.lease is not None and before.lease.claimed_at < after.deadline_at


def _is_due(after: DateRecord, decision: Decision) -> bool:
    recorded = {
        Reason.RECORDED,
        Reason.FAILURE_RECORDED,
        Reason.RETRY_SCHEDULED,
        Reason.RETRACTED,
        Reason.COMMITTED_BY_OLDER_GENERATION,
    }
    return after.wake_at is not None and decision.reason not in recorded


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_event_in_every_state_is_decided_soundly_and_the_table_has_no_dead_entry() -> None:
    """Totality, the table as the only way to move, all invariants of a change; and each entry of the table is used."""
    written = {
        (state, kind, reason)
        for state, kinds in TRANSITIONS.items()
        for kind, outcomes in kinds.items()
        for reason in outcomes
    }
    reached: set[tuple[State, EventKind, Reason]] = set()
    count = 0
    for record, event, now, policy in cases():
        count += 1
        decision = decide(record, event, now=now, policy=policy)
        reached.add((record.state, event.kind, decision.reason))
        found = list(faults(record, decision, event, now, policy))
        assert found == [], f"{found}: {event} at {now} on {record}"

    assert written == reached
    assert count > CASES_MIN


def test_an_optional_processor_alone_starts_no_upgrade_and_every_decision_beside_it_is_sound() -> None:
    """The same with two optional processors: which are missing, late, failed, or there."""
    policies = [replace(policy, optional=OPTIONAL) for policy in POLICIES]
    held = {Reason.RERUN_HELD, Reason.RERUN_STARTED}
    late: set[Reason] = set()
    told = [event for event in events() if isinstance(event, CompletionReceived | TimerFired | BuildCommitted)]
    for record, event in product(records(arrivals_beside_optional()), told):
        is_report = isinstance(event, CompletionReceived)
        instants = NOW[1:] if is_report else NOW[1:2]
        for now, policy in product(instants, policies if is_report else policies[:1]):
            decision = decide(record, event, now=now, policy=policy)
            found = list(faults(record, decision, event, now, policy))
            assert found == [], f"{found}: {event} at {now} on {record}"
            if isinstance(event, CompletionReceived) and event.completion.processor in OPTIONAL:
                assert decision.reason not in {Reason.UPGRADE_STARTED, Reason.UPGRADE_TOO_LATE}
                late |= {decision.reason} & held
            if decision.reason is Reason.UPGRADE_STARTED and isinstance(event, TimerFired):
                assert {name for name, rows in (event.probe or {}).items() if rows} - OPTIONAL
            if decision.reason is Reason.COMMITTED_UPGRADE_FOLLOWS and isinstance(event, BuildCommitted):
                assert record.counted - record.relied_on - OPTIONAL or event.result.findings
    assert late == held


def test_every_state_and_every_event_has_a_place_in_the_table() -> None:
    assert set(State) == set(TRANSITIONS)
    assert all(set(EventKind) == set(kinds) for kinds in TRANSITIONS.values())


def test_every_reason_is_used_somewhere() -> None:
    used = {reason for kinds in TRANSITIONS.values() for outcomes in kinds.values() for reason in outcomes}

    assert set(Reason) == used
