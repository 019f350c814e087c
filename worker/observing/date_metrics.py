"""Gauges about analysis dates, read from state store and calendar at each scrape; docs/metrics.md explains each gauge.

Every replica shows the same values: query the gauges with `max by (…)`, never `sum`. Labels hold only the latest
analysis dates; each scrape builds all families anew. A crash loses no values, because the store holds the values.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TypeVar

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from statemachine.evidence import publication_is_retracted
from statemachine.model import CompletionStatus, DateRecord, FindingSeverity, State
from worker.calendar import Calendar
from worker.errors import PipelineError
from worker.features.findings import FindingPolicy
from worker.observing.bounds import Bounded
from worker.ports import Clock, StateStore

LabelValues = TypeVar("LabelValues", bound=tuple[str, ...])

log = structlog.get_logger(__name__)

# A dashboard shows ten analysis dates; this limit bounds the number of series.
DATES_SHOWN_MAX = 10
# A note asks nobody to act, so notes have no series.
SEVERITIES_SHOWN = (FindingSeverity.CRITICAL, FindingSeverity.WARNING)


class DateCollector(Collector):
    """Collector of the gauges. Without an answer of the store, the gauges are absent: old values would mislead."""

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        calendar: Callable[[], Calendar],
        processors: Sequence[str],
        policy: FindingPolicy,
        optional: Collection[str] = (),
    ) -> None:
        self._optional = frozenset(optional)
        self._store = store
        self._clock = clock
        self._calendar = calendar
        self._processors = tuple(processors)
        self._thresholds = _threshold_family(policy)
        self._scrape = Bounded(self._read, "the state store")

    def describe(self) -> Iterable[Metric]:
        """Return no families, so that registration causes no scrape."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the families of calendar and store; if the store does not answer, the families of the calendar."""
        known = [*self._calendar_families(self._clock.now()), self._thresholds, self._damage_family()]
        try:
            return [*known, *self._scrape()]
        except PipelineError:
            return [*known, _up(value=False)]

    def _read(self) -> list[Metric]:
        """Return the families of the store; a family with an error does not hide the other families."""
        families: list[Metric] = [_up(value=self._is_writable())]
        for read in (self._record_families, self._wake_families, self._outbox_families):
            try:
                families += list(read())
            except PipelineError:
                raise
            except Exception:
                log.exception("scrape_incomplete")
        return families

    def _is_writable(self) -> bool:
        try:
            self._store.check_writable()
        except PipelineError:
            return False
        return True

    def _damage_family(self) -> Metric:
        text = "Members and keys of the state store that this process could not read."
        family = CounterMetricFamily("mlfs_store_damage", text, labels=["key"])
        for kind, found in self._store.damage_counts().items():
            family.add_metric([kind], float(found))
        return family

    def _calendar_families(self, now: datetime) -> Iterable[Metric]:
        expected = self._calendar().expected(self._calendar().tonight(now))
        yield _gauge("mlfs_date_expected_today", "Whether the calendar expects tonight's date.", expected)
        if (cutoff_at := self._calendar().next_cutoff(now)) is not None:
            text = "The next instant at which an expected date must be published."
            yield _gauge("mlfs_next_sla_timestamp_seconds", text, cutoff_at.timestamp())

    def _record_families(self) -> Iterable[Metric]:
        now = self._clock.now()
        shown = self._store.dates(DATES_SHOWN_MAX)
        found = self._store.load_all(shown)
        records = [record for day in shown if (record := found.get(day)) is not None]
        damaged = len(shown) - len(found)
        yield _gauge("mlfs_corrupt_records", "Dates of the window whose record cannot be read.", damaged)
        yield from _state_families(records)
        yield from _instant_families(records)
        yield self._sla_family(records, now)
        yield self._unopened_family(now)
        yield from _publication_families(records)
        yield from _judgement_families(records)
        yield from _latest_families(records)
        yield from self._report_families(records)
        unbuilt = [r for r in records if r.state in {State.WAITING, State.FAILED} and r.result is None]
        yield self._failed_processors(records)
        awaiting = [r for r in unbuilt if r.wake_at is not None]
        yield self._missing_processors(awaiting)
        overdue = [r for r in awaiting if r.deadline_at <= now]
        yield _gauge("mlfs_overdue_dates", "Dates of the window whose deadline passed, not dealt with.", len(overdue))

    def _wake_families(self) -> Iterable[Metric]:
        wake = self._store.next_wake()
        if wake is not None:
            yield _gauge("mlfs_next_wake_timestamp_seconds", "When something is due next.", wake.timestamp())

    def _sla_family(self, records: Sequence[DateRecord], now: datetime) -> Metric:
        """Return the SLA of each expected analysis date; backfills and dates outside the season have no SLA."""
        today = self._calendar().league_day(now)
        oldest = today - timedelta(days=self._calendar().catch_up_days)
        awaited: dict[date, datetime] = {
            day: self._calendar().at(day, self._calendar().upgrade_cutoff) for day in self._to_open(now)
        }
        awaited |= {
            record.analysis_date: record.upgrade_cutoff_at
            for record in records
            if self._calendar().expected(record.analysis_date) and oldest <= record.analysis_date <= today
        }
        latest = sorted(awaited.items())[-DATES_SHOWN_MAX:]
        return _by_date(
            "mlfs_date_sla_timestamp_seconds",
            "When an expected date must be published.",
            {day: at.timestamp() for day, at in latest},
        )

    def _to_open(self, now: datetime) -> Sequence[date]:
        return self._calendar().to_open(self._store.last_opened(), now)[-DATES_SHOWN_MAX:]

    def _unopened_family(self, now: datetime) -> Metric:
        """Return the expected analysis dates without a record; a damaged record is a record."""
        expected = self._to_open(now)
        records = self._store.load_all(expected) if expected else {}
        text = "1 for a date that the calendar expects and no sweep has opened."
        return _by_date("mlfs_date_unopened", text, {day: 1.0 for day, record in records.items() if record is None})

    def _failed_processors(self, records: Sequence[DateRecord]) -> Metric:
        failed = CompletionStatus.FAILED
        return _labelled(
            "mlfs_date_processor_failed",
            "1 for a processor whose last word about the date is a failure.",
            ("analysis_date", "processor", "optional"),
            {
                (record.analysis_date.isoformat(), name, self._is_optional(name)): 1.0
                for record in records
                for name in self._processors
                if (report := record.completions.get(name)) is not None and report.status is failed
            },
        )

    def _missing_processors(self, awaiting: Sequence[DateRecord]) -> Metric:
        return _labelled(
            "mlfs_date_processor_missing",
            "1 for a processor that has reported nothing about a date whose build is still to come.",
            ("analysis_date", "processor", "optional"),
            {
                (record.analysis_date.isoformat(), name, self._is_optional(name)): 1.0
                for record in awaiting
                for name in self._processors
                if name not in record.completions
            },
        )

    def _is_optional(self, processor: str) -> str:
        """Return the label by which alerts tell processors apart; empty, as good as absent, for a required one."""
        return "yes" if processor in self._optional else ""

    def _report_families(self, records: Sequence[DateRecord]) -> Iterable[Metric]:
        """Yield the processors with a counted completion for the newest analysis date.

        Args:
            records: Records, the newest first.
        """
        if not records:
            return
        text = "Whether its completion counts for the newest date."
        family = GaugeMetricFamily("mlfs_dependency_reported", text, labels=["processor"])
        for processor in self._processors:
            family.add_metric([processor], float(processor in records[0].counted))
        yield family

    def _outbox_families(self) -> Iterable[Metric]:
        yield _gauge("mlfs_outbox_pending", "Outcomes waiting to be published.", self._store.outbox_size())
        head = self._store.outbox(1)
        if head and (queued_at := head[0].queued_at) is not None:
            text = "Since when the oldest of them waits."
            yield _gauge("mlfs_outbox_oldest_timestamp_seconds", text, queued_at.timestamp())


