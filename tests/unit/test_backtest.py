"""What a backtest takes from recorded arrivals, and how nights become figures and a plot."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.reports.backtest_plot import TICKS_MAX, axis, plot
from statemachine.model import CompletionStatus, State, Trigger
from tests.support.nights import CACHE, CALENDAR, POLICY, PROCESSORS
from worker.calendar import WallClock
from worker.features.arrivals import Arrival
from worker.foresight.backtest import (
    Ending,
    Night,
    NotPlayed,
    PlayedBuild,
    PlayedNight,
    Rules,
    filled_at,
    nights_of,
    play_night,
)
from worker.foresight.backtest_figures import (
    SWEEP_MINUTES,
    figures_of,
    play_all,
    seconds_of,
    sweep,
    wall_clock,
)
from worker.foresight.estimated_builds import BUILD_S_DEFAULT, RecordedBuild, estimate_builds
from worker.pipelines.shipped import SHIPPED

NIGHT = date(2024, 12, 15)
DEADLINE_AT = CALENDAR.at(NIGHT, CALENDAR.deadline)
SLA = CALENDAR.upgrade_cutoff
RULES = Rules(policy=POLICY, calendar=CALENDAR)
ESTIMATES = estimate_builds(SHIPPED, [])
ALL, NONE = frozenset(PROCESSORS), frozenset[str]()
SUCCESS, FOUND, FAILED = CompletionStatus.SUCCESS, CompletionStatus.FOUND, CompletionStatus.FAILED
LOOK = POLICY.look_every


def arrival(
    processor: str,
    status: CompletionStatus = SUCCESS,
    *,
    minutes: float = -30,
    claimed: int | None = 400,
    found: int | None = 400,
    night: date = NIGHT,
) -> Arrival:
    """A report that ends a second before it is received, *minutes* after the deadline."""
    at = CALENDAR.at(night, CALENDAR.deadline) + timedelta(minutes=minutes)
    return Arrival(
        analysis_date=night,
        processor=processor,
        run=f"{processor}-{minutes}",
        status=status.value,
        completed_at=at - timedelta(seconds=1),
        received_at=at,
        lateness_s=minutes * 60,
        rows_claimed=claimed,
        rows_found=found,
    )


def played(reports: Sequence[Arrival], rules: Rules = RULES) -> PlayedNight:
    ordered = tuple(sorted(reports, key=lambda report: report.received_at))
    return play_night(Night(analysis_date=NIGHT, arrivals=ordered), rules, ESTIMATES)


def under(deadline: str, cutoff: str = "23:50") -> Rules:
    calendar = replace(CALENDAR, deadline=WallClock.read(deadline), upgrade_cutoff=WallClock.read(cutoff))
    return replace(RULES, calendar=calendar)


# --- the play ------------------------------------------------------------------------------------------------------


def test_a_night_whose_reports_come_in_time_is_done_one_build_after_the_last_report() -> None:
    reports = [arrival(name, minutes=-30 + place) for place, name in enumerate(PROCESSORS)]

    night = played(reports)

    [build] = night.builds
    assert (night.ending, build.trigger) == (Ending.DONE, Trigger.JOIN)
    assert build.committed_at == reports[-1].received_at + timedelta(seconds=BUILD_S_DEFAULT)
    assert build.score_lost == 0


@pytest.mark.parametrize(
    ("deadline", "ending", "triggers"),
    [
        ("23:10", Ending.UPGRADED, [Trigger.DEADLINE, Trigger.UPGRADE]),
        ("23:25", Ending.UPGRADED, [Trigger.DEADLINE, Trigger.UPGRADE]),
        ("23:40", Ending.DONE, [Trigger.JOIN]),
    ],
)
def test_a_report_ten_minutes_late_needs_an_upgrade_unless_the_deadline_is_later(
    deadline: str, ending: Ending, triggers: list[Trigger]
) -> None:
    late = [arrival(name) for name in PROCESSORS[1:]] + [arrival(PROCESSORS[0], minutes=10)]

    night = played(late, under(deadline))

    assert (night.ending, [build.trigger for build in night.builds]) == (ending, triggers)


def test_a_report_after_the_tried_cutoff_leaves_the_night_degraded() -> None:
    late = [arrival(name) for name in PROCESSORS[1:]] + [arrival(PROCESSORS[0], minutes=10)]

    assert played(late, under("23:20", "23:30")).ending is Ending.DEGRADED


def test_rows_that_a_probe_found_are_found_within_half_a_pause_of_the_recorded_probe() -> None:
    silent = [arrival(name) for name in PROCESSORS[1:]] + [arrival(PROCESSORS[0], FOUND, minutes=3)]

    first, second = played(silent).builds

    assert first.state is State.DEGRADED
    found_at = second.committed_at - timedelta(seconds=BUILD_S_DEFAULT)
    assert abs(found_at - silent[-1].received_at) <= LOOK / 2


def test_a_night_below_the_gate_fails_and_is_no_publication() -> None:
    small = replace(ESTIMATES, row_count=SHIPPED.quality.rows_min - 1)

    night = play_night(Night(analysis_date=NIGHT, arrivals=(arrival(PROCESSORS[0]),)), RULES, small)

    assert (night.ending, night.state, night.builds) == (Ending.FAILED, State.FAILED, ())


def test_a_date_that_no_calendar_expects_is_opened_by_the_first_report() -> None:
    late = Night(analysis_date=NIGHT, arrivals=(arrival(PROCESSORS[0], minutes=20),), expected=False)

    [build] = play_night(late, RULES, ESTIMATES).builds

    assert build.committed_at > late.arrivals[0].received_at + CALENDAR.drain_grace


# --- the tables ------------------------------------------------------------------------------------------------------

NAME = PROCESSORS[0]


@pytest.mark.parametrize(
    ("reports", "since"),
    [
        ([arrival(NAME)], arrival(NAME).completed_at),
        ([arrival(NAME, found=None)], arrival(NAME).completed_at),
        ([arrival(NAME, claimed=None, found=None)], arrival(NAME).completed_at),
        ([arrival(NAME, found=0)], None),
        ([arrival(NAME, claimed=0, found=None)], None),
        ([arrival(NAME, FOUND, minutes=2)], arrival(NAME, minutes=2).received_at - LOOK / 2),
        ([arrival(NAME, FAILED, found=None)], None),
        ([arrival(NAME, FAILED, found=0)], None),
        ([arrival(NAME, FAILED)], arrival(NAME).completed_at),
        ([arrival(NAME, FAILED), arrival(NAME, minutes=5)], arrival(NAME, minutes=5).completed_at),
        ([arrival(NAME, found=0), arrival(NAME, minutes=5)], arrival(NAME, minutes=5).completed_at),
        ([arrival(NAME), arrival(NAME, minutes=5)], arrival(NAME).completed_at),
        ([replace(arrival(NAME), completed_at=DEADLINE_AT + timedelta(days=1))], arrival(NAME).received_at),
    ],
)
def test_a_table_holds_rows_from_the_first_run_whose_rows_are_known(
    reports: list[Arrival], since: datetime | None
) -> None:
    assert filled_at(reports, LOOK) == ({} if since is None else {NAME: since})


# --- the nights ------------------------------------------------------------------------------------------------------


def test_every_expected_night_is_played_or_left_out_with_a_reason() -> None:
    days = [NIGHT + timedelta(days=offset) for offset in range(5)]
    calendar = CALENDAR.with_games(frozenset({*days[:4], days[4] + timedelta(days=1)}))
    recovered = replace(arrival(NAME, FOUND, night=days[3]), run=f"build:{days[3]}-g1-a1")
    arrivals = [arrival(NAME, night=days[0]), arrival(NAME, night=days[2], minutes=24 * 60), recovered]

    nights, left_out = nights_of(arrivals, calendar, days[0], days[4])

    assert [(night.analysis_date, night.arrivals) for night in nights] == [(days[0], (arrivals[0],))]
    assert left_out == {
        days[1]: NotPlayed.NO_ARRIVALS,
        days[2]: NotPlayed.AFTER_THE_NIGHT,
        days[3]: NotPlayed.ONLY_BUILDS,
    }


# --- the estimates ---------------------------------------------------------------------------------------------------


def test_without_a_recorded_build_fewer_tables_never_score_more() -> None:
    scores = {
        frozenset(some): ESTIMATES.report(frozenset(some), NONE).quality_score
        for size in range(len(ALL) + 1)
        for some in combinations(PROCESSORS, size)
    }

    assert scores[ALL] == 100.0
    assert scores[frozenset()] == 75.0
    assert all(scores[few] <= scores[many] for few in scores for many in scores if few <= many)


def test_recorded_builds_set_score_rows_and_duration() -> None:
    fewer = ALL - {NAME}
    builds = [
        RecordedBuild(filled=fewer, row_count=rows, quality_score=score, duration_s=seconds)
        for rows, score, seconds in ((430, 91, 1.0), (450, 93, 2.0), (440, 92, 9.0))
    ]

    estimates = estimate_builds(SHIPPED, builds)

    assert estimates.report(fewer, NONE).quality_score == 92
    assert estimates.report(fewer, NONE).earned_state is State.DEGRADED
    assert (estimates.row_count, estimates.build_s, estimates.builds) == (440, 2.0, 3)
    assert estimates.score_lost(92) == pytest.approx(8)


def test_an_absent_optional_processor_costs_no_point_whatever_was_recorded_without_the_rule() -> None:
    fewer = ALL - {CACHE}
    recorded = [
        RecordedBuild(filled=fewer, row_count=430, quality_score=91, duration_s=2.0),
        RecordedBuild(filled=ALL, row_count=430, quality_score=98, duration_s=2.0),
    ]
    estimates = estimate_builds(SHIPPED, recorded)

    reports = [estimates.report(filled, frozenset({CACHE})) for filled in (fewer, ALL)]

    assert [report.earned_state for report in reports] == [State.DONE, State.DONE]
    assert [report.quality_score for report in reports] == [100.0, 98]


# --- the figures -----------------------------------------------------------------------------------------------------


def night_of(day: date, *builds: tuple[str, State]) -> PlayedNight:
    """A night with publications at wall clock times."""
    made = tuple(
        PlayedBuild(
            generation=place,
            trigger=Trigger.JOIN,
            committed_at=CALENDAR.at(day, WallClock.read(at)),
            state=state,
            quality_score=90.0,
            score_lost=10.0 if state is State.DEGRADED else 0.0,
        )
        for place, (at, state) in enumerate(builds, 1)
    )
    state = builds[-1][1] if builds else State.FAILED
    return PlayedNight(analysis_date=day, state=state, generations=len(builds), builds=made)


def test_each_night_counts_once_and_a_failed_night_is_not_late() -> None:
    days = [NIGHT + timedelta(days=offset) for offset in range(5)]
    nights = [
        night_of(days[0], ("22:00", State.DONE)),
        night_of(days[1], ("23:25", State.DEGRADED), ("23:40", State.DONE)),
        night_of(days[2], ("23:25", State.DEGRADED)),
        night_of(days[3], ("23:51", State.DEGRADED)),
        night_of(days[4]),
    ]

    figures = figures_of(nights, CALENDAR, SLA)

    assert (figures.nights, figures.done, figures.upgraded, figures.degraded, figures.failed) == (5, 1, 1, 2, 1)
    assert (figures.first_degraded, figures.late) == (3, 1)
    assert (figures.first_score_lost, figures.score_lost) == (7.5, 5.0)
    assert figures.published_p50_s == seconds_of(WallClock.read("23:25"))


def test_a_change_of_the_clock_moves_no_time_of_publication() -> None:
    winter, change = date(2024, 11, 2), date(2024, 11, 3)

    figures = figures_of([night_of(day, ("23:30", State.DONE)) for day in (winter, change)], CALENDAR, SLA)

    assert figures.published_p50_s == figures.published_p95_s == seconds_of(WallClock.read("23:30"))


def test_a_span_without_a_publication_has_no_times_and_no_scores() -> None:
    figures = figures_of([night_of(NIGHT)], CALENDAR, SLA)

    assert (figures.published_p50_s, figures.published_p95_s, figures.score_lost) == (None, None, None)


@given(st.integers(0, 8 * 24 * 3600))
def test_a_wall_clock_time_and_its_seconds_are_the_same_thing(seconds: int) -> None:
    assert seconds_of(wall_clock(seconds)) == seconds


# --- the plot --------------------------------------------------------------------------------------------------------


def test_the_plot_shows_each_deadline_and_each_mark() -> None:
    night = Night(analysis_date=NIGHT, arrivals=tuple(arrival(name) for name in PROCESSORS))
    points = sweep([night], RULES, ESTIMATES, SLA)

    marks = {"today": CALENDAR.deadline, "tried": WallClock(1, time(6))}
    drawn = ElementTree.fromstring(plot(points, marks, "Nights"))  # noqa: S314 - our own document

    dots = drawn.findall(".//{*}circle")
    texts = [text.text for text in drawn.findall(".//{*}text")]
    assert len(points) == len(SWEEP_MINUTES)
    assert len(dots) == 4 * len(points) + 4
    assert {str(point.deadline) for point in points[::2]} <= {*texts}
    assert texts.count("today") == 2
    assert "tried" not in texts, "the mark lies outside the plot"


@given(st.lists(st.floats(0, 90_000), min_size=1), st.sampled_from([(0.01, 0.25), (10.0, 60.0, 3600.0)]))
def test_an_axis_includes_every_value_in_even_distances(values: list[float], steps: tuple[float, ...]) -> None:
    values = [value % 1 for value in values] if steps[-1] < 1 else values

    ticks = axis(values, steps)

    assert len(ticks) >= 2
    assert ticks[0] <= min(values) + 1e-6
    assert ticks[-1] >= max(values) - 1e-6
    assert len(ticks) <= TICKS_MAX or ticks[1] - ticks[0] == pytest.approx(steps[-1])


def test_the_nights_are_counted_while_they_are_played() -> None:
    counted: list[None] = []
    night = Night(analysis_date=NIGHT, arrivals=(arrival(NAME),))

    play_all([night, night], RULES, ESTIMATES, lambda: counted.append(None))

    assert len(counted) == 2
