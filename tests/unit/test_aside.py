"""A look that hangs holds up its own date only."""

import threading
from datetime import timedelta

import pytest

from statemachine.model import State
from tests.conftest import WaitUntil
from tests.support.nights import (
    CACHE,
    CALENDAR,
    CUTOFF,
    DEADLINE,
    NIGHT,
    PROCESSORS,
    REPLAY,
    SECOND,
    claimed,
    committed,
    success,
    without,
)
from tests.support.rigs import LedgerWarehouse, Rig, repair_of
from worker.errors import Unavailable
from worker.sweep import PROBE_PATIENCE, QUERIES_MAX, Aside, Sweeper


def test_what_ends_in_time_has_ended_when_the_caller_goes_on() -> None:
    done: list[str] = []

    assert Aside(5.0)(NIGHT, lambda: done.append("looked")) is True
    assert done == ["looked"]


def test_an_error_reaches_the_caller() -> None:
    def fail() -> None:
        raise Unavailable("away")

    with pytest.raises(Unavailable, match="away"):
        Aside(5.0)(NIGHT, fail)


def test_what_hangs_is_asked_about_again_and_not_started_twice(wait_until: WaitUntil) -> None:
    aside, gate, started = Aside(0.01), threading.Event(), []

    def hang() -> None:
        started.append(1)
        gate.wait(30)

    assert [False, False] == [aside(NIGHT, hang), aside(NIGHT, hang)]
    gate.set()
    wait_until(lambda: aside(NIGHT, lambda: started.append(2)), "the look has ended")

    assert started == [1]


def test_looks_that_have_ended_make_room_without_being_asked_about(wait_until: WaitUntil) -> None:
    """Nobody waits for the looks of degraded dates, and a date that is published is never asked about again."""
    aside, done = Aside(0.0), []

    for offset in range(QUERIES_MAX + 5):
        aside(NIGHT + timedelta(days=offset), lambda: done.append(1))
        wait_until(lambda offset=offset: len(done) == offset + 1, "the look has ended")

    assert len(done) == QUERIES_MAX + 5


def test_many_hanging_looks_are_bounded() -> None:
    aside, gate, started = Aside(0.0), threading.Event(), []

    def hang() -> None:
        started.append(1)
        gate.wait(30)

    for offset in range(QUERIES_MAX + 5):
        aside(NIGHT + timedelta(days=offset), hang)
    gate.set()

    assert len(started) <= QUERIES_MAX


def test_a_hanging_probe_holds_up_neither_its_own_deadline_for_long_nor_any_other() -> None:
    """The warehouse queues the probe of one date for minutes; the sweep goes on."""
    rig, gate, other = Rig(), threading.Event(), NIGHT - timedelta(days=1)

    def probe(day: object) -> dict[str, int]:
        if day == NIGHT:
            gate.wait(30)
        return dict.fromkeys(PROCESSORS, 0)

    sweeper = Sweeper(
        engine=rig.engine,
        store=rig.store,
        calendar=CALENDAR,
        clock=rig.clock,
        repair=repair_of(rig, LedgerWarehouse()),
        probe=probe,
        date_failed=lambda _day, _error: None,
        aside=Aside(0.05),
    )
    for day in (NIGHT, other):
        rig.engine.apply(day, success(PROCESSORS[0]))
    rig.store.set_last_opened(NIGHT)
    rig.clock.instant = DEADLINE + SECOND
    sweeper.run_once()
    states = {day: rig.store.load(day).state for day in (NIGHT, other)}
    assert {NIGHT: State.WAITING, other: State.READY} == states

    rig.clock.instant = DEADLINE + PROBE_PATIENCE
    sweeper.run_once()
    gate.set()

    assert State.READY is rig.store.load(NIGHT).state


def test_looks_into_degraded_dates_that_hang_hold_up_no_deadline_and_the_cutoff_closes_their_windows() -> None:
    """A backfill has published more degraded dates than looks may hang, and the warehouse queues every look at them."""
    rig, gate = Rig(), threading.Event()
    backfilled = [NIGHT - timedelta(days=offset) for offset in range(1, QUERIES_MAX + 5)]

    def probe(day: object) -> dict[str, int]:
        if day != NIGHT:
            gate.wait(120)
        return dict.fromkeys(PROCESSORS, 400)

    rig.engine.apply(NIGHT, success(PROCESSORS[0]))
    for day in backfilled:
        for event in (success(CACHE), REPLAY, claimed(), committed(state=State.DEGRADED, rows=without(CACHE))):
            rig.engine.apply(day, event)
    rig.store.set_last_opened(NIGHT)
    sweeper = Sweeper(
        engine=rig.engine,
        store=rig.store,
        calendar=CALENDAR,
        clock=rig.clock,
        repair=repair_of(rig, LedgerWarehouse()),
        probe=probe,
        date_failed=lambda _day, _error: None,
        aside=Aside(),
        aside_for_upgrades=Aside(0.0),
    )
    rig.clock.instant = DEADLINE + SECOND
    sweeper.run_once()
    assert State.READY is rig.store.load(NIGHT).state

    for instant in (CUTOFF, CUTOFF + PROBE_PATIENCE):
        rig.clock.instant = instant
        sweeper.run_once()
    gate.set()

    assert {None} == {rig.store.load(day).wake_at for day in backfilled}
