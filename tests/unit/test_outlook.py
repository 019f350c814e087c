"""The chances of the outlook: conditional, empirical, calibrated, and silent where the nights are too few."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.events import CancelRequested
from statemachine.model import DateRecord
from tests.support.arrivals import CUTOFF_S, HABITS, SUNDAY, Habit, deadline_of, generated_season
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    DEFENSE,
    EVENING,
    NIGHT,
    POLICY,
    PROCESSORS,
    SHOTS,
    after,
    degraded,
    done,
    failure,
    retracted,
    success,
    unseen,
    waiting,
)
from worker.features.arrivals import Arrival
from worker.foresight.outlook import NIGHTS_MIN, SPAN_DAYS, Chance, Expectation, Stage, foresee, stage_of

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
OTHERS = tuple(name for name in PROCESSORS if name != CACHE)


def arrival(night: date, lateness_s: float, processor: str = CACHE, status: str = "success") -> Arrival:
    at = deadline_of(night) + timedelta(seconds=lateness_s)
    return Arrival(
        analysis_date=night,
        processor=processor,
        run=f"{status}-{lateness_s}",
        status=status,
        completed_at=at,
        received_at=at,
        lateness_s=lateness_s,
    )


def nights(lateness: Sequence[float | None], *, weekly: bool = False, until: date = NIGHT) -> list[Arrival]:
    """One night for each lateness of the cache, newest first; None for a night on which only others came."""
    days = [until - DAY * (7 if weekly else 1) * (index + 1) for index in range(len(lateness))]
    came = [arrival(day, late) for day, late in zip(days, lateness, strict=True) if late is not None]
    return [*came, *(arrival(day, -900, DEFENSE) for day in days)]


def expected(arrivals: Sequence[Arrival], now: datetime, record: DateRecord | None = None) -> Expectation:
    [found] = foresee(record or waiting(*OTHERS), arrivals, now, POLICY).expectations
    return found


def independent_interval(came: int, total: int) -> tuple[float, float]:
    """The Wilson interval as the roots of its equation, found by halving."""

    def inside(p: float) -> bool:
        return abs(came / total - p) <= 1.959964 * (p * (1 - p) / total) ** 0.5 + 1e-12

    def edge(good: float, bad: float) -> float:
        for _ in range(60):
            middle = (good + bad) / 2
            good, bad = (middle, bad) if inside(middle) else (good, middle)
        return good

    return edge(came / total, 0.0), edge(came / total, 1.0)


@given(st.integers(1, 200).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_interval_is_wilsons(counts: tuple[int, int]) -> None:
    low, high = Chance(*counts).interval

    assert (low, high) == pytest.approx(independent_interval(*counts), abs=1e-6)


def test_a_chance_rests_on_the_nights_on_which_the_processor_had_not_come_either() -> None:
    early, on_time, late, never = [-1200.0] * 8, [-60.0] * 7, [600.0] * 3, [None] * 2
    found = expected(nights([*early, *never, *on_time, *late]), DEADLINE - 10 * MINUTE)

    assert found.nights == 12
    assert (Chance(7, 12), Chance(10, 12)) == (found.by_deadline, found.by_cutoff)
    assert DEADLINE - MINUTE == found.half_by
    assert found.most_by is None


def test_after_the_deadline_the_chance_by_the_deadline_is_gone_and_only_later_nights_count() -> None:
    found = expected(nights([*[-60.0] * 20, *[300.0] * 9, *[1200.0] * 4]), DEADLINE + 10 * MINUTE, degraded(CACHE))

    assert (4, None, None) == (found.nights, found.by_deadline, found.by_cutoff), "four nights give no chance"

    found = expected(nights([300.0] * 12), DEADLINE, degraded(CACHE))
    assert (None, Chance(12, 12)) == (found.by_deadline, found.by_cutoff)


@pytest.mark.parametrize("many", range(NIGHTS_MIN + 2))
def test_too_few_nights_give_no_chance(many: int) -> None:
    found = expected(nights([60.0] * many), EVENING)

    assert many == found.nights
    assert (many >= NIGHTS_MIN) == (found.by_deadline is not None) == (found.half_by is not None)


def test_the_weekday_counts_alone_where_ten_such_nights_are_left() -> None:
    sundays = nights([1200.0] * NIGHTS_MIN, weekly=True)
    others = [arrival(NIGHT - DAY * days, -60) for days in range(1, 60) if days % 7]
    enough = expected([*sundays, *others], EVENING)
    fewer = expected([*nights([1200.0] * (NIGHTS_MIN - 1), weekly=True), *others], EVENING)

    assert ("Sunday", 10, Chance(0, 10)) == (enough.weekday, enough.nights, enough.by_deadline)
    assert ("", 60) == (fewer.weekday, fewer.nights)


def test_after_a_failure_nights_with_a_failure_count_where_there_are_enough() -> None:
    failed = after(waiting(*OTHERS), failure(CACHE), now=EVENING)
    healthy = [arrival(NIGHT - DAY * days, -60) for days in range(1, 31)]
    broken = [
        one
        for days in range(31, 31 + NIGHTS_MIN)
        for one in (
            arrival(NIGHT - DAY * days, -1800, status="failed"),
            arrival(NIGHT - DAY * days, 300),
        )
    ]
    now = EVENING + MINUTE
    few, enough = expected([*healthy, *broken[2:]], now, failed), expected([*healthy, *broken], now, failed)

    assert ("failed", True, 10, Chance(0, 10)) == (
        enough.status,
        enough.after_failure,
        enough.nights,
        enough.by_deadline,
    )
    assert ("failed", False, 39) == (few.status, few.after_failure, few.nights)
    assert not expected([*healthy, *broken], now).after_failure


def test_nights_that_were_opened_late_are_not_over_or_lie_outside_the_span_are_not_comparable() -> None:
    good = nights([60.0] * NIGHTS_MIN)
    late = [replace(one, analysis_date=one.analysis_date - 30 * DAY) for one in good]
    old = [arrival(NIGHT - DAY * days, 60) for days in range(SPAN_DAYS + 1, SPAN_DAYS + 20)]
    ahead = [arrival(NIGHT + DAY * days, 60) for days in range(3)]

    assert NIGHTS_MIN == expected([*good, *late, *old, *ahead], EVENING).nights
    assert 0 == expected(good, NIGHT_OPENED_LATE.deadline_at, NIGHT_OPENED_LATE).nights


NIGHT_OPENED_LATE = replace(degraded(CACHE), deadline_at=DEADLINE + 3 * DAY, upgrade_cutoff_at=CUTOFF + 3 * DAY)


def test_nights_before_the_first_report_of_a_processor_do_not_count_as_missing() -> None:
    older = [arrival(NIGHT - DAY * days, -60, DEFENSE) for days in range(20, 60)]

    assert NIGHTS_MIN == expected([*nights([60.0] * NIGHTS_MIN), *older], EVENING).nights
    assert 0 == expected(older, EVENING).nights


def test_a_retracted_processor_has_no_chance() -> None:
    record = after(retracted(CACHE), *(success(name) for name in OTHERS))
    found = expected(nights([60.0] * 30), EVENING, record)

    assert ("retracted", 0, None) == (found.status, found.nights, found.by_cutoff)


def test_the_first_report_that_counts_is_the_arrival() -> None:
    days = [NIGHT - DAY * number for number in range(1, NIGHTS_MIN + 1)]
    reports = [
        arrival(day, late, status=status)
        for day in days
        for late, status in (
            (-1800.0, "failed"),
            (120.0, "found"),
            (900.0, "success"),
            (5000.0, "success"),
        )
    ]

    assert DEADLINE + 2 * MINUTE == expected(reports, EVENING).half_by


@pytest.mark.parametrize(
    ("record", "now", "stage"),
    [
        (waiting(*OTHERS), EVENING, Stage.OPEN),
        (degraded(CACHE), DEADLINE, Stage.OPEN),
        (degraded(CACHE), CUTOFF, Stage.CLOSED),
        (done(), EVENING, Stage.COMPLETE),
        (after(waiting(SHOTS), CancelRequested(actor="ana", reason="no game")), EVENING, Stage.CANCELLED),
    ],
    ids=["waiting", "degraded", "closed", "complete", "cancelled"],
)
def test_only_an_open_date_has_expectations(record: DateRecord, now: datetime, stage: Stage) -> None:
    outlook = foresee(record, nights([60.0] * 20), now, POLICY)

    assert stage is outlook.stage is stage_of(record, now, POLICY)
    assert (stage is Stage.OPEN) == bool(outlook.expectations)


# The generated season. The truth comes from the closed form of the distributions, and from what then happened.

SEEDS = range(8)
WARM = 90
INSTANTS_S = (-1200.0, -300.0, 0.0, 300.0)
BINS = 10
CASES_MIN = 200


def open_record(night: date) -> DateRecord:
    deadline = deadline_of(night)
    return replace(
        unseen(night),
        analysis_date=night,
        deadline_at=deadline,
        upgrade_cutoff_at=deadline + timedelta(seconds=CUTOFF_S),
    )


def truth(habit: Habit, now_s: float, until_s: float) -> float:
    """The probability to come by *until_s* given that nothing has counted by *now_s*."""
    come = habit.chance_by(now_s)
    return (habit.chance_by(until_s) - come) / (1 - come)


@dataclass(frozen=True)
class Call:
    """A chance as called on a generated night, the true probability, and whether the processor then came."""

    processor: str
    chance: Chance
    true: float
    came: bool


def cases() -> Iterator[Call]:
    """Each call on the generated nights, for a processor that is missing at the instant."""
    for seed in SEEDS:
        season = generated_season(seed)
        came: dict[tuple[date, str], float] = {}
        for one in season:
            key = one.analysis_date, one.processor
            if one.status != "failed":
                came[key] = min(one.lateness_s, came.get(key, one.lateness_s))
        for night in sorted({one.analysis_date for one in season})[WARM::2]:
            record = open_record(night)
            for now_s in INSTANTS_S:
                outlook = foresee(record, season, record.deadline_at + timedelta(seconds=now_s), POLICY)
                for found in outlook.expectations:
                    lateness = came.get((night, found.processor), float("inf"))
                    habit = HABITS[found.processor].on(night)
                    for chance, until_s in ((found.by_deadline, 0.0), (found.by_cutoff, CUTOFF_S)):
                        if lateness > now_s and chance is not None:
                            true = truth(habit, now_s, until_s)
                            yield Call(found.processor, chance, true, came=lateness <= until_s)


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    return list(cases())


def reliability(calls: Sequence[Call]) -> Mapping[int, tuple[int, float, float]]:
    """For each tenth of the called chance: the number of calls, the share that came, and the mean true probability."""
    table: dict[int, list[Call]] = {}
    for call in calls:
        table.setdefault(round(call.chance.came / call.chance.nights * BINS), []).append(call)
    return {
        tenth: (len(rows), fmean(call.came for call in rows), fmean(call.true for call in rows))
        for tenth, rows in sorted(table.items())
    }


def test_of_the_cases_called_seventy_per_cent_sixty_to_eighty_came(
    calls: list[Call],
) -> None:
    """The same for each tenth with enough cases; what came and what the distributions say agree with the call."""
    table = reliability(calls)
    shown = "\n".join(
        f"called {ten}0 %: {many} calls, came {did:.1%}, true {true:.1%}" for ten, (many, did, true) in table.items()
    )
    judged = {ten: row for ten, row in table.items() if row[0] >= CASES_MIN}

    assert len(judged) >= 6, shown
    assert all(abs(did - ten / BINS) <= 0.1 for ten, (_, did, _) in judged.items()), shown
    assert all(abs(true - ten / BINS) <= 0.1 for ten, (_, _, true) in judged.items()), shown


def test_the_true_probability_lies_in_the_interval_of_most_calls(
    calls: list[Call],
) -> None:
    intervals = [(independent_interval(call.chance.came, call.chance.nights), call.true) for call in calls]

    assert fmean(low <= true <= high for (low, high), true in intervals) >= 0.9


@pytest.mark.parametrize("processor", HABITS)
def test_no_processor_is_called_too_often_or_too_rarely(calls: list[Call], processor: str) -> None:
    """Nights without arrival count: forgotten, they would make each call of a late processor too high."""
    mine = [call for call in calls if call.processor == processor]
    called = fmean(call.chance.came / call.chance.nights for call in mine)

    assert called == pytest.approx(fmean(call.true for call in mine), abs=0.03)
    assert called == pytest.approx(fmean(call.came for call in mine), abs=0.05)


def test_the_season_is_the_one_of_its_distributions() -> None:
    """The estimator of the test is independent of the outlook: it counts nights without any condition."""
    season = [one for seed in SEEDS for one in generated_season(seed) if one.analysis_date.weekday() != SUNDAY]
    nights_ = len({one.analysis_date for one in season}) * len(SEEDS)
    for name, habit in HABITS.items():
        for until_s in (-600.0, 0.0, 600.0, CUTOFF_S):
            by = {
                (one.run, one.analysis_date, one.received_at)
                for one in season
                if one.processor == name and one.status != "failed" and one.lateness_s <= until_s
            }
            expected_share = habit.chance_by(until_s)
            spread = (expected_share * (1 - expected_share) / nights_) ** 0.5
            assert len(by) / nights_ == pytest.approx(expected_share, abs=4 * spread + 1e-3), (name, until_s)