def _up(*, value: bool) -> GaugeMetricFamily:
    return _gauge("mlfs_state_store_up", "Whether a commit to the state store is possible.", value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], float(value))
    return family


def _by_date(name: str, text: str, values: Mapping[date, float]) -> GaugeMetricFamily:
    return _labelled(name, text, ("analysis_date",), {(day.isoformat(),): value for day, value in values.items()})


def _labelled(name: str, text: str, labels: Sequence[str], values: Mapping[LabelValues, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, float(value))
    return family


def _threshold_family(policy: FindingPolicy) -> Metric:
    """Return the points of each component below which the document says Warning or Critical."""
    levels = (("warning", policy.warning_below), ("critical", policy.critical_below))
    return _labelled(
        "mlfs_quality_component_threshold",
        "Points below which a component is at this level.",
        ("component", "level"),
        {(name, level): points for level, thresholds in levels for name, points in thresholds.items()},
    )


def _state_families(records: Sequence[DateRecord]) -> Iterable[Metric]:
    dates = GaugeMetricFamily("mlfs_dates", "Dates of the window by state.", labels=["state"])
    for state in State:
        dates.add_metric([state], float(sum(1 for record in records if record.state is state)))
    yield dates
    states = GaugeMetricFamily(
        "mlfs_date_state", "1 for the state in which the date is.", labels=["analysis_date", "state"]
    )
    failed = GaugeMetricFamily("mlfs_date_failed", "1 for a date that failed.", labels=["analysis_date", "because"])
    for record in records:
        day = record.analysis_date.isoformat()
        for state in State:
            states.add_metric([day, state], float(record.state is state))
        if record.state is State.FAILED:
            failed.add_metric([day, record.failure.because if record.failure else "unknown"], 1.0)
    yield states
    yield failed
    yield _of_each(records, "mlfs_date_generation", "Its generation.", lambda r: r.generation)
    yield _of_each(records, "mlfs_date_attempt", "The attempt within it.", lambda r: r.attempt)
    yield _of_each(records, "mlfs_date_completions", "Processors whose completion counts.", lambda r: len(r.counted))
    yield _of_each(records, "mlfs_date_giving_up", "Whether its generation is being closed.", lambda r: r.giving_up)


def _of_each(
    records: Sequence[DateRecord], name: str, text: str, read: Callable[[DateRecord], float | None]
) -> GaugeMetricFamily:
    """Return a gauge by analysis date; an analysis date has no sample if *read* returns None."""
    values = ((record.analysis_date, read(record)) for record in records)
    return _by_date(name, text, {day: value for day, value in values if value is not None})


def _instant_families(records: Sequence[DateRecord]) -> Iterable[Metric]:
    yield _of_each(
        records, "mlfs_date_deadline_timestamp_seconds", "When waiting ends.", lambda r: r.deadline_at.timestamp()
    )
    yield _of_each(
        records,
        "mlfs_date_due_timestamp_seconds",
        "When something is due for it.",
        lambda r: None if r.wake_at is None else r.wake_at.timestamp(),
    )
    yield _of_each(
        records,
        "mlfs_date_claimed_timestamp_seconds",
        "When the build that runs was claimed.",
        lambda r: None if r.lease is None else r.lease.claimed_at.timestamp(),
    )


def _publication_families(records: Sequence[DateRecord]) -> Iterable[Metric]:
    """Yield the facts of the publication of each analysis date, in every state of the analysis date."""
    yield _of_each(
        records,
        "mlfs_date_published_generation",
        "The generation that consumers read, 0 for none.",
        lambda r: r.published_generation,
    )
    yield _of_each(
        records,
        "mlfs_date_published_retracted",
        "Whether consumers read rows of a run that was taken back.",
        publication_is_retracted,
    )
    published = {record.analysis_date: record.result for record in records if record.result is not None}
    yield _by_date(
        "mlfs_date_quality_score",
        "Score of its publication, 0 to 100.",
        {day: result.quality_score for day, result in published.items()},
    )
    yield _by_date(
        "mlfs_date_fallback_ratio",
        "Share of its blocks not from Phase 4, 0 to 1.",
        {day: result.fallback_rate for day, result in published.items()},
    )
    yield _by_date("mlfs_date_rows", "Rows published.", {day: result.row_count for day, result in published.items()})
    yield _by_date(
        "mlfs_date_committed_timestamp_seconds",
        "When it was committed.",
        {day: result.committed_at.timestamp() for day, result in published.items()},
    )


def _judgement_families(records: Sequence[DateRecord]) -> Iterable[Metric]:
    """Yield the components of each publication, and the number of its findings that ask somebody to act."""
    published = {record.analysis_date.isoformat(): record.result for record in records if record.result is not None}
    yield _labelled(
        "mlfs_date_quality_component",
        "The six components of its publication, in points.",
        ("analysis_date", "component"),
        {(day, name): points for day, result in published.items() for name, points in result.components.items()},
    )
    counts = Counter(
        (day, finding.check, finding.severity.value)
        for day, result in published.items()
        for finding in result.findings or ()
        if finding.severity in SEVERITIES_SHOWN
    )
    yield _labelled(
        "mlfs_date_findings",
        "Findings about its publication, without notes.",
        ("analysis_date", "check", "severity"),
        {key: float(number) for key, number in counts.items()},
    )


def _latest_families(records: Sequence[DateRecord]) -> Iterable[Metric]:
    """Yield the quality of the latest publication, also during another build; *records* begin with the newest."""
    result = next((record.result for record in records if record.result is not None), None)
    if result is None:
        return
    yield _gauge("mlfs_quality_score", "Score of the latest published date, 0 to 100.", result.quality_score)
    yield _gauge("mlfs_fallback_ratio", "Share of its blocks not from Phase 4, 0 to 1.", result.fallback_rate)
    yield _gauge("mlfs_missing_ratio", "Share of its blocks from neither phase, 0 to 1.", result.missing_rate)
    yield _gauge("mlfs_rows", "Rows published for it.", result.row_count)
    yield _gauge("mlfs_latest_commit_timestamp_seconds", "When it was committed.", result.committed_at.timestamp())
    components = GaugeMetricFamily("mlfs_quality_component", "Its six components, in points.", labels=["component"])
    for name, points in result.components.items():
        components.add_metric([name], points)
    yield components
    present = GaugeMetricFamily("mlfs_dependency_rows", "Rows in each processor's table.", labels=["processor"])
    for name, rows in result.dependency_rows.items():
        present.add_metric([name], float(rows))
    yield present


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlookFigures:
    """Figures about the missing processors of the open dates.

    Attributes:
        chances: Chance, 0 to 1, by (analysis date, processor, `deadline` or `cutoff`).
        nights: Comparable nights by (analysis date, processor).
        scores: Score by (analysis date, case); the case is `now`, `all` or a processor.
    """

    chances: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    nights: Mapping[tuple[str, str], float] = field(default_factory=dict)
    scores: Mapping[tuple[str, str], float] = field(default_factory=dict)


class OutlookGauges(Collector):
    """Collector of the figures of the last refresh; no figure without an open date."""

    def __init__(self) -> None:
        self._families: Sequence[Metric] = ()

    def describe(self) -> Iterable[Metric]:
        """Return no families, so that registration causes no scrape."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the families of the last refresh."""
        return self._families

    def show(self, figures: OutlookFigures) -> None:
        """Replace all figures in one step."""
        self._families = (
            _labelled(
                "mlfs_outlook_chance",
                "Share of comparable nights on which a missing processor came by the instant.",
                ("analysis_date", "processor", "by"),
                figures.chances,
            ),
            _labelled(
                "mlfs_outlook_nights",
                "Comparable nights for a missing processor.",
                ("analysis_date", "processor"),
                figures.nights,
            ),
            _labelled(
                "mlfs_outlook_score",
                "Score of a build now, and with the table of a missing processor, or of all.",
                ("analysis_date", "case"),
                figures.scores,
            ),
        )
