"""Which dates are expected, when each one's deadline and upgrade cutoff fall, and which date a word like `today` names.

Wall clock times belong to the league's zone and become UTC instants when a date opens, so a night on which the clocks
change has the same wall clock deadline as every other. Two readings of "now" are kept apart: dates open by the league's
day, which changes at midnight; people and schedulers name dates by the night, which changes at noon. Pure: no clock, no
storage.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from statemachine.model import DateRecord, State
from worker.errors import TwoDates

MonthDay = tuple[int, int]
NOON = time(12)
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?")
# A week, so that the date is over before its slot in the season comes again.
_DAYS = re.compile(r"[0-7]d")

# A processor in another zone may be a day ahead; further ahead is a wrong clock, not a night.
FUTURE_DAYS_MAX = 7
# Replicas come to midnight one after the other: the mark of the quicker one is not ahead of the other's clock.
MIDNIGHT_SLACK = timedelta(minutes=1)
# The next expected date lies within a year, or no season is set.
DAYS_AHEAD_MAX = 367
# The words that commands, routes and pages accept in the place of an analysis date.
DAY_WORDS = ("today", "tonight", "yesterday")
# A night belongs to the evening on which it began, until this time of the next day.
NIGHT_ENDS = time(12)
# Until this time `today` may be said of the night that ends or of the date that has begun: a change asks for the date.
CHANGES_ASK_UNTIL = time(6)


@dataclass(frozen=True, slots=True, order=True)
class WallClock:
    """A wall clock time by the day on which it lies, counted from the analysis date.

    Attributes:
        days: 0 on the analysis date, 1 on the day after.
        at: The time of that day, without a zone.
    """

    days: int
    at: time

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `23:25`, or `00:30+1d` for half past midnight of the day after.

        Raises:
            ValueError: The text is neither.
        """
        clock, plus, days = text.partition("+")
        if not _TIME.fullmatch(clock) or (plus and not _DAYS.fullmatch(days)):
            raise ValueError("must be a wall clock time like 23:25, or 00:30+1d on the day after the analysis date")
        return cls(int(days[:-1]) if plus else 0, time.fromisoformat(clock))

    def __str__(self) -> str:
        """Return the text that `read` takes."""
        clock = self.at.isoformat("seconds" if self.at.second else "minutes")
        # A time before noon is not read without its day.
        return f"{clock}+{self.days}d" if self.days or self.at < NOON else clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The rhythm of one pipeline.

    Attributes:
        zone: Zone of the wall clock times.
        deadline: Wall clock time at which waiting ends, and its day from the analysis date.
        upgrade_cutoff: Wall clock time after which a degraded date is no longer upgraded, and its day.
        season_start: First (month, day) on which dates are expected.
        season_end: Last (month, day); may lie in the next year.
        skip_dates: Dates inside the season that are not expected.
        drain_grace: How long queued messages get before a deadline that is already past may fire.
        catch_up_days: How many missed dates are opened after a downtime, at most.
    """

    zone: ZoneInfo
    deadline: WallClock
    upgrade_cutoff: WallClock
    season_start: MonthDay
    season_end: MonthDay
    skip_dates: frozenset[date]
    drain_grace: timedelta
    catch_up_days: int

    def league_day(self, now: datetime) -> date:
        """Return the date on the league's wall clock, by which dates open. What people call today is `tonight`."""
        return now.astimezone(self.zone).date()

    def tonight(self, now: datetime) -> date:
        """Return the analysis date of the present night: until noon in the league's zone, the date before."""
        local = now.astimezone(self.zone)
        return local.date() - timedelta(days=1) if local.time() < NIGHT_ENDS else local.date()

    def last_night(self, now: datetime) -> date:
        """Return the analysis date of the last evening: before noon `tonight`, after noon `yesterday`."""
        return self.league_day(now) - timedelta(days=1)

    def named_day(self, word: str, now: datetime) -> date:
        """Return the analysis date that *word*, one of `DAY_WORDS`, names at *now*."""
        return self.tonight(now) - timedelta(days=1 if word == "yesterday" else 0)

    def day_to_change(self, word: str, now: datetime) -> date:
        """Return the analysis date that *word* names in a request to replay, cancel or retract.

        Raises:
            TwoDates: Between midnight and 06:00 `today` and `tonight` may mean either of two dates.
        """
        local = now.astimezone(self.zone)
        if word != "yesterday" and local.time() < CHANGES_ASK_UNTIL:
            raise TwoDates(word, self.tonight(now), local.date(), f"{local:%H:%M %Z}")
        return self.named_day(word, now)

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
        today = self.league_day(now)
        first = today
        if last_opened is not None:
            first = max(min(last_opened, today), self.before_look_back(now)) + timedelta(days=1)
        span = (today - first).days + 1
        days = (first + timedelta(days=offset) for offset in range(max(span, 0)))
        return [day for day in days if self.expected(day)]

    def latest_opened(self, now: datetime) -> date:
        """Return the latest date that can have been opened by now."""
        return self.league_day(now + MIDNIGHT_SLACK)

    def before_look_back(self, now: datetime) -> date:
        """Return the date before the first one that is opened after a downtime."""
        return self.league_day(now) - timedelta(days=self.catch_up_days + 1)

    def next_cutoff(self, now: datetime) -> datetime | None:
        """Give the first upgrade cutoff of an expected date that is not past; None where a year holds none. UTC."""
        # The cutoff of an earlier date may still be to come.
        first = self.league_day(now) - timedelta(days=self.upgrade_cutoff.days)
        for offset in range(DAYS_AHEAD_MAX):
            day = first + timedelta(days=offset)
            if self.expected(day) and (cutoff_at := self.at(day, self.upgrade_cutoff)) >= now:
                return cutoff_at
        return None

    def at(self, day: date, wall_clock: WallClock) -> datetime:
        """Return the UTC instant of a wall clock time of an analysis date.

        A time that a clock change skips or repeats is its first reading.
        """
        on = day + timedelta(days=wall_clock.days)
        return datetime.combine(on, wall_clock.at, self.zone).astimezone(UTC)

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


def with_weekday(day: date) -> str:
    """Return a date as an answer names the date: `Sunday 2024-12-15`."""
    return f"{day:%A} {day.isoformat()}"
