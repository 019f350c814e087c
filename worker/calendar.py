"""Which dates are expected, and when each one's deadline and upgrade cutoff fall.

Wall clock times belong to the league's zone and become UTC instants when a date opens, so a night on which the clocks
change has the same wall clock deadline as every other. Pure: no clock, no storage.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from statemachine.model import DateRecord, State

MonthDay = tuple[int, int]

# A processor in another zone may be a day ahead; further ahead is a wrong clock, not a night.
FUTURE_DAYS_MAX = 7
# Replicas come to midnight one after the other: the mark of the quicker one is not ahead of the other's clock.
MIDNIGHT_SLACK = timedelta(minutes=1)
# The next expected date lies within a year, or no season is set.
DAYS_AHEAD_MAX = 367


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The rhythm of one pipeline.

    Attributes:
        zone: Zone of the wall clock times.
        deadline: Wall clock time on the analysis date at which waiting ends.
        upgrade_cutoff: Wall clock time on the analysis date after which a degraded date is no longer upgraded.
        season_start: First (month, day) on which dates are expected.
        season_end: Last (month, day); may lie in the next year.
        skip_dates: Dates inside the season that are not expected.
        drain_grace: How long queued messages get before a deadline that is already past may fire.
        catch_up_days: How many missed dates are opened after a downtime, at most.
    """

    zone: ZoneInfo
    deadline: time
    upgrade_cutoff: time
    season_start: MonthDay
    season_end: MonthDay
    skip_dates: frozenset[date]
    drain_grace: timedelta
    catch_up_days: int

    def today(self, now: datetime) -> date:
        """Give the date on the league's wall clock."""
        return now.astimezone(self.zone).date()

    def expected(self, day: date) -> bool:
        """Whether completions are awaited for *day* even if nobody sends one."""
        if day in self.skip_dates:
            return False
        month_day = (day.month, day.day)
        if self.season_start <= self.season_end:
            return self.season_start <= month_day <= self.season_end
        return month_day >= self.season_start or month_day <= self.season_end

    def to_open(self, last_opened: date | None, now: datetime) -> list[date]:
        """Give the expected dates not opened yet, oldest first; the first start opens today only."""
        today = self.today(now)
        first = today
        if last_opened is not None:
            first = max(min(last_opened, today), self.before_look_back(now)) + timedelta(days=1)
        span = (today - first).days + 1
        days = (first + timedelta(days=offset) for offset in range(max(span, 0)))
        return [day for day in days if self.expected(day)]

    def latest_opened(self, now: datetime) -> date:
        """Return the latest date that can have been opened by now."""
        return self.today(now + MIDNIGHT_SLACK)

    def before_look_back(self, now: datetime) -> date:
        """Return the date before the first one that is opened after a downtime."""
        return self.today(now) - timedelta(days=self.catch_up_days + 1)

    def next_cutoff(self, now: datetime) -> datetime | None:
        """Give the first upgrade cutoff of an expected date that is not past; None where a year holds none. UTC."""
        today = self.today(now)
        for offset in range(DAYS_AHEAD_MAX):
            day = today + timedelta(days=offset)
            if self.expected(day) and (cutoff_at := self.at(day, self.upgrade_cutoff)) >= now:
                return cutoff_at
        return None

    def at(self, day: date, wall_clock: time) -> datetime:
        """Give the UTC instant of a wall clock time; one that a clock change skips or repeats is its first reading."""
        return datetime.combine(day, wall_clock, self.zone).astimezone(UTC)

    def fresh_record(self, day: date, now: datetime) -> DateRecord:
        """Give the unsaved record of a date nobody has seen.

        A date seen only after its deadline (a backfill, or the end of a downtime) gets the drain grace from now, so
        that its queued completions are read before anything falls back, and then the usual span to be upgraded in.
        """
        deadline_at = self.at(day, self.deadline)
        cutoff_at = max(self.at(day, self.upgrade_cutoff), deadline_at)
        if deadline_at < now:
            span = cutoff_at - deadline_at
            deadline_at = now + self.drain_grace
            cutoff_at = deadline_at + span
        return DateRecord(
            analysis_date=day,
            state=State.WAITING,
            opened_at=now,
            deadline_at=deadline_at,
            upgrade_cutoff_at=cutoff_at,
            wake_at=deadline_at,
        )
