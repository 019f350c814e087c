"""`mlfs recover` fills the table of arrivals with what is left of a night, and with no more than that."""

from collections.abc import Iterator
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from ops.commands.recover import _write_arrivals
from tests.support.memory_store import MemoryStore
from tests.support.nights import CALENDAR, EVERY_TABLE_FILLED, committed, success
from tests.support.reported_season import ReportedSeason
from tests.support.rigs import Rig
from worker.features.arrivals import Arrival, plan_arrivals, read_arrivals
from worker.features.model import Statement
from worker.pipelines.shipped import BLOCKS, SHIPPED

TABLE = SHIPPED.tables.arrivals


@pytest.fixture(scope="module")
def played() -> Iterator[ReportedSeason]:
    season = ReportedSeason(seed=3, nights=8)
    yield season
    season.warehouse.close()


@pytest.fixture
def season(played: ReportedSeason) -> ReportedSeason:
    """The season before anything was written to the table of arrivals."""
    with played.warehouse.writing("emptying the table") as cursor:
        cursor.execute(f"DELETE FROM {TABLE}")  # noqa: S608
    return played


def recover(season: ReportedSeason, rig: Rig) -> int:
    """What the command does once the subscription is turned back."""
    parts = SimpleNamespace(
        store=rig.store,
        warehouse=season.warehouse,
        clock=rig.clock,
        settings=SimpleNamespace(calendar=CALENDAR),
    )
    return _write_arrivals(parts, season.nights[0], season.nights[-1])  # type: ignore[arg-type]


def arrivals(season: ReportedSeason) -> tuple[Arrival, ...]:
    return read_arrivals(season.warehouse.query(plan_arrivals(season.nights[0], season.nights[-1], SHIPPED)))


def builds(season: ReportedSeason) -> dict[tuple[date, str], dict[str, Any]]:
    """The first scored attempt that found rows of a processor, by night and processor."""
    attempts = season.warehouse.query(
        Statement(name="history", sql=f"SELECT * FROM {SHIPPED.tables.history} ORDER BY generation DESC")  # noqa: S608
    )
    return {
        (attempt["analysis_date"], block.processor): dict(attempt) | {"found": attempt[f"{block.name}_rows"]}
        for attempt in attempts
        for block in BLOCKS
        if attempt[f"{block.name}_rows"]
    }


def test_of_a_lost_store_each_night_has_the_first_builds_that_found_the_tables(season: ReportedSeason) -> None:
    count = recover(season, Rig())

    found, first = arrivals(season), builds(season)
    assert {(row.analysis_date, row.processor) for row in found} == {*first}
    assert count == len(found) == len(first)
    for row in found:
        build = first[row.analysis_date, row.processor]
        assert (row.run, row.status, row.rows_found) == (f"build:{build['build_id']}", "found", build["found"])
        assert row.received_at == row.completed_at == build["started_at"]
        assert row.deadline_at == CALENDAR.at(row.analysis_date, CALENDAR.deadline)
        assert (row.rows_claimed, row.caused) == (None, None), "nothing is known of the report"


def test_a_second_recovery_adds_nothing(season: ReportedSeason) -> None:
    recover(season, Rig())
    before = arrivals(season)

    assert 0 == recover(season, Rig())
    assert before == arrivals(season)


def test_nights_of_the_store_are_written_from_their_reports_and_no_build_speaks_for_them(
    season: ReportedSeason,
) -> None:
    store = season.rig.store
    assert isinstance(store, MemoryStore)
    store._arrivals = dict.fromkeys(season.nights, 0)  # as `RedisStore.mend` marks every date

    recover(season, season.rig)

    assert {row.identity for row in arrivals(season)} == {
        (night, report.processor, report.run, report.status.value)
        for night in season.nights
        for change in store.history(night)
        for report in change.reports
    }


def test_a_restored_record_without_reports_leaves_the_word_to_the_build(season: ReportedSeason) -> None:
    """The record follows the ledger, and no completion came back; a night with a report waits for its own end."""
    rig = Rig()
    restored, waiting = sorted({night for night, _processor in builds(season)})[:2]
    rig.engine.apply(waiting, success(BLOCKS[0].processor))
    rig.engine.apply(restored, committed(rows=EVERY_TABLE_FILLED))

    recover(season, rig)

    nights = {row.analysis_date for row in arrivals(season)}
    assert (True, False) == (restored in nights, waiting in nights)
