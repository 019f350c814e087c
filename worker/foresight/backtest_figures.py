"""Figures of a backtest: endings, instants of publication and lost score over the nights of a span. Pure.

Instants of publication are compared as wall clock times in the league's zone, in seconds from the midnight that begins
the analysis date, so that a change of the clock moves no figure.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time
from statistics import fmean, quantiles

from statemachine.model import State
from worker.calendar import Calendar, WallClock
from worker.foresight.backtest import Ending, Night, PlayedNight, Rules, play_night
from worker.foresight.estimated_builds import BuildEstimates

MINUTE_S, MINUTES_PER_HOUR, HOURS_PER_DAY = 60, 60, 24
SCORE_DIGITS = 2
# Deadlines on the axis of the plot, in minutes from the deadline of the tried rules.
SWEEP_MINUTES = tuple(range(-30, 30, 5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Totals of the played nights under one set of rules.

    Attributes:
        nights: Played nights.
        done: Published from all tables at once.
        upgraded: Published degraded, later published from all tables.
        degraded: The last publication is degraded.
        failed: Nothing was published.
        first_degraded: The first publication is degraded.
        late: The first publication came after the SLA. A failed night is not late.
        published_p50_s: Median of the first publication, wall clock seconds from midnight; None without a publication.
        published_p95_s: 95th percentile (interpolated), likewise.
        first_score_lost: Mean points that the first publication lacks to a build from all tables.
        score_lost: Mean points that the last publication lacks, likewise.
    """

    nights: int
    done: int
    upgraded: int
    degraded: int
    failed: int
    first_degraded: int
    late: int
    published_p50_s: float | None
    published_p95_s: float | None
    first_score_lost: float | None
    score_lost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """Deadline of the plot, with the figures under this deadline."""

    deadline: WallClock
    figures: Figures


def play_all(
    nights: Sequence[Night],
    rules: Rules,
    estimates: BuildEstimates,
    played: Callable[[], object] = lambda: None,
) -> list[PlayedNight]:
    """Return the end of each night under *rules*; call *played* after each night."""
    results = []
    for night in nights:
        results.append(play_night(night, rules, estimates))
        played()
    return results


def figures_of(results: Sequence[PlayedNight], calendar: Calendar, sla: WallClock) -> Figures:
    """Return the totals of played nights.

    Args:
        results: The nights.
        calendar: Calendar with the zone of the wall clock times.
        sla: Wall clock time by which a night must be published.
    """
    endings = Counter(result.ending for result in results)
    published = [result for result in results if result.builds]
    firsts = [wall_seconds(result, calendar) for result in published]
    cuts = quantiles(firsts, n=20, method="inclusive") if len(firsts) > 1 else firsts * 19
    return Figures(
        nights=len(results),
        done=endings[Ending.DONE],
        upgraded=endings[Ending.UPGRADED],
        degraded=endings[Ending.DEGRADED],
        failed=endings[Ending.FAILED],
        first_degraded=sum(result.builds[0].state is State.DEGRADED for result in published),
        late=sum(result.builds[0].committed_at > calendar.at(result.analysis_date, sla) for result in published),
        published_p50_s=cuts[9] if cuts else None,
        published_p95_s=cuts[18] if cuts else None,
        first_score_lost=_mean([result.builds[0].score_lost for result in published]),
        score_lost=_mean([result.builds[-1].score_lost for result in published]),
    )


def wall_seconds(result: PlayedNight, calendar: Calendar) -> float:
    """Return the wall clock time of the first publication, in seconds from the midnight that begins the date."""
    local = result.builds[0].committed_at.astimezone(calendar.zone).replace(tzinfo=None)
    return (local - datetime.combine(result.analysis_date, time(0))).total_seconds()


def wall_clock(seconds: float) -> WallClock:
    """Return the wall clock time of *seconds* from midnight, rounded to a second; an earlier day counts as midnight."""
    minutes, second = divmod(max(0, round(seconds)), MINUTE_S)
    hours, minute = divmod(minutes, MINUTES_PER_HOUR)
    days, hour = divmod(hours, HOURS_PER_DAY)
    return WallClock(days, time(hour, minute, second))


def seconds_of(wall: WallClock) -> int:
    """Return the seconds from the midnight that begins the analysis date to a wall clock time."""
    hours = wall.days * HOURS_PER_DAY + wall.at.hour
    return (hours * MINUTES_PER_HOUR + wall.at.minute) * MINUTE_S + wall.at.second


def sweep(
    nights: Sequence[Night],
    rules: Rules,
    estimates: BuildEstimates,
    sla: WallClock,
    played: Callable[[], object] = lambda: None,
) -> list[SweepPoint]:
    """Return the figures for deadlines around the deadline of *rules*, earliest first.

    A deadline after the cutoff moves the cutoff to the deadline, as the calendar does.
    """
    points = []
    for minutes in SWEEP_MINUTES:
        deadline = wall_clock(seconds_of(rules.calendar.deadline) + minutes * MINUTE_S)
        tried = replace(rules, calendar=replace(rules.calendar, deadline=deadline))
        results = play_all(nights, tried, estimates, played)
        points.append(SweepPoint(deadline=deadline, figures=figures_of(results, rules.calendar, sla)))
    return points


def _mean(points: Sequence[float]) -> float | None:
    return round(fmean(points), SCORE_DIGITS) if points else None
