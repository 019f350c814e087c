"""Each report that counted becomes one row of the table of arrivals, on every kind of night and through faults."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from statemachine.events import CancelRequested, Event
from statemachine.model import Completion, CompletionStatus, FailureKind, State
from tests.support.memory_store import MemoryStore
from tests.support.nights import (
    CACHE,
    CALENDAR,
    CUTOFF,
    DEADLINE,
    DEFENSE,
    EVENING,
    FACTORS,
    MINUTE,
    NIGHT,
    NO_ROWS,
    PROCESSORS,
    REPLAY,
    SECOND,
    SHOTS,
    broke,
    claimed,
    committed,
    completion,
    failure,
    probed,
    retract,
    success,
    without,
)
from tests.support.rigs import LedgerWarehouse, Rig
from tests.support.services import Service
from worker.errors import Fatal, Unavailable
from worker.features.arrivals import Arrival
from worker.foresight.recording import DATES_MAX, MARKS_MAX, PAUSE_AFTER_REFUSAL_S, PAUSE_S, ArrivalsWriter, arrivals_of
from worker.observing.observer import ArrivalsWritten, Notice
from worker.ports import HistoryEntry

LONG_AFTER = DEADLINE + timedelta(days=2)
CANCEL = CancelRequested(actor="ana", reason="bad league data")
IN_TIME = int((EVENING - DEADLINE).total_seconds())
THREE = [(EVENING, success(name)) for name in (DEFENSE, SHOTS, FACTORS)]
FALLBACK = [
    *THREE,
    (DEADLINE, probed(without(CACHE))),
    (DEADLINE, claimed()),
]
DEGRADED = [*FALLBACK, (DEADLINE, committed(state=State.DEGRADED, rows=without(CACHE)))]
DONE = [*THREE, (EVENING, success(CACHE)), (EVENING, claimed()), (EVENING, committed())]
Told = tuple[str, str, str, int, int | None, str | None]


class Sink:
    """The last notice of a pass."""

    def __init__(self) -> None:
        self.passes: list[ArrivalsWritten] = []

    def note(self, notice: Notice) -> None:
        if isinstance(notice, ArrivalsWritten):
            self.passes.append(notice)


@dataclass
class Stage:
    """An engine, its store, and a writer beside a warehouse that keeps arrivals."""

    rig: Rig = field(default_factory=Rig)
    warehouse: LedgerWarehouse = field(default_factory=LedgerWarehouse)
    sink: Sink = field(default_factory=Sink)

    def __post_init__(self) -> None:
        self.writer = self.new_writer()

    def new_writer(self) -> ArrivalsWriter:
        return ArrivalsWriter(
            store=self.rig.store,
            warehouse=self.warehouse,  # type: ignore[arg-type]
            calendar=CALENDAR,
            clock=self.rig.clock,
            observer=self.sink,
        )

    def play(self, steps: Sequence[tuple[datetime, Event]], night: date = NIGHT) -> "Stage":
        for instant, event in steps:
            self.rig.clock.instant = instant
            self.rig.engine.apply(night, event)
        return self

    def marks(self) -> Mapping[date, int]:
        return self.rig.store.unwritten_arrivals(10_000)

    def rows(self) -> list[Told]:
        return sorted(told(arrival) for arrival in self.warehouse.arrivals.values())


def told(row: Arrival) -> Told:
    assert row.received_at - row.deadline_at == timedelta(seconds=row.lateness_s)
    return row.processor, row.run, row.status, int(row.lateness_s), row.rows_found, row.caused


def in_time(*names: str, found: int | None, caused: str | None, run: str = "1") -> list[Told]:
    return [(name, f"run:{run}", "success", IN_TIME, found, caused) for name in names]


NIGHTS: Mapping[str, tuple[Sequence[tuple[datetime, Event]], Sequence[Told]]] = {
    "a full night": (DONE, in_time(*PROCESSORS, found=400, caused="join")),
    "a late success upgrades the fallback": (
        [
            *DEGRADED,
            (DEADLINE + 10 * MINUTE, success(CACHE)),
            (DEADLINE + 10 * MINUTE, claimed()),
            (DEADLINE + 10 * MINUTE, committed(2)),
        ],
        [
            *in_time(DEFENSE, SHOTS, FACTORS, found=None, caused="deadline"),
            (CACHE, "run:1", "success", 600, 400, "upgrade"),
        ],
    ),
    "a success during the fallback build upgrades the night": (
        [
            *FALLBACK,
            (DEADLINE + SECOND, success(CACHE)),
            (DEADLINE + MINUTE, committed(state=State.DEGRADED, rows=without(CACHE))),
            (DEADLINE + MINUTE, claimed()),
            (DEADLINE + 2 * MINUTE, committed(2)),
        ],
        [
            *in_time(DEFENSE, SHOTS, FACTORS, found=None, caused="deadline"),
            (CACHE, "run:1", "success", 1, None, "upgrade"),
        ],
    ),
    "a success after the cutoff causes nothing": (
        [*DEGRADED, (CUTOFF + 10 * MINUTE, success(CACHE)), (CUTOFF + 11 * MINUTE, probed(NO_ROWS))],
        [
            *in_time(DEFENSE, SHOTS, FACTORS, found=400, caused="deadline"),
            (CACHE, "run:1", "success", 35 * 60, None, None),
        ],
    ),
    "nothing to build from": (
        [
            (EVENING, failure(DEFENSE)),
            (DEADLINE, probed(NO_ROWS)),
            (DEADLINE, claimed()),
            (DEADLINE, broke(FailureKind.NO_DATA)),
        ],
        [(DEFENSE, "run:1", "failed", IN_TIME, None, "deadline")],
    ),
    "a failed night that is rescued": (
        [
            (EVENING, failure(CACHE)),
            *FALLBACK,
            (DEADLINE, broke(FailureKind.GATE_REFUSED)),
            (CUTOFF, success(CACHE, run="2", at=CUTOFF)),
            (CUTOFF, claimed()),
            (CUTOFF, committed(2)),
        ],
        [
            (CACHE, "run:1", "failed", IN_TIME, 400, "deadline"),
            *in_time(DEFENSE, SHOTS, FACTORS, found=400, caused="deadline"),
            (CACHE, "run:2", "success", 25 * 60, 400, "rescue"),
        ],
    ),
    "a cancelled night": (
        [(EVENING, success(DEFENSE)), (EVENING, CANCEL), (DEADLINE, success(SHOTS, at=DEADLINE))],
        [*in_time(DEFENSE, found=None, caused=None), (SHOTS, "run:1", "success", 0, None, None)],
    ),
    "rows without an event": (
        [*THREE, (DEADLINE, probed(without())), (DEADLINE, claimed()), (DEADLINE, committed())],
        [
            *in_time(DEFENSE, SHOTS, FACTORS, found=400, caused="join"),
            (CACHE, f"probe:{DEADLINE.isoformat()}", "found", 0, 400, "join"),
        ],
    ),
    "a run that was taken back": (
        [
            (EVENING, success(CACHE)),
            (EVENING, retract(CACHE)),
            *THREE,
            (EVENING + MINUTE, success(CACHE, run="2", at=EVENING + MINUTE)),
            (EVENING + MINUTE, claimed()),
            (EVENING + MINUTE, committed()),
        ],
        [
            *in_time(*PROCESSORS, found=400, caused="join"),
            (CACHE, "run:2", "success", IN_TIME + 60, 400, "join"),
        ],
    ),
    "a failure, then a success": (
        [(EVENING - MINUTE, failure(CACHE, run="0", at=EVENING - MINUTE)), *DONE],
        [
            (CACHE, "run:0", "failed", IN_TIME - 60, 400, "join"),
            *in_time(*PROCESSORS, found=400, caused="join"),
        ],
    ),
    "a rerun that is held": (
        [*DONE, (DEADLINE, success(CACHE, run="2", at=DEADLINE))],
        [*in_time(*PROCESSORS, found=400, caused="join"), (CACHE, "run:2", "success", 0, None, None)],
    ),
    "a person replays a waiting night": (
        [(EVENING, success(CACHE)), (EVENING, REPLAY), (EVENING, claimed()), (CUTOFF, committed())],
        in_time(CACHE, found=400, caused="replay"),
    ),
}


@pytest.mark.parametrize("night", NIGHTS)
def test_a_settled_night_has_a_row_for_each_report_that_counted(night: str) -> None:
    steps, rows = NIGHTS[night]
    stage = Stage().play(steps)

    stage.writer.write()

    assert sorted(rows) == stage.rows()
    assert {} == stage.marks()


@pytest.mark.parametrize("night", NIGHTS)
def test_deliveries_that_do_not_count_and_a_second_pass_add_no_row(night: str) -> None:
    steps, rows = NIGHTS[night]
    stage = Stage().play(steps)
    stage.writer.write()

    again = Stage(rig=stage.rig, warehouse=stage.warehouse)
    for _instant, event in steps:
        if event.kind == "completion_received" and "taken back" not in night:
            again.rig.engine.apply(NIGHT, event)
    stage.rig.store._arrivals[NIGHT] = 0  # type: ignore[attr-defined]
    again.writer.write()

    assert sorted(rows) == stage.rows()


def test_a_night_that_never_ends_is_written_a_day_after_its_deadline() -> None:
    stage = Stage().play([(EVENING, success(CACHE))])

    waits = []
    for instant in (DEADLINE, DEADLINE + timedelta(hours=23, minutes=59), DEADLINE + timedelta(days=1)):
        stage.rig.clock.instant = instant
        stage.writer.write()
        waits.append(stage.sink.passes[-1].waiting_s)

    assert in_time(CACHE, found=None, caused=None) == stage.rows()
    assert [0.0, 86_340.0, 0.0] == waits


def test_a_night_with_a_step_to_come_is_not_written() -> None:
    """The report may still start a generation, and the row says which."""
    stage = Stage().play(DEGRADED)

    assert 0 == stage.writer.write().arrivals
    assert ([], [NIGHT]) == (stage.rows(), [*stage.marks()])


def test_a_forced_build_knows_no_rows() -> None:
    stage = Stage().play(DONE)
    record = stage.rig.store.load(NIGHT)
    assert record is not None
    assert record.result is not None
    forced = replace(record, mode="forced_fallback", result=replace(record.result, dependency_rows=NO_ROWS))

    assert {None} == {row.rows_found for row in arrivals_of(forced, stage.rig.store.history(NIGHT))}


def test_reports_that_a_release_without_reports_stored_are_written_from_the_record() -> None:
    """A worker of the former release committed beside this release, or the whole night lies before the upgrade."""
    stage = Stage().play(DONE)
    store = stage.rig.store
    assert isinstance(store, MemoryStore)
    history: list[HistoryEntry] = store._history[NIGHT]
    store._history[NIGHT] = [replace(entry, reports=()) if place else entry for place, entry in enumerate(history)]
    stage.writer.write()

    assert sorted(in_time(*PROCESSORS, found=400, caused="join")) == stage.rows()


# --- faults ----------------------------------------------------------------------------------------------------------


def test_while_the_warehouse_is_away_the_marks_stay_and_the_log_says_so_once() -> None:
    stage = Stage().play(DONE)
    stage.rig.clock.instant = DEADLINE + MINUTE
    stage.warehouse.faults["record_arrivals"] = [Unavailable("away")] * 3

    with capture_logs() as lines:
        pauses = [stage.writer.run_once() for _ in range(3)]

    assert ([PAUSE_S] * 3, [NIGHT], []) == (pauses, [*stage.marks()], stage.rows())
    assert ["arrivals_postponed"] == [line["event"] for line in lines]
    assert 60.0 == stage.sink.passes[-1].waiting_s
    stage.writer.run_once()
    assert (4, {}, 0.0) == (len(stage.rows()), stage.marks(), stage.sink.passes[-1].waiting_s)


def test_a_night_that_the_warehouse_refuses_stops_no_other_night() -> None:
    stage = Stage()
    nights = [NIGHT + timedelta(days=number) for number in range(3)]
    for night in nights:
        stage.play(DONE, night)
    stage.warehouse.refused_nights = {nights[1]}

    written = stage.writer.write()

    assert ({nights[1]}, 2, 8) == ({*stage.marks()}, written.dates, written.arrivals)
    assert isinstance(written.refused, Fatal)
    assert PAUSE_AFTER_REFUSAL_S == stage.writer.run_once(), "nothing but a refusal is left"


def test_a_night_whose_record_is_unreadable_keeps_its_mark_and_stops_no_other_night() -> None:
    stage, other = Stage(), NIGHT + timedelta(days=1)
    stage.play(DONE).play(DONE, other)
    store = stage.rig.store
    assert isinstance(store, MemoryStore)
    store._records[NIGHT] = (7, "revision", b"junk")

    stage.writer.write()

    assert ([NIGHT], {other}) == (
        [*stage.marks()],
        {arrival.analysis_date for arrival in stage.warehouse.arrivals.values()},
    )


def test_a_report_that_comes_while_its_night_is_written_keeps_the_mark() -> None:
    stage = Stage().play(DONE)
    stage.warehouse.meanwhile = lambda: stage.rig.engine.apply(NIGHT, success(CACHE, run="2", at=DEADLINE))

    stage.writer.write()
    assert (4, [NIGHT]) == (len(stage.rows()), [*stage.marks()])

    stage.writer.write()
    assert (5, {}) == (len(stage.rows()), stage.marks())


def test_a_mark_of_a_night_that_the_store_has_forgotten_goes_a_day_after_the_deadline() -> None:
    stage = Stage().play(DONE)
    store = stage.rig.store
    assert isinstance(store, MemoryStore)
    store._records.clear()
    kept = store._history.copy()
    store._history.clear()

    stage.writer.write()
    assert [NIGHT] == [*stage.marks()]
    stage.rig.clock.instant = LONG_AFTER
    stage.writer.write()
    assert ({}, []) == (stage.marks(), stage.rows())

    store._history.update(kept)
    store._arrivals[NIGHT] = 0
    stage.writer.write()
    assert sorted(in_time(*PROCESSORS, found=None, caused="join")) == stage.rows()


def test_a_pass_is_bounded_and_nights_that_do_not_settle_hide_no_other_night() -> None:
    stage = Stage()
    for number in range(MARKS_MAX):
        stage.play([(EVENING, success(CACHE))], NIGHT + timedelta(days=number))
    late = [NIGHT - timedelta(days=number + 1) for number in range(DATES_MAX + 1)]
    for night in late:
        stage.play(DONE, night)

    written = [stage.writer.write().dates for _ in range(4)]

    assert [0, DATES_MAX, 0, 1] == written
    assert {*late} == {night for night, *_rest in stage.warehouse.arrivals}


def test_a_tick_writes_the_arrivals_after_the_builds_and_never_fails_for_them() -> None:
    with Service() as service:
        service.push_all()
        service.warehouse.faults["record_arrivals"] = [Unavailable("away")]
        first = service.tick()
        assert {} == service.warehouse.arrivals
        service.tick()
        shown = service.client.get("/metrics").text

    assert ("done", {"join"}) == (
        first["built"][0]["state"],
        {row.caused for row in service.warehouse.arrivals.values()},
    )
    assert "mlfs_arrivals_written_total 4.0" in shown
    assert "mlfs_arrivals_waiting_seconds 0.0" in shown


def test_a_tick_outlives_a_store_that_goes_away_before_the_arrivals() -> None:
    with Service() as service:
        service.push_all()

        def away(_limit: int, _skip: int = 0) -> Mapping[date, int]:
            raise Unavailable("the store is away")

        service.store.unwritten_arrivals = away
        assert 0 == service.tick()["left"]


# --- whatever the order ----------------------------------------------------------------------------------------------

REPORTS = [
    completion(name, status, run=run, at=EVENING + number * MINUTE)
    for name in PROCESSORS[:3]
    for number, (status, run) in enumerate(
        [(CompletionStatus.FAILED, "0"), (CompletionStatus.SUCCESS, "1"), (CompletionStatus.SUCCESS, "2")]
    )
]


class Died(BaseException):
    """The worker is killed."""


def die() -> None:
    raise Died


@settings(max_examples=60, deadline=None)
@given(order=st.lists(st.sampled_from(REPORTS), max_size=12), seed=st.integers(0, 2**16))
def test_each_counted_report_has_one_row_whatever_the_order_and_the_crashes(order: list[Completion], seed: int) -> None:
    """Reports come in any number, passes run between them, and workers die before the marks are gone."""
    rng, stage, counted = Random(seed), Stage(), Counter[tuple[str, str, str]]()  # noqa: S311 - repeatable, not secret
    for place, report in enumerate(order):
        stage.rig.clock.instant = EVENING + place * MINUTE
        before = stage.rig.store.load(NIGHT)
        after = stage.rig.engine.apply(NIGHT, type(success(CACHE))(completion=report)).record
        if before is None or before.completions.get(report.processor) != after.completions[report.processor]:
            counted[report.processor, report.identity, str(report.status)] += 1
        if rng.random() < 0.5:
            stage.rig.clock.instant = LONG_AFTER
            if rng.random() < 0.5:
                stage.warehouse.meanwhile = die
            with suppress(Died):
                stage.new_writer().write()
    stage.rig.clock.instant = LONG_AFTER + timedelta(days=2)
    stage.warehouse.meanwhile = lambda: None
    stage.writer.write()

    assert counted.keys() == {(name, run, status) for name, run, status, *_rest in stage.rows()}
    assert ({}, {1}) == (stage.marks(), {*counted.values()} or {1})
