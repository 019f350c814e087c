"""View model of the page of an analysis date: time line, components of the score, strip of dates. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from statemachine.evidence import severity_of
from statemachine.model import BuildResult, Completion, DateRecord, FailedBecause, Policy, Retraction, State
from worker.date_text import RETRACTED, headline, what_next
from worker.features.quality import COMPONENT_POINTS, score_sentence
from worker.finding_text import DOUBTS, FindingModel, brief, shown, worst
from worker.observing.outbox import Untold
from worker.ports import HistoryEntry

CORRUPT = "corrupt"
HISTORY_SHOWN_MAX = 200
# The time line begins and ends at these distances from deadline and cutoff; for a report outside up to `_FURTHEST`.
_BEFORE, _AFTER = timedelta(minutes=75), timedelta(minutes=15)
_FURTHEST = timedelta(hours=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineRow:
    """Processor on the time line.

    Attributes:
        processor: Name of the processor.
        status: `success failed found missing retracted`.
        completion: Completion of the processor; None without a completion.
        position: Per cent of the time line's width; None without a completion.
        outside: Whether the completion lies outside the time line; the page draws such a completion at the edge.
        rows_at_build: Rows in the processor's table at the published build.
        retraction: The last retraction of a run of the processor; None without a retraction.
        optional: Whether the analysis date is complete without the processor.
    """

    processor: str
    status: str
    completion: Completion | None
    position: float | None
    outside: bool
    rows_at_build: int | None
    retraction: Retraction | None
    optional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Instant across all rows, at *position* per cent of the width."""

    name: str
    at: datetime
    position: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Completions against deadline, cutoff, publication and the present. UTC."""

    starts_at: datetime
    ends_at: datetime
    lanes: Sequence[TimelineRow]
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Component of a score, in points, and the share of the maximum in per cent."""

    name: str
    points: float
    maximum: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """Analysis date of the strip.

    Attributes:
        day: The analysis date.
        state: State, or `corrupt` for an unreadable record.
        score: Score of the publication; None without a publication.
        doubt: Number of critical findings or warnings, `1 critical`; empty without such a finding.
    """

    day: date
    state: str
    score: float | None
    doubt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Consecutive known dates, oldest first, and the newest dates of the strips before and after."""

    chips: Sequence[Chip]
    older: date | None
    newer: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatePage:
    """Content of the page of an analysis date.

    Attributes:
        day: The analysis date.
        state: State, or `corrupt` for an unreadable record.
        sentence: The headline without the state.
        trouble: Message of the failure; None unless the analysis date failed.
        next: Next step and possible command.
        severity: P0 to P3, or None.
        record: The record; None for an unreadable record.
        timeline: Time line; None for an unreadable record.
        parts: Components of the score; empty without a publication.
        why_score: Sentence about the score beside the sum of the components; empty without a publication.
        findings: Findings about the published rows; None without a publication, and for rows that were never judged.
        history: Newest change first, at most `HISTORY_SHOWN_MAX`.
        changes: Number of all changes.
        can_cancel: Whether a cancel would stop the analysis date.
        runs: The run of each processor that can be retracted.
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
    why_score: str = ""
    findings: Sequence[FindingModel] | None = None
    history: Sequence[HistoryEntry] = ()
    changes: int = 0
    can_cancel: bool = False
    runs: Mapping[str, str] = field(default_factory=dict)


def night_to_show(tonight: date, known: Sequence[date]) -> date | None:
    """Return the date of the first page: tonight, else the latest known date before, else the newest known date.

    Args:
        tonight: Tonight by the calendar.
        known: Dates with a record, newest first; without known dates the result is None.
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
    """Return the page content of an analysis date."""
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
        why_score=_why_score(result) if result else "",
        findings=shown(result.findings) if result else None,
        history=history[::-1][:HISTORY_SHOWN_MAX],
        changes=len(history),
        can_cancel=record.wake_at is not None and record.state is not State.DEGRADED,
        runs=_runs(record, policy),
    )


def _why_score(result: BuildResult) -> str:
    return score_sentence(result.quality_score, result.component_total, result.fallback_rate, result.missing_rate)


def _runs(record: DateRecord, policy: Policy) -> Mapping[str, str]:
    if record.failure is not None and record.failure.because == FailedBecause.CANCELLED:
        return {}
    known = {name: record.completions.get(name) for name in policy.processors}
    return {name: completion.identity for name, completion in known.items() if completion and completion.counts}


def _sentence(record: DateRecord, policy: Policy) -> str:
    """Return the headline without the state; the page shows the state larger."""
    told = headline(record, policy).removeprefix(record.state.value)
    if record.state is State.FAILED:
        told = told.replace("(", "").replace(")", "").replace("_", " ")
    return told.lstrip(": ")


def damaged_night(day: date, error: str, history: Sequence[HistoryEntry]) -> DatePage:
    """Return the page content of an analysis date with an unreadable record."""
    return DatePage(
        day=day,
        state=CORRUPT,
        sentence=error,
        next="At the next sweep a worker sets the record aside and opens the date again.",
        history=history[::-1][:HISTORY_SHOWN_MAX],
        changes=len(history),
    )


def chip_of(day: date, record: DateRecord | None) -> Chip:
    """Return an analysis date for the strip; None as record stands for an unreadable record."""
    if record is None:
        return Chip(day=day, state=CORRUPT, score=None)
    result = record.result
    if result is None:
        return Chip(day=day, state=record.state.value, score=None)
    doubt = brief(result.findings) if worst(result.findings) in DOUBTS else ""
    return Chip(day=day, state=record.state.value, score=result.quality_score, doubt=doubt)


def timeline(record: DateRecord, now: datetime, policy: Policy) -> Timeline:
    """Place the completions of *record* on a time line; far completions widen the time line up to a bound."""
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
                optional=name in policy.optional,
            )
        )
    marks = [Mark(name=name, at=at, position=position(at)) for name, at in marked.items() if starts_at <= at <= ends_at]
    return Timeline(starts_at=starts_at, ends_at=ends_at, lanes=lanes, marks=marks)


def _parts(components: Mapping[str, float]) -> Sequence[Part]:
    known = ((name, COMPONENT_POINTS[name], points) for name, points in components.items() if name in COMPONENT_POINTS)
    return [Part(name=name, points=points, maximum=most, share=100 * points / most) for name, most, points in known]
