"""Outlook of an analysis date: when each missing processor comes, by the arrivals of earlier nights. Pure.

Model: a night is an analysis date with an arrival. The lateness of a processor on a night is the lateness of the first
report that counts, a success or found rows; without such a report the processor never came. A night is comparable if
the processor had not come by the lateness of the present instant. A chance is the share of the comparable nights on
which the processor came by an instant, with a Wilson interval. Fewer than `NIGHTS_MIN` comparable nights give no
chance. No night before the first report of the processor ever is comparable: a new processor was not missing then.

Comparable nights are narrowed while `NIGHTS_MIN` nights remain: to nights on which the processor had failed by the same
lateness, if the processor failed tonight, then to the weekday of the analysis date.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import product
from math import inf, sqrt

from statemachine.model import CompletionStatus, DateRecord, FailedBecause, Policy, State
from worker.date_text import RETRACTED
from worker.features.arrivals import Arrival

NIGHTS_MIN = 10
# A season has about 175 nights; older nights tell little about the processors of today.
SPAN_DAYS = 180
# A night whose deadline had another time of the day by more than this was opened late: a replay, or a downtime.
SHIFTED_MAX = timedelta(hours=12)
HALF, MOST = 50, 90
# Quantile of the normal distribution for an interval of 95 %.
Z = 1.959964
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Stage(StrEnum):
    """What a report can still change by itself."""

    OPEN = "open"
    """A missing processor would change the publication before the cutoff."""
    COMPLETE = "complete"
    """No processor is missing."""
    CLOSED = "closed"
    """The cutoff has passed."""
    CANCELLED = "cancelled"
    """A person cancelled the analysis date."""


@dataclass(frozen=True, slots=True)
class Chance:
    """Comparable nights, and the nights on which the processor came by an instant."""

    came: int
    nights: int

    @property
    def share(self) -> float:
        """Share of the nights, 0 to 1."""
        return self.came / self.nights

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson interval of 95 % of the share, 0 to 1."""
        width = 1 + Z * Z / self.nights
        middle = (self.share + Z * Z / (2 * self.nights)) / width
        half = Z * sqrt(self.share * (1 - self.share) / self.nights + (Z / (2 * self.nights)) ** 2) / width
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Expected arrival of a missing processor.

    Attributes:
        processor: Name of the processor.
        status: missing, failed or retracted. After a retraction no night is comparable.
        nights: Number of comparable nights.
        weekday: Weekday of the comparable nights; empty for every weekday.
        after_failure: Whether the processor had failed on each of the nights.
        by_deadline: Chance to come by the deadline; None after the deadline, and with too few nights.
        by_cutoff: Chance to come by the cutoff; None with too few nights.
        half_by: Instant by which the processor came on half of the nights, UTC; None if the processor came on fewer.
        most_by: Likewise for 90 % of the nights.
    """

    processor: str
    status: str
    nights: int
    weekday: str = ""
    after_failure: bool = False
    by_deadline: Chance | None = None
    by_cutoff: Chance | None = None
    half_by: datetime | None = None
    most_by: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Outlook of an analysis date at an instant (UTC); expectations in the order of the pipeline's definition."""

    record: DateRecord
    now: datetime
    stage: Stage
    expectations: tuple[Expectation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """A night, with the lateness in seconds of each processor's first report that counts, and of the first failure."""

    analysis_date: date
    deadline_at: datetime
    came: dict[str, float] = field(default_factory=dict)
    failed: dict[str, float] = field(default_factory=dict)


def stage_of(record: DateRecord, now: datetime, policy: Policy) -> Stage:
    """Return what a report can still change at *now*, UTC."""
    failure = record.failure if record.state is State.FAILED else None
    if failure is not None and failure.because == FailedBecause.CANCELLED:
        return Stage.CANCELLED
    if not policy.missing(record):
        return Stage.COMPLETE
    return Stage.OPEN if now < record.upgrade_cutoff_at else Stage.CLOSED


def days_before(analysis_date: date) -> tuple[date, date]:
    """Return the first and the last analysis date of the nights before; the calendar begins with year 1."""
    first, last = (max(analysis_date.toordinal() - days, 1) for days in (SPAN_DAYS, 1))
    return date.fromordinal(first), date.fromordinal(last)


def foresee(record: DateRecord, arrivals: Iterable[Arrival], now: datetime, policy: Policy) -> Outlook:
    """Return the outlook of an analysis date.

    Args:
        record: Record of the analysis date, with the reports of tonight.
        arrivals: Arrivals of the nights before; later arrivals are left out.
        now: UTC.
        policy: Rules of the pipeline.
    """
    stage = stage_of(record, now, policy)
    if stage is not Stage.OPEN:
        return Outlook(record=record, now=now, stage=stage)
    nights = nights_before(record, arrivals, now)
    expectations = tuple(_expect(record, name, nights, now) for name in policy.missing(record))
    return Outlook(record=record, now=now, stage=stage, expectations=expectations)


def nights_before(record: DateRecord, arrivals: Iterable[Arrival], now: datetime) -> list[Night]:
    """Return the nights before the analysis date that are over, and whose deadline had about the same time of day."""
    first, last = days_before(record.analysis_date)
    nights: dict[date, Night] = {}
    for arrival in arrivals:
        day = arrival.analysis_date
        if not (arrival.is_timed and first <= day <= last):
            continue
        if (night := nights.get(day)) is None:
            night = nights[day] = Night(analysis_date=day, deadline_at=arrival.deadline_at)
        earliest = night.failed if arrival.status == CompletionStatus.FAILED else night.came
        earliest[arrival.processor] = min(arrival.lateness_s, earliest.get(arrival.processor, inf))
    return [night for night in nights.values() if _is_comparable(record, night, now)]


def _is_comparable(record: DateRecord, night: Night, now: datetime) -> bool:
    """Return whether a night is over, with a deadline at about the time of day of the record's deadline."""
    usual_at = record.deadline_at - (record.analysis_date - night.analysis_date)
    is_over = night.deadline_at + (record.upgrade_cutoff_at - record.deadline_at) <= now
    return is_over and abs(night.deadline_at - usual_at) <= SHIFTED_MAX


def _expect(record: DateRecord, processor: str, nights: Sequence[Night], now: datetime) -> Expectation:
    completion = record.completions.get(processor)
    is_retracted = processor in record.ignored
    status = completion.status.value if completion else RETRACTED if is_retracted else "missing"
    reporting = [night.analysis_date for night in nights if processor in {*night.came, *night.failed}]
    if is_retracted or not reporting:
        return Expectation(processor=processor, status=status, nights=0)
    late_s = (now - record.deadline_at).total_seconds()
    begun = min(reporting)
    absent = [night for night in nights if night.analysis_date >= begun and night.came.get(processor, inf) > late_s]
    today = record.analysis_date.weekday()
    chosen, weekday, after_failure = absent, "", False
    failed = status == CompletionStatus.FAILED
    # The narrowest choice first: failure and weekday, failure, weekday.
    for wants_failure, wants_weekday in product((True, False) if failed else (False,), (True, False)):
        chosen = [
            night
            for night in absent
            if (not wants_failure or night.failed.get(processor, inf) <= late_s)
            and (not wants_weekday or night.analysis_date.weekday() == today)
        ]
        weekday, after_failure = WEEKDAYS[today] if wants_weekday else "", wants_failure
        if len(chosen) >= NIGHTS_MIN:
            break
    basis = Expectation(
        processor=processor, status=status, nights=len(chosen), weekday=weekday, after_failure=after_failure
    )
    lateness = sorted(night.came.get(processor, inf) for night in chosen)
    return basis if len(chosen) < NIGHTS_MIN else _with_chances(basis, lateness, record, now)


def _with_chances(basis: Expectation, lateness: Sequence[float], record: DateRecord, now: datetime) -> Expectation:
    """Return the expectation with chances; *lateness* in seconds, ascending, infinite for a night without arrival."""

    def chance(at: datetime) -> Chance:
        until_s = (at - record.deadline_at).total_seconds()
        return Chance(sum(late_s <= until_s for late_s in lateness), len(lateness))

    def in_share(per_cent: int) -> datetime | None:
        late_s = lateness[-(-per_cent * len(lateness) // 100) - 1]
        return None if late_s == inf else record.deadline_at + timedelta(seconds=late_s)

    return Expectation(
        processor=basis.processor,
        status=basis.status,
        nights=basis.nights,
        weekday=basis.weekday,
        after_failure=basis.after_failure,
        by_deadline=chance(record.deadline_at) if now < record.deadline_at else None,
        by_cutoff=chance(record.upgrade_cutoff_at),
        half_by=in_share(HALF),
        most_by=in_share(MOST),
    )
