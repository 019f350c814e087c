"""Replicas measure time by the store's clock, whatever their own machines say."""

from datetime import UTC, datetime, timedelta

import pytest

from statemachine.events import TimerFired
from statemachine.model import State
from statemachine.reasons import Reason
from tests.support.memory_store import MemoryStore
from tests.support.nights import CALENDAR, EVENING, MINUTE, NIGHT, POLICY, PROCESSORS, SECOND, claimed, success
from tests.support.rigs import LedgerWarehouse, ModelClock, Rig, repair_of
from worker.clock import Now, SharedClock
from worker.errors import Unavailable
from worker.sweep import Sweeper

TRUE = datetime(2024, 12, 16, 4, 0, tzinfo=UTC)


class Passing:
    """Seconds that a test lets pass, and a store that sees the same ones."""

    def __init__(self) -> None:
        self.seconds = 50.0
        self.store_is_up = True

    def stopwatch(self) -> float:
        return self.seconds

    def skew_of(self, now: Now) -> timedelta:
        if not self.store_is_up:
            raise Unavailable("the state store does not serve")
        return TRUE + timedelta(seconds=self.seconds - 50.0) - now()

    def clock(self, wrong_by: timedelta) -> SharedClock:
        return SharedClock(self.skew_of, begin=TRUE + wrong_by, stopwatch=self.stopwatch)


@pytest.mark.parametrize("wrong_by", [timedelta(hours=1), timedelta(0), timedelta(minutes=-5)])
def test_a_wrong_machine_tells_the_stores_time_after_one_look_and_between_two(wrong_by: timedelta) -> None:
    passing = Passing()
    clock = passing.clock(wrong_by)
    assert clock.now() == TRUE + wrong_by, "nobody has looked yet"

    clock.follow()
    passing.seconds += 7.5

    assert clock.now() == TRUE + timedelta(seconds=7.5)


def test_time_goes_on_while_the_store_is_away() -> None:
    passing = Passing()
    clock = passing.clock(timedelta(minutes=3))
    clock.follow()
    passing.store_is_up = False
    passing.seconds += 60

    with pytest.raises(Unavailable):
        clock.follow()

    assert clock.now() == TRUE + timedelta(seconds=60)


def test_a_worker_that_died_with_its_machine_an_hour_ahead_is_replaced_when_its_lease_ends() -> None:
    passing, store = Passing(), MemoryStore()
    dead, other = Rig(store=store, worker="dead"), Rig(store=store, worker="other")
    wrong = passing.clock(timedelta(hours=1))
    wrong.follow()
    dead.clock.instant = wrong.now()
    for event in (*(success(name) for name in PROCESSORS), claimed("dead")):
        dead.engine.apply(NIGHT, event)

    other.clock.instant = TRUE + POLICY.lease + SECOND
    decision = other.engine.apply(NIGHT, TimerFired())

    assert (decision.reason, decision.record.state) == (Reason.LEASE_EXPIRED, State.READY)


class Slipping(ModelClock):
    """Wrong until it is set right."""

    def follow(self) -> None:
        self.instant = EVENING


def test_a_sweep_sets_the_clock_right_before_it_asks_what_is_due() -> None:
    rig = Rig(clock=Slipping())
    rig.engine.apply(NIGHT, success(PROCESSORS[0]))
    rig.clock.forward(60 * MINUTE)
    sweeper = Sweeper(
        engine=rig.engine,
        store=rig.store,
        calendar=CALENDAR,
        clock=rig.clock,
        repair=repair_of(rig, LedgerWarehouse()),
        probe=lambda _night: {},
        date_failed=lambda _night, _error: None,
    )

    assert sweeper.run_once().due == 0
    kept = rig.store.load(NIGHT)
    assert kept is not None
    assert kept.state is State.WAITING
