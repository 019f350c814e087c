"""What must hold for every order of events: the outcome of a set of reports, and the life of a date among workers."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from statemachine.events import (
    BuildClaimed,
    BuildCommitted,
    BuildFailed,
    CancelRequested,
    CompletionReceived,
    CompletionRetracted,
    DateOpened,
    Event,
    LeaseRenewed,
    ReplayRequested,
    TimerFired,
)
from statemachine.invariants import change_violations, violations
from statemachine.model import (
    BuildResult,
    Completion,
    CompletionStatus,
    DateRecord,
    FailureKind,
    OnRerun,
    OnUpstreamFailure,
    Policy,
    State,
)
from statemachine.reasons import Reason
from tests.support.memory_store import MemoryStore
from tests.support.nights import (
    CALENDAR,
    EVENING,
    MINUTE,
    NIGHT,
    POLICY,
    PROCESSORS,
    SECOND,
    completion,
    finding,
    result,
    told,
    unseen,
)
from tests.support.rigs import ModelClock, Rig
from worker.repair import CLOSING_ATTEMPT

WORKERS = ("worker-a", "worker-b", "worker-c")
NAMES = st.sampled_from(PROCESSORS)
STATUSES = st.sampled_from([CompletionStatus.SUCCESS, CompletionStatus.FAILED])


# --- confluence ------------------------------------------------------------------------------------------------------


def report(processor: str, status: CompletionStatus, run: int) -> Completion:
    """What a run of a processor says is the same however often it is said."""
    return completion(processor, status, run=f"{status}-{run}", at=EVENING + run * SECOND, rows=100 + run)


reports = st.lists(st.builds(report, NAMES, STATUSES, st.integers(0, 3)), max_size=8)


def end_of(arrivals: Sequence[Completion], policy: Policy) -> DateRecord:
    record = unseen()
    for arrived in arrivals:
        record = told(record, CompletionReceived(completion=arrived), policy=policy).record
    return replace(record, version=0)


@given(arrivals=reports, data=st.data())
def test_order_and_multiplicity_of_reports_never_change_the_outcome(
    arrivals: list[Completion], data: st.DataObject
) -> None:
    """Any permutation of the reports, with any of them repeated, ends in the same record."""
    repeated = arrivals + data.draw(st.lists(st.sampled_from(arrivals), max_size=4) if arrivals else st.just([]))
    shuffled = data.draw(st.permutations(repeated))

    assert end_of(arrivals, POLICY) == end_of(shuffled, POLICY)


@given(arrivals=reports, data=st.data())
def test_an_eager_fallback_depends_on_the_order_only_in_its_trigger(
    arrivals: list[Completion], data: st.DataObject
) -> None:
    """When four reports with a failure start a build, a success that comes a moment later is still counted."""
    eager = replace(POLICY, on_upstream_failure=OnUpstreamFailure.FALLBACK_NOW)
    shuffled = data.draw(st.permutations(arrivals))

    assert replace(end_of(arrivals, eager), trigger=None) == replace(end_of(shuffled, eager), trigger=None)


@given(arrivals=reports)
def test_a_date_is_ready_exactly_when_four_distinct_processors_have_succeeded(arrivals: list[Completion]) -> None:
    succeeded = {arrived.processor for arrived in arrivals if arrived.status is CompletionStatus.SUCCESS}

    assert (succeeded == set(PROCESSORS)) == (end_of(arrivals, POLICY).state is State.READY)


@given(arrivals=reports, data=st.data())
def test_no_redelivery_brings_a_retracted_run_back(arrivals: list[Completion], data: st.DataObject) -> None:
    """Neither the run nor what it had displaced, however often and in whatever order it all comes again."""
    record = end_of(arrivals, POLICY)
    counted = sorted(record.counted)
    if not counted:
        return
    known = record.completions[data.draw(st.sampled_from(counted))]
    event = CompletionRetracted(processor=known.processor, identity=known.identity, actor="ana", reason="why")
    taken_back = told(record, event, now=EVENING + MINUTE)
    assert taken_back.changed
    again = [one for one in arrivals if one.status is CompletionStatus.SUCCESS]
    after = taken_back.record
    for arrived in data.draw(st.permutations(again)):
        after = told(after, CompletionReceived(completion=arrived)).record

    assert known.processor not in after.counted
    assert after.ignored == {known.processor}


# --- the life of a date ----------------------------------------------------------------------------------------------


class NightOfWorkers(RuleBasedStateMachine):
    """Several workers over one store and one ledger, with a clock that anybody may move."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.clock = ModelClock(EVENING)
        self.ledger: dict[int, BuildResult] = {}
        self.claims = (0, 0)
        self.builds: list[tuple[str, DateRecord]] = []
        self.seen: list[DateRecord] = [unseen()]
        self.rigs: dict[str, Rig] = {}

    @initialize(rerun=st.sampled_from(OnRerun), upstream=st.sampled_from(OnUpstreamFailure))
    def start(self, rerun: OnRerun, upstream: OnUpstreamFailure) -> None:
        self.policy = replace(POLICY, rerun=rerun, on_upstream_failure=upstream)
        self.rigs = {name: Rig(store=self.store, clock=self.clock, policy=self.policy, worker=name) for name in WORKERS}

    def apply(self, event: Event, worker: str = WORKERS[0]) -> Reason:
        """Let a worker apply an event, and check the step."""
        before = self.store.load(NIGHT) or CALENDAR.fresh_record(NIGHT, self.clock.now())
        decision = self.rigs[worker].engine.apply(NIGHT, event)
        stored = self.store.load(NIGHT)
        if decision.changed:
            assert change_violations(before, decision.record, self.policy) == ()
            assert decision.record == stored
            self.seen.append(decision.record)
        else:
            assert decision.record == before
        return decision.reason

    @rule(name=NAMES, status=STATUSES, run=st.integers(0, 3))
    def a_processor_reports(self, name: str, status: CompletionStatus, run: int) -> None:
        self.apply(CompletionReceived(completion=report(name, status, run)))

    @rule()
    def the_calendar_opens_the_date(self) -> None:
        self.apply(DateOpened())

    @rule(span=st.sampled_from([SECOND, MINUTE, 5 * MINUTE, 30 * MINUTE]))
    def time_passes(self, span: timedelta) -> None:
        self.clock.forward(span)

    def _fire(self, found: set[str]) -> None:
        """As the sweep does: with the tables where they are asked for, or once the ledger is closed to a generation."""
        if self.apply(TimerFired()) is not Reason.NEEDS_PROBE:
            return
        record = self.store.load(NIGHT)
        assert record is not None
        if record.state is not State.RUNNING:
            self.apply(TimerFired(probe={name: 400 if name in found else 0 for name in PROCESSORS}))
        elif record.generation in self.ledger:
            self.apply(BuildCommitted(result=self.ledger[record.generation], read_from_ledger=True))
        else:
            self.claims = max(self.claims, (record.generation, CLOSING_ATTEMPT))
            self.apply(TimerFired(closed_generation=record.generation))

    @rule(found=st.sets(NAMES))
    def a_sweep_fires_what_is_due(self, found: set[str]) -> None:
        """After it nothing is overdue but a build that is ready to be claimed."""
        for night in self.store.due(self.clock.now(), 10):
            assert night == NIGHT
            self._fire(found)
        record = self.store.load(NIGHT)
        if record is not None and record.wake_at is not None and record.wake_at <= self.clock.now():
            # A date that follows a commit somebody found looks into the tables next.
            assert record.state in {State.READY, State.DEGRADED}
        if record is not None and self.clock.now() >= record.deadline_at:
            assert record.state is not State.WAITING, "a deadline fires"

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_claims(self, worker: str) -> None:
        reason = self.apply(BuildClaimed(worker=worker, ledger_claim=self.claims), worker)
        if reason is Reason.CLAIMED:
            self.builds.append((worker, self.seen[-1]))

    @precondition(lambda self: self.builds)
    @rule(data=st.data())
    def a_worker_renews(self, data: st.DataObject) -> None:
        worker, record = data.draw(st.sampled_from(self.builds))
        reason = self.apply(LeaseRenewed(worker=worker, generation=record.generation, attempt=record.attempt), worker)
        held = self.store.load(NIGHT)
        assert held is not None
        same = (held.generation, held.attempt) == (record.generation, record.attempt)
        current = held.state is State.RUNNING and same and not held.giving_up
        assert current == (reason is Reason.LEASE_RENEWED)

    @precondition(lambda self: self.builds)
    @rule(data=st.data(), state=st.sampled_from([State.DONE, State.DEGRADED]), dies=st.booleans())
    def a_worker_publishes(self, data: st.DataObject, state: State, dies: bool) -> None:
        """The ledger lets a generation be committed once, by its newest attempt; a worker may die before it reports."""
        worker, record = data.draw(st.sampled_from(self.builds))
        token = (record.generation, record.attempt)
        if record.generation in self.ledger or max(self.ledger, default=0) > record.generation or self.claims > token:
            return
        self.claims = token
        # What a person has taken back is not read: such a build is a fallback.
        state = State.DEGRADED if record.ignored else state
        rows = {name: 400 if state is State.DONE or name in record.relied_on else 0 for name in PROCESSORS}
        named = data.draw(st.sets(NAMES, max_size=2)) if state is State.DEGRADED else set()
        findings = tuple(finding(name) for name in sorted(named))
        self.ledger[record.generation] = result(*token, state, rows=rows, findings=findings)
        if not dies:
            self.apply(BuildCommitted(result=self.ledger[record.generation]), worker)

    @precondition(lambda self: self.ledger)
    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def a_worker_reports_what_the_ledger_holds(self, data: st.DataObject, worker: str) -> None:
        self.apply(BuildCommitted(result=self.ledger[data.draw(st.sampled_from(sorted(self.ledger)))]), worker)

    @precondition(lambda self: self.builds)
    @rule(data=st.data(), kind=st.sampled_from(FailureKind))
    def a_worker_fails(self, data: st.DataObject, kind: FailureKind) -> None:
        worker, record = data.draw(st.sampled_from(self.builds))
        self.apply(
            BuildFailed(generation=record.generation, attempt=record.attempt, failure=kind, message="it broke"), worker
        )

    @rule(take_over=st.booleans())
    def a_person_replays(self, take_over: bool) -> None:
        self.apply(ReplayRequested(actor="ana", reason="why", take_over=take_over))

    @rule()
    def a_person_cancels(self) -> None:
        self.apply(CancelRequested(actor="ana", reason="why"))

    @rule(name=NAMES, run=st.integers(0, 3), rebuild=st.booleans(), lost=st.booleans())
    def a_person_retracts(self, name: str, run: int, rebuild: bool, lost: bool) -> None:
        """What counts is taken back, or some other run is named; or the audit gives a retraction back."""
        record = self.store.load(NIGHT)
        known = record.completions.get(name) if record is not None else None
        identity = known.identity if known is not None and run else report(name, CompletionStatus.SUCCESS, run).identity
        said_at = EVENING + run * SECOND
        self.apply(
            CompletionRetracted(
                processor=name,
                identity=identity,
                actor="ana",
                reason="why",
                rebuild=rebuild,
                completed_at=said_at if lost else None,
                taken_back_at=said_at + MINUTE if lost else None,
            )
        )

    @invariant()
    def the_stored_record_is_sound_and_indexed(self) -> None:
        record = self.store.load(NIGHT)
        if record is not None:
            assert violations(record) == ()
            assert record.wake_at == self.store.next_wake()

    @invariant()
    def version_generation_and_attempt_only_rise(self) -> None:
        counters = [(record.version, record.generation) for record in self.seen]
        assert counters == sorted(counters)
        for before, after in zip(self.seen, self.seen[1:], strict=False):
            assert (before.generation, before.attempt) <= (after.generation, after.attempt)

    @invariant()
    def every_ending_is_told_and_nothing_else(self) -> None:
        """Each step into done, degraded or failed has its outcome in the outbox; what is told as published is."""
        endings = sum(
            1
            for before, after in zip(self.seen, self.seen[1:], strict=False)
            if after.state in {State.DONE, State.DEGRADED, State.FAILED}
            and (before.state, before.generation) != (after.state, after.generation)
        )
        upgrades = sum(
            1
            for before, after in zip(self.seen, self.seen[1:], strict=False)
            if after.state is State.READY
            and after.generation > before.generation
            and after.published_generation > before.published_generation
            and after.generation > after.published_generation
            and after.trigger is not None
            and after.trigger.value in {"upgrade", "rerun", "retraction"}
            and after.attempt == 0
        )
        messages = [entry.message for entry in self.store.outbox(1000)]
        older = sum(
            1
            for before, after in zip(self.seen, self.seen[1:], strict=False)
            if before.published_generation < after.published_generation < before.generation == after.generation
        )
        assert endings + upgrades + older == len(messages)
        for sent in messages:
            if sent.topic == "success":
                assert int(sent.attributes["generation"]) in self.ledger

    @invariant()
    def a_finished_date_leaves_only_by_a_new_generation(self) -> None:
        finished = {State.DONE, State.DEGRADED}
        for before, after in zip(self.seen, self.seen[1:], strict=False):
            if before.state in finished and after.state is not before.state:
                assert after.generation > before.generation


NightOfWorkers.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
test_any_life_of_a_date_among_workers_keeps_the_rules = NightOfWorkers.TestCase
