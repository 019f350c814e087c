"""Replay of a range: the planned step of each date, the order, and the limit of dates in work.

The plan reads the state store alone. A date takes one of `concurrency` places from the request until the end of the
generation, so the queue of a worker never holds more dates of the range. While tonight's date is built, no further date
is begun. A killed command leaves every requested date to the workers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from statemachine.events import ReplayRequested
from statemachine.model import BuildMode, DateRecord, State
from worker.calendar import Calendar
from worker.engine import Engine
from worker.errors import CorruptRecord, PipelineError, Refused, Unavailable
from worker.interventions.audit import why_refused
from worker.interventions.requests import has_ended
from worker.ports import Clock, StateStore

MISSING = "missing"
CHOICES = (MISSING, *(state.value for state in State))
DAYS_MAX = 366
ON_THEIR_WAY = frozenset({State.READY, State.RUNNING})


class Step(StrEnum):
    """Step of a date: planned, then as the result."""

    REPLAY = "replay"
    """The date will be built again."""
    SKIPPED = "skipped"
    """The date is not selected, or needs no build."""
    REFUSED = "refused"
    """The date cannot be replayed in this state; no change was stored."""
    ENDED = "ended"
    """The generation has ended."""
    UNFINISHED = "unfinished"
    """The replay was requested, and the waiting ended before the generation."""
    NOT_STARTED = "not started"
    """The waiting ended before the replay was requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Date of a range.

    Attributes:
        analysis_date: The date.
        step: Planned step, or the result.
        why: Reason in a few words; for a refusal with the next step.
        record: Stored record; None without a record, or with an unreadable record.
        planned: Record after a replay; None without a planned replay.
    """

    analysis_date: date
    step: Step
    why: str
    record: DateRecord | None
    planned: DateRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRequest:
    """Request for each date of a range.

    Attributes:
        first: First date.
        last: Last date, included.
        only: Selected states, and `missing` for expected dates without a record; empty for every date.
        mode: Build mode.
        force: Also fence off a running build, or replace a done date by a copy.
        as_of: Read only upstream rows with `processed_at` up to this instant (UTC); None without a limit.
    """

    first: date
    last: date
    only: frozenset[str]
    mode: BuildMode
    force: bool
    as_of: datetime | None = None

    def days(self) -> list[date]:
        """Return the dates, oldest first."""
        return [self.first + timedelta(days=offset) for offset in range((self.last - self.first).days + 1)]


def read_only(text: str) -> frozenset[str]:
    """Return the states of a text like `missing,degraded,failed`.

    Raises:
        Refused: A word names no state.
    """
    words = frozenset(word.strip() for word in text.split(",") if word.strip())
    unknown = sorted(words - set(CHOICES))
    if unknown:
        raise Refused(f"--only {', '.join(unknown)}: no such state; the states are {', '.join(CHOICES)}")
    return words


def plan_range(
    request: RangeRequest, engine: Engine, event: Callable[[date], ReplayRequested], calendar: Calendar, tonight: date
) -> list[Planned]:
    """Return the planned step of each date, tonight's date first, then oldest first. Stores no change.

    Raises:
        Refused: The range is empty or too long.
        Unavailable: The store does not answer.
    """
    days = request.days()
    if not days:
        raise Refused(f"--from {request.first} is after --to {request.last}; exchange the dates")
    if len(days) > DAYS_MAX:
        raise Refused(
            f"{request.first} to {request.last} are {len(days)} dates, {DAYS_MAX} at most; choose a shorter range"
        )
    days.sort(key=lambda day: (day != tonight, day))
    return [_plan(day, request, engine, event(day), calendar, tonight) for day in days]


def _plan(
    day: date, request: RangeRequest, engine: Engine, event: ReplayRequested, calendar: Calendar, tonight: date
) -> Planned:
    try:
        before, decision = engine.preview(day, event)
    except CorruptRecord as exc:
        return Planned(
            analysis_date=day, step=Step.REFUSED, why=f"{exc}; to repair the record: mlfs recover", record=None
        )
    seen = before if before.version else None
    why_not = _why_not(day, request, seen, calendar, tonight)
    if why_not:
        return Planned(analysis_date=day, step=Step.SKIPPED, why=why_not, record=seen)
    if seen and seen.request_id == event.request_id:
        return Planned(analysis_date=day, step=Step.REPLAY, why="asked for already", record=seen, planned=seen)
    refusal = why_refused(before, decision, event)
    if refusal is not None:
        return Planned(analysis_date=day, step=Step.REFUSED, why=refusal.removeprefix(f"{day}: "), record=seen)
    why = "tonight goes first" if day == tonight else "" if seen else "never opened"
    return Planned(analysis_date=day, step=Step.REPLAY, why=why, record=seen, planned=decision.record)


def _why_not(day: date, request: RangeRequest, seen: DateRecord | None, calendar: Calendar, tonight: date) -> str:
    if day > tonight:
        return "lies ahead"
    if seen is None and not calendar.expected(day):
        return "no night is expected"
    state = seen.state.value if seen else MISSING
    return f"not selected by --only: {state}" if request.only and state not in request.only else ""


class Backfill:
    """Replay of the dates of a plan, a few dates at a time, until every generation has ended."""

    def __init__(
        self,
        *,
        store: StateStore,
        clock: Clock,
        tonight: date,
        begin: Callable[[date], int],
        concurrency: int,
        show_progress: Callable[[Planned], None],
    ) -> None:
        """Store the collaborators.

        Args:
            store: State store with the records of the dates.
            clock: Clock of the command.
            tonight: Tonight's date.
            begin: Requests the replay of a date and returns the requested generation. Safe to repeat.
            concurrency: Largest number of dates in work at once, 1 or more.
            show_progress: Called for each begun and each ended date.
        """
        self._store = store
        self._clock = clock
        self._tonight = tonight
        self._begin = begin
        self._concurrency = concurrency
        self._show_progress = show_progress
        self._underway: dict[date, int] = {}
        self._others: set[date] = set()
        self._queue: list[Planned] = []
        self._ended: dict[date, Planned] = {}

    def run(self, plan: Sequence[Planned], pause: Callable[[], bool]) -> Iterator[Planned]:
        """Replay the dates of the plan, and yield each date with the result, in the order of the plan.

        Args:
            plan: Plan of `plan_range`.
            pause: Waits a moment; False ends the replay.
        """
        self._queue = [planned for planned in plan if planned.step is Step.REPLAY]
        self._others = {
            planned.analysis_date
            for planned in plan
            if planned.step is not Step.REPLAY and planned.record and planned.record.state in ON_THEIR_WAY
        }
        trouble = ""
        while self._queue or self._underway:
            try:
                self._advance()
            except Unavailable as exc:
                trouble = str(exc)
            if (self._queue or self._underway) and not pause():
                break
        for planned in plan:
            yield self._ended.get(planned.analysis_date) or self._left(planned, trouble)

    @property
    def ended(self) -> int:
        """Number of dates with an end."""
        return len(self._ended)

    def _advance(self) -> None:
        """Store the ended dates, then begin dates in the free places."""
        records = self._store.load_all(sorted({self._tonight, *self._underway, *self._others}))
        self._others = {day for day in self._others if _on_its_way(records.get(day))}
        for day, generation in list(self._underway.items()):
            record = records.get(day)
            if record is not None and has_ended(record, generation):
                del self._underway[day]
                failure = record.failure if record.state is State.FAILED else None
                why = f"{failure.because}: {failure.message}" if failure is not None else ""
                self._end(Planned(analysis_date=day, step=Step.ENDED, why=why, record=record))
        while self._queue and self._may_begin(records):
            planned = self._queue[0]
            day = planned.analysis_date
            try:
                self._underway[day] = self._begin(day)
            except Unavailable:
                raise
            except PipelineError as exc:
                self._end(Planned(analysis_date=day, step=Step.REFUSED, why=str(exc), record=planned.record))
            else:
                self._show_progress(planned)
            self._queue.pop(0)

    def _may_begin(self, records: Mapping[date, DateRecord | None]) -> bool:
        if self._tonight in self._underway or is_being_built(records.get(self._tonight), self._clock.now()):
            return False
        return len(self._underway) + len(self._others - self._underway.keys()) < self._concurrency

    def _end(self, ended: Planned) -> None:
        self._ended[ended.analysis_date] = ended
        self._show_progress(ended)

    def _left(self, planned: Planned, trouble: str) -> Planned:
        """Return the result of a date without an end: skipped, refused, or given up."""
        if planned.step is not Step.REPLAY:
            return planned
        day = planned.analysis_date
        if day in self._underway:
            why = trouble or f"no worker finished the build in time; see: mlfs status {day}"
            return Planned(analysis_date=day, step=Step.UNFINISHED, why=why, record=planned.record)
        return Planned(analysis_date=day, step=Step.NOT_STARTED, why=trouble or "", record=planned.record)


def is_being_built(record: DateRecord | None, now: datetime) -> bool:
    """Return whether a worker builds the date or should claim the date now; False before the next attempt is due."""
    if record is None or record.state not in ON_THEIR_WAY:
        return False
    return record.state is State.RUNNING or record.wake_at is None or record.wake_at <= now


def _on_its_way(record: DateRecord | None) -> bool:
    return record is not None and record.state in ON_THEIR_WAY
