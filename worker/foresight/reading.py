"""Reading of an outlook: arrivals and scores from the warehouse, kept for a while, for command, page, API and gauges.

Model: a reading runs on a separate thread, one at a time for arrivals and one at a time for scores, for any number of
callers. A page takes the kept values and never waits; the API waits a bounded time. The scores of a record are kept for
`SCORES_KEPT`, until the record changes: many open pages cost one dry run in this time. A crash loses only kept values.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

import structlog

from statemachine.model import DateRecord, Policy, State
from worker.calendar import Calendar
from worker.errors import Fatal, PipelineError, Unavailable
from worker.features.arrivals import Arrival, plan_arrivals, read_arrivals
from worker.foresight.outlook import Outlook, Stage, days_before, foresee, stage_of
from worker.foresight.outlook_text import DateOutlook, describe, unopened
from worker.foresight.scores import Scores, read_scores
from worker.observing.bounds import Bounded, NotYet
from worker.observing.date_metrics import OutlookFigures
from worker.ports import Clock, StateStore, Warehouse

log = structlog.get_logger(__name__)

# Seconds for which a caller of the API waits for a reading.
PATIENCE_S = 20.0
AT_ONCE_S = 0.0
SCORES_KEPT = timedelta(minutes=3)
# Many callers of a broken warehouse cost one reading in this time.
FAULT_KEPT = timedelta(seconds=30)
# The nights before are over, and the table changes once a night.
ARRIVALS_KEPT = timedelta(hours=1)
KEPT_MAX = 16
# Gauges begin so long before the deadline, and no dry run begins so close to the deadline: a build begins there.
WATCHED_BEFORE = timedelta(hours=1)
QUIET = timedelta(minutes=1)
WATCH_PAUSE_S = 60.0
DATES_WATCHED_MAX = 10
_QUIET_STATES = frozenset({State.READY, State.RUNNING})

T = TypeVar("T")


def arrivals_before(warehouse: Warehouse, analysis_date: date) -> tuple[Arrival, ...]:
    """Read the arrivals of the nights before an analysis date.

    Raises:
        Unavailable: The warehouse does not answer.
    """
    return read_arrivals(warehouse.query(plan_arrivals(*days_before(analysis_date), warehouse.pipeline)))


class Kept(Generic[T]):
    """Values read for records, one reading at a time, kept for a while. Thread-safe."""

    def __init__(
        self,
        read: Callable[[DateRecord], T],
        name: str,
        *,
        key: Callable[[DateRecord], Hashable],
        keep: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        """Store the reading; read nothing.

        Args:
            read: Reads the value of a record.
            name: Name of the reading in messages.
            key: Records with an equal key have the same value.
            keep: Age at which a value is read again.
            now: Clock, UTC.
        """
        self._read = read
        self._name = name
        self._key = key
        self._keep = keep
        self._now = now
        self._wanted: DateRecord | None = None
        self._kept: dict[Hashable, tuple[datetime, T | PipelineError]] = {}
        self._ask = Bounded(self._read_wanted, name)

    def __call__(self, record: DateRecord, patience_s: float) -> T:
        """Return the kept value, else the value of a new reading.

        Raises:
            Unavailable: The reading takes longer than *patience_s*, or the reading of another date runs.
            PipelineError: The error of the reading; an error is kept, too.
        """
        if (kept := self.known(record)) is not None:
            return kept
        self._wanted = record
        with suppress(NotYet):
            self._ask(patience_s)
        if (kept := self.known(record)) is None:
            raise Unavailable(f"{self._name} is not ready yet")
        return kept

    def known(self, record: DateRecord) -> T | None:
        """Return the kept value of a record; None without a value that is young enough.

        Raises:
            PipelineError: The kept error of the reading.
        """
        at, value = self._kept.get(self._key(record), (None, None))
        keep = FAULT_KEPT if isinstance(value, PipelineError) else self._keep
        if at is None or not timedelta(0) <= self._now() - at < keep:
            return None
        if isinstance(value, PipelineError):
            raise value
        return value

    def _read_wanted(self) -> None:
        record = self._wanted
        if record is None:
            return
        at = self._now()
        value: T | PipelineError
        try:
            value = self._read(record)
        except PipelineError as exc:
            value = exc
        except Exception as exc:
            log.exception("outlook_not_read", analysis_date=record.analysis_date.isoformat())
            value = Fatal(f"{self._name} failed: {type(exc).__name__}: {exc}")
        others = list(self._kept.items())[-KEPT_MAX + 1 :]
        self._kept = {**dict(others), self._key(record): (at, value)}


class OutlookReader:
    """Outlook of analysis dates, with the scores of a dry run. Thread-safe."""

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        policy: Policy,
        zone: ZoneInfo,
        calendar: Callable[[], Calendar],
        lookback_days: int,
        clock: Clock,
    ) -> None:
        """Store the collaborators; read nothing.

        Args:
            warehouse: Holds arrivals and tables.
            policy: Rules of the pipeline.
            zone: Zone of the instants in sentences.
            calendar: Returns the calendar with the known games.
            lookback_days: Maximal age of a Phase 3 row in a dry run.
            clock: The store's clock.
        """
        self._warehouse = warehouse
        self._policy = policy
        self._zone = zone
        self._calendar = calendar
        self._lookback_days = lookback_days
        self._clock = clock
        self._arrivals = Kept(
            lambda record: arrivals_before(warehouse, record.analysis_date),
            "the arrivals of earlier nights",
            key=lambda record: record.analysis_date,
            keep=ARRIVALS_KEPT,
            now=clock.now,
        )
        self._scores = Kept(
            self._read_scores,
            "the dry run",
            key=lambda record: (record.analysis_date, record.version),
            keep=SCORES_KEPT,
            now=clock.now,
        )

    def read(self, record: DateRecord, patience_s: float = PATIENCE_S) -> DateOutlook:
        """Return the outlook; wait at most *patience_s* for the dry run, and as long for the arrivals.

        An error of the dry run leaves the scores out, and the outlook names the error.

        Raises:
            PipelineError: The arrivals cannot be read, or not in time.
        """
        scores, why = None, ""
        if self.stage(record) is Stage.OPEN:
            # The dry run begins first, so that the first look at a page starts both readings.
            try:
                scores = self._scores(record, patience_s)
            except PipelineError as exc:
                why = str(exc)
        return describe(self._foresee(record, patience_s), scores, why, self._zone)

    def known(self, record: DateRecord) -> DateOutlook:
        """Return the outlook with scores only if a dry run has just ended; begin no dry run.

        Raises:
            PipelineError: The arrivals cannot be read, or not in time.
        """
        outlook = self._foresee(record, PATIENCE_S)
        return describe(outlook, self._scores.known(record), "no dry run begins while a build is due", self._zone)

    def unopened(self, day: date) -> str:
        """Return why an analysis date without a record has no outlook."""
        return unopened(day, self._calendar(), self._clock.now())

    def stage(self, record: DateRecord) -> Stage:
        """Return what a report can still change."""
        return stage_of(record, self._clock.now(), self._policy)

    def _foresee(self, record: DateRecord, patience_s: float) -> Outlook:
        arrivals = self._arrivals(record, patience_s) if self.stage(record) is Stage.OPEN else ()
        return foresee(record, arrivals, self._clock.now(), self._policy)

    def _read_scores(self, record: DateRecord) -> Scores:
        return read_scores(
            self._warehouse,
            record,
            self._policy.missing(record),
            now=self._clock.now,
            lookback_days=self._lookback_days,
        )


class OutlookWatch:
    """Pass that refreshes the gauges of the outlook each minute, from an hour before the deadline to the cutoff."""

    def __init__(
        self, reader: OutlookReader, store: StateStore, clock: Clock, show: Callable[[OutlookFigures], None]
    ) -> None:
        self._reader = reader
        self._store = store
        self._clock = clock
        self._show = show

    def run_once(self) -> float:
        """Read the outlook of each open date of the evening and show the figures; return the seconds until the next.

        Raises:
            Unavailable: The store does not answer.
        """
        now = self._clock.now()
        known = self._store.load_all(self._store.dates(DATES_WATCHED_MAX))
        watched = [
            record
            for record in known.values()
            if record is not None
            and record.deadline_at - WATCHED_BEFORE <= now
            and self._reader.stage(record) is Stage.OPEN
        ]
        outlooks = []
        for record in watched:
            try:
                outlooks.append(self._read(record, now))
            except PipelineError as exc:
                log.warning("outlook_not_read", analysis_date=record.analysis_date.isoformat(), error=str(exc))
        self._show(figures_of(outlooks))
        return WATCH_PAUSE_S

    def _read(self, record: DateRecord, now: datetime) -> DateOutlook:
        quiet = record.state in _QUIET_STATES or abs(now - record.deadline_at) <= QUIET
        return self._reader.known(record) if quiet else self._reader.read(record)


def figures_of(outlooks: Sequence[DateOutlook]) -> OutlookFigures:
    """Return the figures of several outlooks; a figure that is not known has no value."""
    chances, nights, scores = {}, {}, {}
    for outlook in outlooks:
        day = outlook.analysis_date
        for one in outlook.processors:
            nights[day, one.processor] = float(one.nights)
            for name, chance in (("deadline", one.by_deadline), ("cutoff", one.by_cutoff)):
                if chance is not None:
                    chances[day, one.processor, name] = chance.share
            if one.score_with is not None:
                scores[day, one.processor] = one.score_with
        if outlook.scores is not None:
            scores[day, "now"] = outlook.scores.now
            if outlook.scores.with_all is not None:
                scores[day, "all"] = outlook.scores.with_all
    return OutlookFigures(chances=chances, nights=nights, scores=scores)
