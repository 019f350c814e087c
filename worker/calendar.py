"""Calendar: expected analysis dates, deadline and cutoff of an analysis date, and the date behind a word like `today`.

Wall clock times belong to the league's zone and become UTC instants when an analysis date opens, so the deadline has
the same wall clock time on a night with a clock change. Two readings of the present exist: an analysis date opens by
the league's day, which changes at midnight; people and schedulers name analysis dates by the night, which changes at
noon. Pure: no clock, no storage.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from statemachine.model import DateRecord, State
from worker.errors import TwoDates

MonthDay = tuple[int, int]
NOON = time(12)
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?")
# At most a week after the analysis date.
_DAYS = re.compile(r"[0-7]d")

# A processor in another zone may be a day ahead; a date more than a week ahead comes from a wrong clock.
FUTURE_DAYS_MAX = 7
# Replicas reach midnight within this time: the mark of the faster replica is not ahead of the slower replica's clock.
MIDNIGHT_SLACK = timedelta(minutes=1)
# The schedule is known for a day if a game lies within this many days; a schedule that ended silences no alarm.
SCHEDULE_REACH = 3
# The next expected analysis date lies within a year, unless the season is empty.
DAYS_AHEAD_MAX = 367
# The words that commands, routes and pages accept in the place of an analysis date.
DAY_WORDS = ("today", "tonight", "yesterday")
# Until this time of the next day a night has the date of the evening before.
NIGHT_ENDS = time(12)
# Until this time `today` may mean the ending night or the new date, so a change of state requires the date.
CHANGES_ASK_UNTIL = time(6)


@dataclass(frozen=True, slots=True, order=True)
class WallClock:
    """Wall clock time, with the day counted from the analysis date.

    Attributes:
        days: 0 on the analysis date, 1 on the day after.
        at: Time of day, without a zone.
    """

    days: int
    at: time

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `23:25`, or `00:30+1d` for half past midnight of the day after.

        Raises:
            ValueError: The text has neither form.
        """
        clock, plus, days = text.partition("+")
        if not _TIME.fullmatch(clock) or (plus and not _DAYS.fullmatch(days)):
            raise ValueError("must be a wall clock time like 23:25, or 00:30+1d on the day after the analysis date")
        return cls(int(days[:-1]) if plus else 0, time.fromisoformat(clock))

    def __str__(self) -> str:
        """Return the text from which `read` makes an equal time."""
        clock = self.at.isoformat("seconds" if self.at.second else "minutes")
        # `MLFS_DEADLINE` refuses a time before noon without a day.
        return f"{clock}+{self.days}d" if self.days or self.at < NOON else clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Season, deadline and cutoff of one pipeline.

    Attributes:
        zone: Zone of the wall clock times.
        deadline: Wall clock time of the deadline, with the day from the analysis date.
        upgrade_cutoff: Wall clock time of the cutoff, with the day from the analysis date.
        season_start: First (month, day) with expected analysis dates.
        season_end: Last (month, day); may lie in the next year.
        skip_dates: Dates inside the season that are not expected.
        drain_grace: Time for queued messages after a start, before an overdue deadline fires.
        catch_up_days: Number of missed analysis dates opened after a downtime, at most.
        game_days: Days with a game by the schedule; empty while the schedule is not known.
    """

    zone: ZoneInfo
    deadline: WallClock
    upgrade_cutoff: WallClock
    season_start: MonthDay
    season_end: MonthDay
    skip_dates: frozenset[date]
    drain_grace: timedelta
    catch_up_days: int
    game_days: frozenset[date] = frozenset()

    def with_games(self, game_days: frozenset[date]) -> Self:
        """Return the calendar with another schedule."""
        return replace(self, game_days=game_days)

    def league_day(self, now: datetime) -> date:
        """Return the date on the league's wall clock, by which analysis dates open; `today` means `tonight`."""
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
        """Return True if the worker waits for completions of *day* before the first completion arrives.

        A day with a game is expected. Without any game from three days before to three days after, the schedule is not
        known or has ended, and the season decides.
        """
        if day in self.skip_dates:
            return False
        around = range(day.toordinal() - SCHEDULE_REACH, day.toordinal() + SCHEDULE_REACH + 1)
        # A person may name the first or the last day of the calendar.
        reach = (date.fromordinal(number) for number in around if 1 <= number <= date.max.toordinal())
        if not self.game_days.isdisjoint(reach):
            return day in self.game_days
        month_day = (day.month, day.day)
        if self.season_start <= self.season_end:
            return self.season_start <= month_day <= self.season_end
        return month_day >= self.season_start or month_day <= self.season_end

    def to_open(self, last_opened: date | None, now: datetime) -> list[date]:
        """Return the expected dates after *last_opened*, oldest first; today alone if *last_opened* is None."""
        today = self.league_day(now)
        first = today
        if last_opened is not None:
            first = max(min(last_opened, today), self.before_look_back(now)) + timedelta(days=1)
        span = (today - first).days + 1
        days = (first + timedelta(days=offset) for offset in range(max(span, 0)))
        return [day for day in days if self.expected(day)]

    def latest_opened(self, now: datetime) -> date:
        """Return the latest date that a worker can have opened by *now*."""
        return self.league_day(now + MIDNIGHT_SLACK)

    def before_look_back(self, now: datetime) -> date:
        """Return the day before the first date that a worker opens after a downtime."""
        return self.league_day(now) - timedelta(days=self.catch_up_days + 1)

    def next_cutoff(self, now: datetime) -> datetime | None:
        """Return the next cutoff of an expected date as a UTC instant; None if the coming year has no expected date."""
        # The cutoff of an earlier analysis date may lie in the future.
        first = self.league_day(now) - timedelta(days=self.upgrade_cutoff.days)
        for offset in range(DAYS_AHEAD_MAX):
            day = first + timedelta(days=offset)
            if self.expected(day) and (cutoff_at := self.at(day, self.upgrade_cutoff)) >= now:
                return cutoff_at
        return None

    def at(self, day: date, wall_clock: WallClock) -> datetime:
        """Return the UTC instant of a wall clock time of an analysis date.

        For a time that a clock change repeats, return the first of the two instants.
        """
        on = day + timedelta(days=wall_clock.days)
        return datetime.combine(on, wall_clock.at, self.zone).astimezone(UTC)

    def fresh_record(self, day: date, now: datetime) -> DateRecord:
        """Return the record of a new analysis date, not yet stored.

        After the deadline (a replayed range, or the end of a downtime) the deadline is *now* plus the drain grace, so
        that queued completions are read before the fallback. The cutoff follows after the usual span.
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
    """Return weekday and date: `Sunday 2024-12-15`."""
    return f"{day:%A} {day.isoformat()}"
