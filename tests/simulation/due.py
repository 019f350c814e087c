"""What time owes each date, in the judge's own books: its deadline, and the looks into its tables."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from statemachine.model import BuildMode, DateRecord, State

# DESIGN section 6. The grace of a fresh start, a tick and a claim fit into it beside five seconds of skew.
DEADLINE_BOUND = timedelta(seconds=40)
# DESIGN section 3: a degraded date is looked at each minute; the bound covers what it covers for a deadline.
LOOK_BOUND = timedelta(minutes=1) + DEADLINE_BOUND
# A worker that starts shortly before the cutoff may still be in its grace when the last look is over.
LAST_LOOK_MARGIN = timedelta(seconds=45)


@dataclass(slots=True)
class Due:
    """Since when each date is owed something.

    Attributes:
        deadlines: Dates that wait, or have failed and are still to be built at their deadline.
        builds: Dates whose build is due.
        degraded: Dates that are published and lack something.
        mended: Processors that had reported a failure of a date, and since when they have not.
    """

    deadlines: dict[date, datetime] = field(default_factory=dict)
    builds: dict[date, datetime] = field(default_factory=dict)
    degraded: dict[date, datetime] = field(default_factory=dict)
    mended: dict[tuple[date, str], datetime] = field(default_factory=dict)

    def copy(self) -> "Due":
        return Due(
            deadlines=dict(self.deadlines),
            builds=dict(self.builds),
            degraded=dict(self.degraded),
            mended=dict(self.mended),
        )

    def forget(self, day: date) -> None:
        for owed in (self.deadlines, self.builds, self.degraded):
            owed.pop(day, None)

    def follow(self, before: DateRecord | None, after: DateRecord, now: datetime) -> None:
        """One change was stored."""
        day = after.analysis_date
        is_new = before is None or before.state is not after.state
        if after.state is State.WAITING:
            if is_new:
                self.deadlines[day] = max(after.deadline_at, now)
        elif not _may_be_owed(after):
            self.deadlines.pop(day, None)
        elif is_new and before is not None and before.lease and before.lease.claimed_at < after.deadline_at:
            self.deadlines[day] = max(after.deadline_at, now)
        if after.state is not State.READY or after.wake_at is None:
            self.builds.pop(day, None)
        elif is_new or before is None or before.wake_at != after.wake_at:
            self.builds[day] = max(after.wake_at, now)
        self._follow_looks(before, after, now)

    def _follow_looks(self, before: DateRecord | None, after: DateRecord, now: datetime) -> None:
        day = after.analysis_date
        is_new = before is None or (before.state, before.generation) != (after.state, after.generation)
        if after.state is not State.DEGRADED:
            self.degraded.pop(day, None)
        elif is_new:
            self.degraded[day] = max(after.deadline_at, now)
        if before is not None:
            for name in _failed(before) - _failed(after):
                self.mended[day, name] = now

    def late(self, healthy_from: datetime, now: datetime) -> list[date]:
        """The dates whose deadline should have fired or whose build should have begun: a worker was healthy so long."""
        owed = (*self.deadlines.items(), *self.builds.items())
        return [day for day, since in owed if now > max(since, healthy_from) + DEADLINE_BOUND]

    def overlooked(
        self,
        records: Mapping[date, DateRecord],
        filled_at: Mapping[tuple[date, str], datetime],
        healthy_from: datetime,
        now: datetime,
    ) -> Iterator[tuple[date, str]]:
        """Dates, and the processors whose rows came after the build and should have been found."""
        for day, since in self.degraded.items():
            record = records[day]
            assert record.result is not None
            if record.mode is BuildMode.FORCED_FALLBACK or record.as_of is not None:
                # A person did not want the rows of the tables.
                continue
            cutoff = record.upgrade_cutoff_at
            failed = _failed(record)
            back = {one.processor for one in record.retractions}
            for name, rows in record.result.dependency_rows.items():
                came = filled_at.get((day, name))
                if rows or came is None or name in failed | back:
                    continue
                # The rows of a run that failed count only once its processor has reported a success.
                begun = max(since, came, healthy_from, self.mended.get((day, name), since))
                if begun < cutoff - LAST_LOOK_MARGIN and now > min(begun + LOOK_BOUND, cutoff + DEADLINE_BOUND):
                    yield day, name


def _may_be_owed(record: DateRecord) -> bool:
    """Whether a date can be owed its deadline: it failed, no person stopped it, and nobody reads anything."""
    cancelled = record.failure is not None and record.failure.because == "cancelled"
    return record.state is State.FAILED and record.result is None and not cancelled


def _failed(record: DateRecord) -> set[str]:
    """The processors whose newest report of the date is a failure."""
    return {name for name, one in record.completions.items() if one.status == "failed"}
