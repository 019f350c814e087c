"""A generated season of arrivals whose distributions are known, and the way of such rows into a warehouse."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from math import ceil, exp, floor, log
from random import Random
from statistics import NormalDist
from types import MappingProxyType
from zoneinfo import ZoneInfo

from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.features.arrivals import Arrival
from worker.pipelines.shipped import PROCESSORS

FIRST = date(2024, 10, 22)
SUNDAY = 6
ZONE = ZoneInfo("America/New_York")
DEADLINE = time(23, 25)
CUTOFF_S = 25 * 60.0
PROBE_S = 60.0
"""From the deadline to the cutoff the tables are probed each minute: rows without a report are found then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """How a processor comes: its first run ends at `begin_s` + a lognormal span, in seconds from the deadline.

    Attributes:
        begin_s: Before this lateness no run ends.
        median_s: Median of the span.
        spread: Standard deviation of the span's logarithm.
        never: Share of nights on which the table stays empty.
        failed: Share of the other nights on which the first run fails and a second, `repair_s` later, succeeds.
        silent: Share of the other nights on which rows come without a report: found by a probe, or not at all.
        repair_s: From the failed run to the success.
        on_sundays_s: Added to `begin_s` on Sundays.
    """

    begin_s: float
    median_s: float
    spread: float
    never: float = 0.0
    failed: float = 0.0
    silent: float = 0.0
    repair_s: float = 900.0
    on_sundays_s: float = 0.0

    def on(self, night: date) -> "Habit":
        """The habit of the night's weekday."""
        return replace(self, begin_s=self.begin_s + self.on_sundays_s) if night.weekday() == SUNDAY else self

    def ended_by(self, lateness_s: float) -> float:
        """The probability that the first run has ended by a lateness, on a weekday that is no Sunday."""
        span = lateness_s - self.begin_s
        return 0.0 if span <= 0 else NormalDist(log(self.median_s), self.spread).cdf(log(span))

    def chance_by(self, lateness_s: float) -> float:
        """The probability that a report or a probe has counted by a lateness, on a weekday that is no Sunday."""
        probed = min(floor(lateness_s / PROBE_S) * PROBE_S, CUTOFF_S)
        found = self.ended_by(probed) if lateness_s >= 0 else 0.0
        told = 1 - self.failed - self.silent
        counted = told * self.ended_by(lateness_s) + self.failed * self.ended_by(lateness_s - self.repair_s)
        return (1 - self.never) * (counted + self.silent * found)


PUNCTUAL = Habit(begin_s=-3600, median_s=1500, spread=0.3)
CLOSE = Habit(begin_s=-1800, median_s=1500, spread=0.5, failed=0.1)
LATE = Habit(begin_s=-900, median_s=1200, spread=0.8, never=0.1, failed=0.05, silent=0.1)
SUNDAY_LATE = Habit(begin_s=-2400, median_s=1800, spread=0.4, never=0.02, on_sundays_s=1500)
HABITS: Mapping[str, Habit] = MappingProxyType(dict(zip(PROCESSORS, (PUNCTUAL, CLOSE, LATE, SUNDAY_LATE), strict=True)))


def deadline_of(night: date) -> datetime:
    """The deadline of a night, on the wall clock of the league: a change of the clock moves it in UTC."""
    return datetime.combine(night, DEADLINE, tzinfo=ZONE)


def generated_season(
    seed: int, nights: int = 180, *, first: date = FIRST, habits: Mapping[str, Habit] = HABITS
) -> list[Arrival]:
    """The arrivals of consecutive nights, by analysis date and instant; the same for the same seed."""
    random = Random(seed)  # noqa: S311 -- the same season for the same seed
    season: list[Arrival] = []
    for day in range(nights):
        night = first + timedelta(days=day)
        reports = [report for name, habit in habits.items() for report in _reports(random, night, name, habit)]
        season += _with_causes(sorted(reports, key=lambda report: report.received_at), len(habits))
    return season


def _reports(random: Random, night: date, processor: str, habit: Habit) -> Iterator[Arrival]:
    """The reports of a processor on a night. Every night draws the same number of figures."""
    fate, never, normal, rows = random.random(), random.random(), random.gauss(0, 1), random.randint(380, 450)
    mine = habit.on(night)
    ended_s = mine.begin_s + exp(log(mine.median_s) + mine.spread * normal)
    if never < mine.never:
        return
    if fate < mine.failed:
        yield _arrival(night, processor, "failed", ended_s, None)
        yield _arrival(night, processor, "success", ended_s + mine.repair_s, rows)
    elif fate < mine.failed + mine.silent:
        probed_s = max(0.0, ceil(ended_s / PROBE_S) * PROBE_S)
        if probed_s <= CUTOFF_S:
            yield _arrival(night, processor, "found", probed_s, rows)
    else:
        yield _arrival(night, processor, "success", ended_s, rows)


def _arrival(night: date, processor: str, status: str, lateness_s: float, rows: int | None) -> Arrival:
    at = deadline_of(night).astimezone(UTC) + timedelta(seconds=lateness_s)
    return Arrival(
        analysis_date=night,
        processor=processor,
        run=f"probe:{at.isoformat()}" if status == "found" else f"{processor}-{night.isoformat()}-{status}",
        status=status,
        completed_at=at - timedelta(seconds=2),
        received_at=at,
        lateness_s=lateness_s,
        rows_claimed=rows,
        rows_found=rows,
    )


def _with_causes(reports: Sequence[Arrival], processors: int) -> Iterator[Arrival]:
    """The reports of a night, each with the generation that it started: the join, or an upgrade up to the cutoff."""
    counted: set[str] = set()
    for report in reports:
        before = len(counted)
        if report.status != "failed":
            counted.add(report.processor)
        if len(counted) == before:
            yield report
        elif report.lateness_s <= 0:
            yield replace(report, caused="join" if len(counted) == processors else None)
        else:
            yield replace(report, caused="upgrade" if report.lateness_s <= CUTOFF_S else None)


def store_arrivals(warehouse: DuckDbWarehouse, arrivals: Sequence[Arrival]) -> None:
    """Append arrivals to the table of a warehouse whose tables exist, by one statement."""
    columns = {name: [getattr(arrival, name) for arrival in arrivals] for name in Arrival.__dataclass_fields__}
    names, values = ", ".join(columns), ", ".join("unnest(?)" for _ in columns)
    table = warehouse.pipeline.tables.arrivals
    with warehouse.writing("storing arrivals") as cursor:
        cursor.execute(f"INSERT INTO {table} ({names}) SELECT {values}", list(columns.values()))
