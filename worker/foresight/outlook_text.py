"""Outlook in words and in the JSON form: the same sentence and the same figures for commands, page and API. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

from statemachine.model import RATE_DIGITS, CompletionStatus
from worker.calendar import Calendar, with_weekday
from worker.date_text import RETRACTED, wall_clock
from worker.finding_text import DOUBTS, FindingModel, short, shown, worst
from worker.foresight.outlook import HALF, MOST, NIGHTS_MIN, Chance, Outlook, Stage
from worker.foresight.scores import ASSUMPTION, Scores

ABSENT = "-"


@dataclass(frozen=True, kw_only=True)
class ChanceModel:
    """Share of the comparable nights on which the processor came, with a Wilson interval of 95 %."""

    came: int
    nights: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ExpectedModel:
    """Expected arrival of a missing processor, and the score with the table of the processor."""

    processor: Annotated[str, Field(examples=["cache_job"])]
    status: Annotated[str, Field(description="`missing failed retracted`")]
    nights: Annotated[int, Field(description=f"Comparable nights; below {NIGHTS_MIN} there is no chance.")]
    weekday: Annotated[str | None, Field(description="Weekday of the nights; null for every weekday.")]
    after_failure: Annotated[bool, Field(description="Whether the processor had failed on each of the nights.")]
    by_deadline: Annotated[ChanceModel | None, Field(description="Null after the deadline.")]
    by_cutoff: ChanceModel | None
    half_by: Annotated[str | None, Field(description="Instant by which it came on half of the nights.")]
    most_by: Annotated[str | None, Field(description="Instant by which it came on 90 % of the nights.")]
    rows_now: Annotated[int | None, Field(description="Rows in the table of the processor at the dry run.")]
    score_with: Annotated[float | None, Field(description="Score with the whole table of this processor.")]


@dataclass(frozen=True, kw_only=True)
class ScoresModel:
    """Score of the tables now, by a dry run, and with the whole table of each missing processor."""

    scored_at: str
    now: float
    refusal: Annotated[str | None, Field(description="Reason why a build now would publish nothing.")]
    findings: list[FindingModel]
    with_all: float | None


@dataclass(frozen=True, kw_only=True)
class DateOutlook:
    """Outlook of an analysis date: arrivals to expect, scores, and the sentence that joins both."""

    analysis_date: Annotated[str, Field(examples=["2024-12-15"])]
    weekday: Annotated[str, Field(examples=["Sunday"])]
    state: str
    stage: Annotated[str, Field(description="`open complete closed cancelled`; only `open` has processors and scores.")]
    now: str
    deadline_at: str
    upgrade_cutoff_at: str
    published_score: float | None
    processors: Sequence[ExpectedModel]
    scores: ScoresModel | None
    scores_absent: Annotated[str | None, Field(description="Reason for the missing scores; null with scores.")]
    assumption: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class OutlookRow:
    """Cells of a missing processor in a table for people."""

    processor: str
    by_deadline: str
    by_cutoff: str
    half_by: str
    most_by: str
    basis: str
    rows: str
    score: str


def describe(outlook: Outlook, scores: Scores | None, why: str, zone: ZoneInfo) -> DateOutlook:
    """Return the outlook in the JSON form.

    Args:
        outlook: Expected arrivals.
        scores: Scores of a dry run; None without a dry run.
        why: Reason for missing scores.
        zone: Zone of the instants in the sentence.
    """
    record = outlook.record
    made = DateOutlook(
        analysis_date=record.analysis_date.isoformat(),
        weekday=f"{record.analysis_date:%A}",
        state=record.state.value,
        stage=outlook.stage.value,
        now=outlook.now.isoformat(),
        deadline_at=record.deadline_at.isoformat(),
        upgrade_cutoff_at=record.upgrade_cutoff_at.isoformat(),
        published_score=record.result.quality_score if record.result else None,
        processors=[
            ExpectedModel(
                processor=one.processor,
                status=one.status,
                nights=one.nights,
                weekday=one.weekday or None,
                after_failure=one.after_failure,
                by_deadline=_chance(one.by_deadline),
                by_cutoff=_chance(one.by_cutoff),
                half_by=one.half_by.isoformat() if one.half_by else None,
                most_by=one.most_by.isoformat() if one.most_by else None,
                rows_now=scores.rows[one.processor] if scores is not None else None,
                score_with=scores.with_each[one.processor].quality_score
                if scores is not None and one.processor in scores.with_each
                else None,
            )
            for one in outlook.expectations
        ],
        scores=_scores(scores),
        scores_absent=why if scores is None and outlook.stage is Stage.OPEN else None,
        assumption=ASSUMPTION,
        sentence="",
    )
    return replace(made, sentence=sentence(made, zone))


def _chance(chance: Chance | None) -> ChanceModel | None:
    if chance is None:
        return None
    low, high = chance.interval
    return ChanceModel(
        came=chance.came,
        nights=chance.nights,
        share=round(chance.share, RATE_DIGITS),
        low=round(low, RATE_DIGITS),
        high=round(high, RATE_DIGITS),
    )


def _scores(scores: Scores | None) -> ScoresModel | None:
    if scores is None:
        return None
    return ScoresModel(
        scored_at=scores.scored_at.isoformat(),
        now=scores.now.quality_score,
        refusal=scores.refusal or None,
        findings=shown(scores.now.findings) or [],
        with_all=scores.with_all.quality_score if scores.with_all is not None else None,
    )


def sentence(outlook: DateOutlook, zone: ZoneInfo) -> str:
    """Return the outlook in a few words: the score now, the score with the missing table, and the chance."""
    if outlook.stage != Stage.OPEN:
        return _settled(outlook, zone)
    scores = outlook.scores
    chosen = max(outlook.processors, key=lambda one: one.score_with or 0.0)
    others = ", ".join(one.processor for one in outlook.processors if one != chosen)
    with_ = (
        f"With {chosen.processor}: {chosen.score_with:.1f};"
        if chosen.score_with is not None
        else f"{chosen.processor}:"
    )
    told = f"{_lead(outlook)} {with_} {_clause(chosen, outlook, zone)}."
    if others and scores is not None and scores.with_all is not None:
        return f"{told} With all missing tables: {scores.with_all:.1f}."
    return f"{told} Also missing: {others}." if others else told


def _lead(outlook: DateOutlook) -> str:
    """Return the score of a build now, or the reason for the missing score."""
    published = f"Published: {outlook.published_score:.1f}. " if outlook.published_score is not None else ""
    scores = outlook.scores
    if scores is None:
        return f"{published}Score not known: {outlook.scores_absent}."
    doubt = f", {short(scores.findings).partition(':')[0]}" if worst(scores.findings) in DOUBTS else ""
    # The first sentence of a refusal is the cause; the next steps follow.
    refusal = f", and nothing would be published ({scores.refusal.partition('. ')[0]})" if scores.refusal else ""
    return f"{published}Go now: {scores.now:.1f}{doubt}{refusal}."


def _clause(expected: ExpectedModel, outlook: DateOutlook, zone: ZoneInfo) -> str:
    """Return the chance of a processor by the deadline, after the deadline by the cutoff."""
    chance, name, at = expected.by_deadline, "deadline", outlook.deadline_at
    if chance is None:
        chance, name, at = expected.by_cutoff, "cutoff", outlook.upgrade_cutoff_at
    if chance is None:
        return basis_text(expected)
    nights = f"{expected.weekday}s" if expected.weekday else "nights"
    failed = " with a failure" if expected.after_failure else ""
    half = f", in half of them by {_clock(expected.half_by, outlook, zone)}" if expected.half_by else ""
    unconsidered = "; the failure of tonight is not considered" if _ignores_failure(expected) else ""
    by = f"it comes by the {name}, {_clock(at, outlook, zone)}"
    return (
        f"{by}, in {chance.came} of {chance.nights} such {nights}{failed} (Wilson {interval_text(chance)}){half}"
        f"{unconsidered}"
    )


def _settled(outlook: DateOutlook, zone: ZoneInfo) -> str:
    """Return why no report changes the publication by itself."""
    score = outlook.published_score
    read = "nothing is published" if score is None else f"published with score {score:.1f}"
    replay = f"mlfs replay {outlook.analysis_date} --reason '…'"
    match outlook.stage:
        case Stage.COMPLETE:
            return f"No processor is missing; the date is {outlook.state}, {read}."
        case Stage.CLOSED:
            cutoff = _clock(outlook.upgrade_cutoff_at, outlook, zone)
            return f"The cutoff, {cutoff}, has passed, {read}: no report builds the date by itself. By hand: {replay}"
        case _:
            return f"The date was cancelled, {read}: no report builds the date by itself. To build it: {replay}"


def rows_of(outlook: DateOutlook, zone: ZoneInfo) -> list[OutlookRow]:
    """Return the table of the missing processors for people."""
    too_early = datetime.fromisoformat(outlook.now) < datetime.fromisoformat(outlook.deadline_at)
    return [
        OutlookRow(
            processor=one.processor,
            by_deadline=chance_text(one.by_deadline) if too_early else "passed",
            by_cutoff=chance_text(one.by_cutoff),
            half_by=_quantile(one, one.half_by, HALF, outlook, zone),
            most_by=_quantile(one, one.most_by, MOST, outlook, zone),
            basis=basis_text(one),
            rows=ABSENT if one.rows_now is None else str(one.rows_now),
            score=ABSENT if one.score_with is None else f"{one.score_with:.1f}",
        )
        for one in outlook.processors
    ]


def chance_text(chance: ChanceModel | None) -> str:
    """Return a chance with the interval: `7 of 10 (40 to 89 %)`."""
    return ABSENT if chance is None else f"{chance.came} of {chance.nights} ({interval_text(chance)})"


def interval_text(chance: ChanceModel) -> str:
    """Return the interval of a chance: `40 to 89 %`."""
    return f"{100 * chance.low:.0f} to {100 * chance.high:.0f} %"


def basis_text(expected: ExpectedModel) -> str:
    """Return the nights on which a chance rests, or why there is no chance."""
    if expected.status == RETRACTED:
        return "a run was taken back, and no night before tells when another run comes"
    if expected.nights < NIGHTS_MIN:
        return f"too few nights ({expected.nights})"
    nights = f"{expected.nights} {expected.weekday}s" if expected.weekday else f"{expected.nights} nights"
    if _ignores_failure(expected):
        return f"{nights}; the failure of tonight is not considered"
    return f"{nights} with a failure" if expected.after_failure else nights


def _ignores_failure(expected: ExpectedModel) -> bool:
    return expected.status == CompletionStatus.FAILED and not expected.after_failure


def _quantile(expected: ExpectedModel, at: str | None, per_cent: int, outlook: DateOutlook, zone: ZoneInfo) -> str:
    if expected.by_cutoff is None:
        return ABSENT
    return f"not in {per_cent} %" if at is None else _clock(at, outlook, zone)


def _clock(instant: str, outlook: DateOutlook, zone: ZoneInfo) -> str:
    return wall_clock(datetime.fromisoformat(instant), datetime.fromisoformat(outlook.now), zone)


def unopened(day: date, calendar: Calendar, now: datetime) -> str:
    """Return why an analysis date without a record has no outlook."""
    if not calendar.expected(day):
        return f"{with_weekday(day)} was never opened, and the calendar expects no report: no game, or off season"
    if day > calendar.league_day(now):
        return f"{with_weekday(day)} is not open yet: a worker opens the date when the day begins"
    return f"{with_weekday(day)} was never opened; for the opened dates: mlfs status"
