"""Arrivals on the way from the state store to the warehouse: the rules, and the pass that writes. The rules are pure.

Model: a commit with a report marks the analysis date in the store. A pass reads the marks. Of each marked analysis date
that has settled, history and record hold the reports that counted; each report is an arrival. The warehouse appends the
arrivals that the table lacks, and the pass removes the marks that no later commit has replaced.

Guarantees: no delivery, deadline or build waits for a pass. After a crash before the removal the mark remains, and the
pass of any worker writes the same arrivals again, which changes no row. While the warehouse is away, the marks remain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import chain
from types import MappingProxyType

import structlog

from statemachine.events import EventKind
from statemachine.evidence import mode_of
from statemachine.model import TERMINAL_STATES, BuildMode, DateRecord, Trigger
from statemachine.reasons import Reason
from worker.calendar import Calendar
from worker.errors import PipelineError, Unavailable
from worker.features.arrivals import Arrival
from worker.observing.observer import ArrivalsWritten, Observer
from worker.ports import Clock, HistoryEntry, Report, StateStore, Warehouse

log = structlog.get_logger(__name__)

# Reasons of the changes that begin a generation, each with the trigger. A build whose input was retracted may also end
# as RESCUE_FOLLOWS.
STARTS: Mapping[str, Trigger] = MappingProxyType(
    {
        Reason.JOIN_COMPLETE: Trigger.JOIN,
        Reason.FOUND_ALL: Trigger.JOIN,
        Reason.DEADLINE_PASSED: Trigger.DEADLINE,
        Reason.FALLBACK_FOLLOWS: Trigger.DEADLINE,
        Reason.UPSTREAM_FAILED: Trigger.UPSTREAM_FAILED,
        Reason.UPGRADE_STARTED: Trigger.UPGRADE,
        Reason.COMMITTED_UPGRADE_FOLLOWS: Trigger.UPGRADE,
        Reason.RESCUE_STARTED: Trigger.RESCUE,
        Reason.RESCUE_FOLLOWS: Trigger.RESCUE,
        Reason.RERUN_STARTED: Trigger.RERUN,
        Reason.COMMITTED_RERUN_FOLLOWS: Trigger.RERUN,
        Reason.REPLAY_ACCEPTED: Trigger.REPLAY,
        Reason.REBUILD_STARTED: Trigger.RETRACTION,
        Reason.COMMITTED_REBUILD_FOLLOWS: Trigger.RETRACTION,
    }
)
# An analysis date that never ends is written so long after deadline and newest report.
UNSETTLED_MAX = timedelta(days=1)
PAUSE_S = 30.0
# Seconds after a refusal that another pass would meet again.
PAUSE_AFTER_REFUSAL_S = 600.0
# Marks that a pass reads, and analysis dates that a pass writes: a statement for BigQuery has ten parameters a report.
MARKS_MAX, DATES_MAX = 200, 25


def is_settled(record: DateRecord, now: datetime) -> bool:
    """Return whether no change is due that a report could have caused; True a day after deadline and newest report."""
    if record.state in TERMINAL_STATES and record.wake_at is None:
        return True
    newest = max((completion.received_at for completion in record.completions.values()), default=record.deadline_at)
    return now >= max(newest, record.deadline_at) + UNSETTLED_MAX


def arrivals_of(record: DateRecord, history: Sequence[HistoryEntry]) -> tuple[Arrival, ...]:
    """Return the arrivals of an analysis date, each identity once, by instant.

    Args:
        record: The record; the kept completions count where the history has no report of the run, as after a change by
            a release that stored no reports.
        history: The changes, oldest first.
    """
    found: dict[tuple[date, str, str, str], Arrival] = {}
    for received_at, later, report in sorted(_reports(record, history), key=lambda told: told[0]):
        arrival = Arrival(
            analysis_date=record.analysis_date,
            processor=report.processor,
            run=report.run,
            status=report.status.value,
            completed_at=report.completed_at,
            received_at=received_at,
            lateness_s=(received_at - record.deadline_at).total_seconds(),
            rows_claimed=report.row_count,
            rows_found=_rows_found(record, later, report.processor),
            caused=next((STARTS[entry.reason].value for entry in later if entry.reason in STARTS), None),
        )
        found.setdefault(arrival.identity, arrival)
    return tuple(found.values())


def _reports(
    record: DateRecord, history: Sequence[HistoryEntry]
) -> Iterator[tuple[datetime, Sequence[HistoryEntry], Report]]:
    """Yield each report with the instant of the commit and the changes from the commit on."""
    known: set[tuple[str, str, str]] = set()
    for place, entry in enumerate(history):
        for report in entry.reports:
            known.add((report.processor, report.run, report.status))
            yield entry.at, history[place:], report
    for name, kept in record.completions.items():
        if (name, kept.identity, kept.status) not in known:
            report = Report(
                processor=name,
                run=kept.identity,
                status=kept.status,
                completed_at=kept.completed_at,
                row_count=kept.row_count,
            )
            yield kept.received_at, [entry for entry in history if entry.at >= kept.received_at], report


def _rows_found(record: DateRecord, later: Sequence[HistoryEntry], processor: str) -> int | None:
    """Return the rows at the only publication among *later*; the record knows no figures of an earlier publication."""
    publications = sum(entry.event == EventKind.BUILD_COMMITTED for entry in later)
    if record.result is None or publications != 1:
        return None
    held = record.result.dependency_rows.get(processor)
    # A forced build and a copy of yesterday's rows read no table of a processor, so 0 is no count.
    return held if held or mode_of(record, record.result) is BuildMode.NORMAL else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Result of a pass.

    Attributes:
        arrivals: Arrivals that the table holds now, new or not.
        dates: Analysis dates without a mark now, unless a commit replaced the mark meanwhile.
        waiting_s: Seconds since the deadline of the oldest analysis date of the pass that still has a mark; at least 0.
        refused: The first refusal of the warehouse; None without a refusal.
    """

    arrivals: int
    dates: int
    waiting_s: float
    refused: PipelineError | None = None


