"""Which nights are expected, and when their deadlines fall in UTC, on every kind of night."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.model import State
from tests.support.nights import CALENDAR, CUTOFF, DEADLINE, EVENING, MORNING, NIGHT, SECOND
from worker.calendar import DAY_WORDS, WallClock
from worker.errors import TwoDates

DAY = timedelta(days=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("night", "deadline"),
    [
        (date(2024, 11, 2), "2024-11-03T03:25:00"),
        (date(2024, 11, 3), "2024-11-04T04:25:00"),
        (date(2024, 12, 15), "2024-12-16T04:25:00"),
        (date(2025, 3, 8), "2025-03-09T04:25:00"),
        (date(2025, 3, 9), "2025-03-10T03:25:00"),
    ],
)
def test_the_deadline_is_at_the_same_wall_clock_time_also_when_the_clocks_change(night: date, deadline: str) -> None:
    assert utc(deadline) == CALENDAR.at(night, CALENDAR.deadline)


@pytest.mark.parametrize(
    ("night", "wall_clock", "instant"),
    [
        (date(2024, 11, 3), "01:30", "2024-11-03T05:30:00"),
        (date(2025, 3, 9), "02:30", "2025-03-09T07:30:00"),
    ],
    ids=["repeated", "skipped"],
)
def test_a_wall_clock_time_that_is_repeated_or_skipped_has_its_first_reading(
    night: date, wall_clock: str, instant: str
) -> None:
    assert utc(instant) == CALENDAR.at(night, WallClock.read(wall_clock))


@pytest.mark.parametrize(
    ("instant", "today"),
    [
        ("2024-12-16T04:59:59", date(2024, 12, 15)),
        ("2024-12-16T05:00:00", date(2024, 12, 16)),
        ("2025-07-01T03:59:59", date(2025, 6, 30)),
    ],
)
def test_the_leagues_day_is_not_the_utc_one(instant: str, today: date) -> None:
    assert today == CALENDAR.league_day(utc(instant))


CLOCKS_FALL_BACK, CLOCKS_SPRING_FORWARD = date(2024, 11, 3), date(2025, 3, 9)
MOMENTS = ("00:00:00", "05:59:59", "06:00:00", "11:59:59", "12:00:00", "23:59:59")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("day", [NIGHT, CLOCKS_FALL_BACK, CLOCKS_SPRING_FORWARD], ids=str)
def test_until_noon_today_and_tonight_are_the_date_before(day: date, moment: str) -> None:
    now = CALENDAR.at(day, WallClock(0, time.fromisoformat(moment)))
    tonight = day if moment >= "12:00:00" else day - DAY

    named = {word: CALENDAR.named_day(word, now) for word in DAY_WORDS}

    assert {"today": tonight, "tonight": tonight, "yesterday": tonight - DAY} == named
    assert (day, day - DAY) == (CALENDAR.league_day(now), CALENDAR.last_night(now))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("day", [NIGHT, CLOCKS_FALL_BACK, CLOCKS_SPRING_FORWARD], ids=str)
def test_a_change_of_today_between_midnight_and_six_asks_which_of_two_dates(day: date, moment: str) -> None:
    now = CALENDAR.at(day, WallClock(0, time.fromisoformat(moment)))

    for word in ("today", "tonight"):
        if moment < "06:00:00":
            with pytest.raises(TwoDates, match=f"{day - DAY:%A} {day - DAY}.*{day:%A} {day}.*write the date") as asked:
                CALENDAR.day_to_change(word, now)
            assert (day - DAY, day) == asked.value.dates
        else:
            assert CALENDAR.named_day(word, now) == CALENDAR.day_to_change(word, now)
    assert CALENDAR.named_day("yesterday", now) == CALENDAR.day_to_change("yesterday", now)


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_the_sweep_opens_goes_by_the_leagues_day(moment: str) -> None:
    assert [NIGHT] == CALENDAR.to_open(None, CALENDAR.at(NIGHT, WallClock(0, time.fromisoformat(moment))))


@pytest.mark.parametrize(
    ("night", "expected"),
    [
        (date(2024, 10, 14), False),
        (date(2024, 10, 15), True),
        (date(2024, 12, 31), True),
        (date(2025, 1, 1), True),
        (date(2025, 6, 30), True),
        (date(2025, 7, 1), False),
    ],
)
def test_a_season_reaches_across_the_new_year(night: date, expected: bool) -> None:
    assert expected is CALENDAR.expected(night)


@pytest.mark.parametrize(("night", "expected"), [(date(2024, 3, 1), True), (date(2024, 9, 30), True), (NIGHT, False)])
def test_a_season_may_lie_within_one_year(night: date, expected: bool) -> None:
    summer = replace(CALENDAR, season_start=(3, 1), season_end=(9, 30))

    assert expected is summer.expected(night)


def test_a_skipped_date_is_neither_expected_nor_opened() -> None:
    rested = replace(CALENDAR, skip_dates=frozenset({NIGHT - DAY}))

    assert rested.expected(NIGHT - DAY) is False
    assert [NIGHT - 2 * DAY, NIGHT] == rested.to_open(NIGHT - 3 * DAY, EVENING)


ALL_STAR = frozenset({date(2025, 2, 13), date(2025, 2, 20)})
PLAYOFFS = frozenset({date(2025, 7, 2)})


@pytest.mark.parametrize(
    ("games", "day", "expected"),
    [
        # A week without games, known from the games around it.
        *((ALL_STAR, date(2025, 2, number), number in {13, 20}) for number in range(13, 21) if number != 17),
        # The last game lies more than three days back, and no later one is known: the schedule may have ended.
        ({date(2025, 2, 13)}, date(2025, 2, 16), False),
        ({date(2025, 2, 13)}, date(2025, 2, 17), True),
        (PLAYOFFS, date(2025, 7, 2), True),
        (PLAYOFFS, date(2025, 6, 30), False),
        (PLAYOFFS, date(2025, 7, 20), False),
    ],
)
def test_a_day_is_expected_for_its_game_where_the_schedule_is_known(
    games: set[date], day: date, expected: bool
) -> None:
    assert expected is CALENDAR.with_games(frozenset(games)).expected(day)


def test_the_next_sla_and_the_dates_to_open_jump_over_days_without_a_game() -> None:
    rested = CALENDAR.with_games(ALL_STAR | {date(2025, 2, 17)})
    now = utc("2025-02-14T12:00:00")

    assert rested.next_cutoff(now) == CALENDAR.at(date(2025, 2, 17), CALENDAR.upgrade_cutoff)
    assert rested.to_open(date(2025, 2, 12), utc("2025-02-18T12:00:00")) == [date(2025, 2, 13), date(2025, 2, 17)]


def test_a_skipped_date_is_not_expected_for_all_its_games() -> None:
    assert replace(CALENDAR, skip_dates=frozenset({NIGHT}), game_days=frozenset({NIGHT})).expected(NIGHT) is False


def test_the_first_start_opens_tonight_only() -> None:
    assert [NIGHT] == CALENDAR.to_open(None, EVENING)


def test_out_of_season_nothing_is_opened() -> None:
    assert CALENDAR.to_open(None, utc("2025-07-15T12:00:00")) == []


@pytest.mark.parametrize("ahead", [0, 1, 30])
def test_what_was_opened_is_not_opened_again_even_if_the_clock_goes_back(ahead: int) -> None:
    assert CALENDAR.to_open(NIGHT + ahead * DAY, EVENING) == []


def test_a_mark_that_is_no_possible_date_to_come_opens_nothing_and_raises_nothing() -> None:
    assert CALENDAR.to_open(date.max, EVENING) == []


def test_a_mark_is_ahead_when_it_lies_after_tonight_and_midnight_is_not_near() -> None:
    midnight = utc("2024-12-16T05:00:00")

    assert NIGHT == CALENDAR.latest_opened(EVENING)
    assert NIGHT + DAY == CALENDAR.latest_opened(midnight - SECOND)


def test_missed_nights_are_opened_oldest_first() -> None:
    assert [NIGHT - 2 * DAY, NIGHT - DAY, NIGHT] == CALENDAR.to_open(NIGHT - 3 * DAY, EVENING)


@given(missed_days=st.integers(0, 3000), catch_up_days=st.integers(0, 60))
def test_catching_up_is_bounded(missed_days: int, catch_up_days: int) -> None:
    calendar = replace(CALENDAR, catch_up_days=catch_up_days)

    nights = calendar.to_open(NIGHT - missed_days * DAY, EVENING)

    assert len(nights) <= min(missed_days, catch_up_days + 1)
    assert nights == sorted(set(nights))
    assert all(NIGHT - catch_up_days * DAY <= night <= NIGHT for night in nights)


def test_a_fresh_date_waits_for_its_deadline() -> None:
    record = CALENDAR.fresh_record(NIGHT, MORNING)

    assert (State.WAITING, 0, 0) == (record.state, record.version, record.generation)
    assert (MORNING, DEADLINE, CUTOFF, DEADLINE) == (
        record.opened_at,
        record.deadline_at,
        record.upgrade_cutoff_at,
        record.wake_at,
    )


def test_a_date_opened_after_its_deadline_gets_the_grace_and_then_the_usual_span() -> None:
    late = DEADLINE + 30 * DAY

    record = CALENDAR.fresh_record(NIGHT, late)

    assert late + CALENDAR.drain_grace == record.deadline_at == record.wake_at
    assert CUTOFF - DEADLINE == record.upgrade_cutoff_at - record.deadline_at


def test_the_deadline_itself_is_not_late() -> None:
    assert CALENDAR.fresh_record(NIGHT, DEADLINE).deadline_at == DEADLINE
    assert CALENDAR.fresh_record(NIGHT, DEADLINE + SECOND).deadline_at > DEADLINE


@given(
    night=st.dates(date(2000, 1, 1), date(2100, 1, 1)),
    now=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds
)
def test_every_night_has_a_deadline_ahead_and_a_cutoff_behind_it(night: date, now: datetime) -> None:
    record = CALENDAR.fresh_record(night, now)

    assert now <= record.deadline_at <= record.upgrade_cutoff_at
    assert timedelta(0) == record.deadline_at.utcoffset()


def test_a_cutoff_after_midnight_is_still_to_come_on_the_next_day() -> None:
    calendar = replace(CALENDAR, deadline=WallClock.read("00:30+1d"), upgrade_cutoff=WallClock.read("01:00+1d"))

    assert calendar.next_cutoff(utc("2024-12-16T05:45:00")) == utc("2024-12-16T06:00:00")
    assert calendar.next_cutoff(utc("2024-12-16T06:00:01")) == utc("2024-12-17T06:00:00")


@pytest.mark.parametrize("text", ["23:25", "12:00", "00:30+1d", "11:40+0d", "23:25:30", "23:59+7d"])
def test_a_wall_clock_time_is_written_as_it_is_read(text: str) -> None:
    assert str(WallClock.read(text)) == text


def test_wall_clock_times_are_ordered_by_day_and_time() -> None:
    texts = ["11:40+0d", "23:25", "23:50", "00:30+1d", "23:00+1d"]

    assert sorted(map(WallClock.read, reversed(texts))) == [WallClock.read(text) for text in texts]


@pytest.mark.parametrize(("day", "beside"), [(date.min, date(1, 1, 2)), (date.max, date(9999, 12, 30))])
def test_the_ends_of_the_calendar_are_days_like_others(day: date, beside: date) -> None:
    assert CALENDAR.with_games(frozenset({day})).expected(day)
    assert not CALENDAR.with_games(frozenset({beside})).expected(day)
