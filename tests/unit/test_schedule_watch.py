"""The schedule is read from the warehouse at most once an hour, and a failure never empties what is known of it."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from tests.support.league import League
from tests.support.nights import CALENDAR, EVENING, MINUTE, NIGHT
from worker.builds.upstream import SCHEDULE_PAUSE, SCHEDULE_RETRY, ScheduleWatch, read_game_days
from worker.sweep import at_once

DAY = timedelta(days=1)
TABLE = "nba_raw.nbac_schedule"
COLUMNS = (
    "game_id VARCHAR, game_date DATE, home_team_abbreviation VARCHAR, away_team_abbreviation VARCHAR, "
    "processed_at TIMESTAMPTZ"
)


@pytest.fixture
def league() -> Iterator[League]:
    league = League()
    league.execute("CREATE SCHEMA IF NOT EXISTS nba_raw")
    league.execute(f"CREATE OR REPLACE TABLE {TABLE} ({COLUMNS})")
    yield league
    league.warehouse.close()


def plan(league: League, day: date, game: str = "", *, home: str | None = "BOS", at: datetime = EVENING) -> None:
    """Add a row of the schedule."""
    row = [game or day.isoformat(), day, home, at]
    league.execute("INSERT INTO nba_raw.nbac_schedule VALUES (?, ?, ?, 'LAL', ?)", row)


def test_days_with_a_game_are_read_and_a_row_without_teams_is_no_game(league: League) -> None:
    for day in (NIGHT, NIGHT + 200 * DAY):
        plan(league, day)
    plan(league, NIGHT + DAY, home="")
    plan(league, NIGHT + 2 * DAY, home=None)

    assert {NIGHT, NIGHT + 200 * DAY} == read_game_days(league.warehouse, CALENDAR, NIGHT)


def test_a_game_that_was_moved_leaves_no_game_behind(league: League) -> None:
    plan(league, NIGHT, "0022400001")
    plan(league, NIGHT + 5 * DAY, "0022400001", at=EVENING + MINUTE)

    assert {NIGHT + 5 * DAY} == read_game_days(league.warehouse, CALENDAR, NIGHT)


def test_the_schedule_is_read_again_after_an_hour_and_not_before(league: League) -> None:
    watch = ScheduleWatch(league.warehouse, CALENDAR, at_once)
    plan(league, NIGHT)
    assert {NIGHT} == watch.days(EVENING)
    plan(league, NIGHT + DAY)

    assert {NIGHT} == watch.days(EVENING + SCHEDULE_PAUSE - MINUTE)
    assert {NIGHT, NIGHT + DAY} == watch.days(EVENING + SCHEDULE_PAUSE)


def test_a_store_clock_that_was_far_ahead_does_not_stop_the_reading(league: League) -> None:
    watch = ScheduleWatch(league.warehouse, CALENDAR, at_once)
    watch.days(EVENING + 5000 * DAY)
    plan(league, NIGHT)

    assert {NIGHT} == watch.days(EVENING)


def test_a_schedule_that_cannot_be_read_keeps_the_days_and_is_tried_again_sooner(league: League) -> None:
    watch = ScheduleWatch(league.warehouse, CALENDAR, at_once)
    plan(league, NIGHT)
    watch.days(EVENING)
    league.execute(f"ALTER TABLE {TABLE} RENAME TO gone")
    later = EVENING + SCHEDULE_PAUSE

    with capture_logs() as logs:
        assert {NIGHT} == watch.days(later)
    league.execute(f"ALTER TABLE nba_raw.gone RENAME TO {TABLE.partition('.')[2]}")
    plan(league, NIGHT + DAY)

    assert [("warning", "schedule_not_read")] == [(line["log_level"], line["event"]) for line in logs]
    assert {NIGHT} == watch.days(later + SCHEDULE_RETRY - MINUTE)
    assert {NIGHT, NIGHT + DAY} == watch.days(later + SCHEDULE_RETRY)


def test_a_read_that_takes_long_holds_nobody_up(league: League) -> None:
    waiting: list[Callable[[], None]] = []

    def later(_day: date, act: Callable[[], None]) -> bool:
        waiting.append(act)
        return False

    watch = ScheduleWatch(league.warehouse, CALENDAR, later)
    plan(league, NIGHT)
    assert watch.days(EVENING) == frozenset()

    waiting[0]()

    assert {NIGHT} == watch.days(EVENING)
    assert len(waiting) == 1