class ArrivalsWriter:
    """Writes the arrivals of the marked analysis dates; several workers may write at the same time."""

    def __init__(
        self, *, store: StateStore, warehouse: Warehouse, calendar: Calendar, clock: Clock, observer: Observer
    ) -> None:
        self._store = store
        self._warehouse = warehouse
        self._calendar = calendar
        self._clock = clock
        self._observer = observer
        self._skip = 0
        self._is_postponed = False

    def run_once(self) -> float:
        """Run a pass and return the seconds until the next pass; log an error of the warehouse once for each outage.

        Raises:
            Unavailable: The state store does not answer.
        """
        written = self.write()
        if written.refused is not None and not self._is_postponed:
            kind = type(written.refused).__name__
            log.warning("arrivals_postponed", kind=kind, error=str(written.refused), waiting_s=written.waiting_s)
        self._is_postponed = written.refused is not None
        lasting = written.refused is not None and not isinstance(written.refused, Unavailable)
        return PAUSE_AFTER_REFUSAL_S if lasting and not written.dates else PAUSE_S

    def write(self) -> Written:
        """Write the arrivals of the analysis dates that have settled, `DATES_MAX` at most.

        Raises:
            Unavailable: The state store does not answer.
        """
        now = self._clock.now()
        marks = self._store.unwritten_arrivals(MARKS_MAX, self._skip)
        # Analysis dates that do not settle must not hide the dates behind them.
        self._skip = self._skip + MARKS_MAX if len(marks) >= MARKS_MAX else 0
        # A sweep replaces an unreadable record; until then the mark remains.
        records = {day: record or self._absent(day, now) for day, record in self._store.load_all(list(marks)).items()}
        settled = [day for day, record in records.items() if is_settled(record, now)][:DATES_MAX]
        found = {day: arrivals_of(records[day], self._store.history(day)) for day in settled}
        done, refused = self._record(found)
        self._store.arrivals_written({day: marks[day] for day in done})
        waiting = [now - record.deadline_at for day, record in records.items() if day not in done]
        written = Written(
            arrivals=sum(len(found[day]) for day in done),
            dates=len(done),
            waiting_s=max(max(waiting, default=timedelta(0)).total_seconds(), 0.0),
            refused=refused,
        )
        self._observer.note(ArrivalsWritten(arrivals=written.arrivals, waiting_s=written.waiting_s))
        return written

    def _absent(self, day: date, now: datetime) -> DateRecord:
        """Return the record of an opening in time, for an analysis date whose record is lost."""
        return self._calendar.fresh_record(day, min(now, self._calendar.at(day, self._calendar.deadline)))

    def _record(self, found: Mapping[date, Sequence[Arrival]]) -> tuple[Sequence[date], PipelineError | None]:
        """Record the arrivals of all analysis dates; after a refusal record each date alone.

        Returns:
            The analysis dates whose arrivals are in the table, and the first refusal.
        """
        arrivals = list(chain.from_iterable(found.values()))
        try:
            if arrivals:
                self._warehouse.record_arrivals(arrivals)
        except Unavailable as exc:
            return [], exc
        except PipelineError as exc:
            if len(found) == 1:
                return [], exc
        else:
            return list(found), None
        done: list[date] = []
        refused: PipelineError | None = None
        for day, own in found.items():
            dates, error = self._record({day: own})
            done += dates
            refused = refused or error
            if isinstance(error, Unavailable):
                break
        return done, refused
