"""What a page shows of one night: positions on a time line, parts of a score, the strip of dates. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from statemachine.evidence import severity_of
from statemachine.model import Completion, DateRecord, FailedBecause, Policy, Retraction, State
from worker.date_text import RETRACTED, headline, what_next
from worker.features.quality import COMPONENT_POINTS
from worker.observing.outbox import Untold
from worker.ports import HistoryEntry

CORRUPT = "corrupt"
HISTORY_SHOWN_MAX = 200
# The time line shows this much around deadline and cutoff, and more where a report lies outside, up to a bound.
_BEFORE, _AFTER = timedelta(minutes=75), timedelta(minutes=15)
_FURTHEST = timedelta(hours=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineRow:
    """One processor on the time line.

    Attributes:
        processor: Its name.
        status: `success failed found missing retracted`.
        completion: Its report, None while there is none.
        position: Per cent of the time line's width, None without a report.
        outside: Whether the report lies outside the time line, at whose edge it is then drawn.
        rows_at_build: Rows that the published build found in its table.
        retraction: The last run of it that somebody took back, None where nobody did.
    """

    processor: str
    status: str
    completion: Completion | None
    position: float | None
    outside: bool
    rows_at_build: int | None
    retraction: Retraction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An instant across all lanes, at *position* per cent of the width."""

    name: str
    at: datetime
    position: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """When the reports came, against the instants that matter. UTC."""

    starts_at: datetime
    ends_at: datetime
    lanes: Sequence[TimelineRow]
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One component of a score, in points, and its share of the most it can give in per cent."""

    name: str
    points: float
    maximum: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One date of the strip: its state and, where something is published, its score."""

    day: date
    state: str
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A block of consecutive known dates, oldest first, and the newest dates of the blocks before and after."""

    chips: Sequence[Chip]
    older: date | None
    newer: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatePage:
    """Everything a page says about one date.

    Attributes:
        day: The date.
        state: Its state, or `corrupt` where its record cannot be read.
        sentence: How it stands, without the state.
        trouble: What went wrong, in the words of what did; None where nothing did.
        next: What happens next and what a person could do.
        severity: P0 to P3, or None.
        record: The record, None where it cannot be read.
        timeline: None where the record cannot be read.
        parts: Of the score; empty where nothing is published.
        history: Newest change first, at most `HISTORY_SHOWN_MAX`.
        changes: How many changes there are.
        can_cancel: Whether a cancel would stop the date.
        runs: The run of each processor that a retraction can take back.
    """

    day: date
    state: str
    sentence: str
    next: str
    trouble: str | None = None
    severity: str | None = None
    record: DateRecord | None = None
    timeline: Timeline | None = None
    parts: Sequence[Part] = ()
    history: Sequence[HistoryEntry] = ()
    changes: int = 0
    can_cancel: bool = False
    runs: Mapping[str, str] = field(default_factory=dict)


def night_to_show(tonight: date, known: Sequence[date]) -> date | None:
    """Choose the date of the first page: tonight's, else the latest before, else the newest; None without any.

    Args:
        tonight: By the calendar.
        known: Dates with a record, newest first.
    """
    return next((day for day in known if day <= tonight), known[0] if known else None)


def night_of(
    record: DateRecord,
    history: Sequence[HistoryEntry],
    now: datetime,
    policy: Policy,
    zone: ZoneInfo,
    untold: Untold | None,
) -> DatePage:
    """Describe a date."""
    state, result = record.state.value, record.result
    return DatePage(
        day=record.analysis_date,
        state=state,
        sentence=_sentence(record, policy),
        trouble=record.failure.message if state == "failed" and record.failure else None,
        next=what_next(record, now, policy, zone, untold),
        severity=severity_of(record),
        record=record,
        timeline=timeline(record, now, policy),
        parts=_parts(result.components) if result else (),
        history=history[::-1][:HISTORY_SHOWN_MAX],
        changes=len(history),
        can_cancel=record.wake_at is not None and record.state is not State.DEGRADED,
        runs=_runs(record, policy),
    )


def _runs(record: DateRecord, policy: Policy) -> Mapping[str, str]:
    if record.failure is not None and record.failure.because == FailedBecause.CANCELLED:
        return {}
    known = {name: record.completions.get(name) for name in policy.processors}
    return {name: completion.identity for name, completion in known.items() if completion and completion.counts}


def _sentence(record: DateRecord, policy: Policy) -> str:
    """Give the headline without the state, which a page shows larger."""
    told = headline(record, policy).removeprefix(record.state.value)
    if record.state is State.FAILED:
        told = told.replace("(", "").replace(")", "").replace("_", " ")
    return told.lstrip(": ")


def damaged_night(day: date, error: str, history: Sequence[HistoryEntry]) -> DatePage:
    """Describe a date whose record cannot be read."""
    return DatePage(
        day=day,
        state=CORRUPT,
        sentence=error,
        next="A worker sets the record aside at its next sweep and begins the date anew.",
        history=history[::-1][:HISTORY_SHOWN_MAX],
        changes=len(history),
    )


def chip_of(day: date, record: DateRecord | None) -> Chip:
    """Describe a date for the strip; without a record it is one that cannot be read."""
    if record is None:
        return Chip(day=day, state=CORRUPT, score=None)
    return Chip(day=day, state=record.state.value, score=record.result.quality_score if record.result else None)


def timeline(record: DateRecord, now: datetime, policy: Policy) -> Timeline:
    """Lay out the reports of *record* on a line that is as long as they need, within a bound."""
    deadline, cutoff = record.deadline_at, record.upgrade_cutoff_at
    marked = {"deadline": deadline, "cutoff": cutoff}
    if record.result is not None:
        marked["published"] = record.result.committed_at
    instants = [completion.completed_at for completion in record.completions.values()]
    instants += [record.result.committed_at] if record.result is not None else []
    starts_at = max(min([deadline - _BEFORE, *instants]), deadline - _FURTHEST)
    ends_at = min(max([cutoff + _AFTER, *instants]), cutoff + _FURTHEST)
    span = ends_at - starts_at

    def position(at: datetime) -> float:
        return round(min(max((at - starts_at) / span, 0.0), 1.0) * 100, 2)

    if starts_at <= now <= ends_at:
        marked["now"] = now
    rows: Mapping[str, int] = record.result.dependency_rows if record.result else {}
    taken_back = {retraction.processor: retraction for retraction in record.retractions}
    lanes = []
    for name in policy.processors:
        completion = record.completions.get(name)
        lanes.append(
            TimelineRow(
                processor=name,
                status=completion.status.value if completion else RETRACTED if name in record.ignored else "missing",
                completion=completion,
                position=position(completion.completed_at) if completion else None,
                outside=completion is not None and not starts_at <= completion.completed_at <= ends_at,
                rows_at_build=rows.get(name),
                retraction=taken_back.get(name),
            )
        )
    marks = [Mark(name=name, at=at, position=position(at)) for name, at in marked.items() if starts_at <= at <= ends_at]
    return Timeline(starts_at=starts_at, ends_at=ends_at, lanes=lanes, marks=marks)


def _parts(components: Mapping[str, float]) -> Sequence[Part]:
    known = ((name, COMPONENT_POINTS[name], points) for name, points in components.items() if name in COMPONENT_POINTS)
    return [Part(name=name, points=points, maximum=most, share=100 * points / most) for name, most, points in known]
