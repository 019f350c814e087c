"""Data of the reports: the records in the store, and the tables of the warehouse.

While the warehouse does not answer, a report uses the store alone and names the failed reads. A single upstream table
that is gone or denied is a fact about this table; the other tables are read all the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TypeVar

from ops.arguments import shipped_only
from ops.reports.facts import DateFacts, Row, TableLook, is_over, short
from statemachine.model import TERMINAL_STATES, DateRecord, Finding
from worker.builds.upstream import UPSTREAM_ERRORS, days_of, find_unreadable, find_usable
from worker.calendar import Calendar
from worker.errors import Denied, PipelineError, SourceGone, Unavailable
from worker.features.model import Statement
from worker.features.pipeline import Pipeline
from worker.features.records import read_findings
from worker.features.sql import Unusable
from worker.features.usable import Usable
from worker.observing.outbox import untold_by_date
from worker.pipelines.shipped import BLOCKS, PREDICTIONS_TABLE
from worker.ports import HistoryEntry
from worker.resources import Resources

_T = TypeVar("_T")
# Processor -> name of the block in the columns of the tables.
PROCESSORS: Mapping[str, str] = {block.processor: block.name for block in BLOCKS}
NO_PREDICTIONS: Row = {"prediction_count": 0, "average_confidence": None}


class ReportReader:
    """Reads the data of a report; `not_read` lists the failed reads."""

    def __init__(self, parts: Resources) -> None:
        shipped_only(parts.settings)
        self._parts = parts
        self.now = parts.clock.now()
        self.not_read: list[str] = []
        self._warehouse_away = False

    @property
    def pipeline(self) -> Pipeline:
        """Pipeline of the report."""
        return self._parts.settings.definition

    def ask(self, name: str, **parameters: object) -> list[Row] | None:
        """Run a shipped statement; on an error of the warehouse add the error to `not_read` and return None."""
        return self.from_warehouse(lambda: self._query(name, Unusable(), parameters))

    def from_warehouse(self, read: Callable[[], _T]) -> _T | None:
        """Return the answer of *read*; on an error of the warehouse add the error to `not_read` and return None."""
        if self._warehouse_away:
            return None
        try:
            return read()
        except PipelineError as exc:
            self._note(exc)
            return None

    def _note(self, error: PipelineError) -> None:
        # Do not query an unavailable warehouse again: each query may wait for a time-out.
        self._warehouse_away = is_away(error)
        self.not_read.append(f"the warehouse: {error}")

    def _query(self, name: str, without: Unusable, parameters: Mapping[str, object]) -> list[Row]:
        statement = Statement(name=name, sql=self.pipeline.text(name, without), parameters=parameters)
        return list(self._parts.warehouse.query(statement))

    def predictions(self, first: date, last: date) -> dict[date, Row] | None:
        """Read the predictions of Phase 5 by analysis date.

        Returns:
            {} if the warehouse has no such table, None if the read failed; otherwise an entry for each date of the
            span.
        """
        found = self.from_warehouse(lambda: self._parts.warehouse.columns(PREDICTIONS_TABLE))
        if not found:
            return None if found is None else {}
        rows = self.ask("report_predictions", first_date=first, last_date=last)
        if rows is None:
            return None
        by_date = {row["analysis_date"]: row for row in rows}
        span = (first + timedelta(days=day) for day in range((last - first).days + 1))
        return {day: by_date.get(day, NO_PREDICTIONS) for day in span}

    def upstream(self, day: date) -> dict[str, TableLook]:
        """Read the present content of each upstream table by source; {} if the warehouse could not be read.

        The tables are compared as before a build. After a refused statement each table is read by itself, so a table
        that is gone or denied does not hide the others.
        """
        return self.from_warehouse(lambda: self._look(day)) or {}

    def _look(self, day: date) -> dict[str, TableLook]:
        warehouse, tables = self._parts.warehouse, self.pipeline.upstream
        usable = find_usable(warehouse, tables)
        try:
            rows = self._count(day, usable)
        except UPSTREAM_ERRORS:
            days = days_of(day, self._parts.settings.phase3_lookback_days)
            usable = find_unreadable(warehouse, usable, tables, days)
            rows = self._count(day, usable)
        by_source = {row["source"]: row for row in rows}
        return {
            source: self._table_look(table, by_source[source], usable)
            for table in tables
            if (source := self._source(table)) in by_source
        }

    def _count(self, day: date, usable: Usable) -> list[Row]:
        values = {
            "analysis_date": day,
            "lookback_start": days_of(day, self._parts.settings.phase3_lookback_days)[0],
            "previous_date": day - timedelta(days=1),
        }
        return self._query("report_upstream", usable.without, values)

    def _table_look(self, table: str, row: Row, usable: Usable) -> TableLook:
        fault = "; ".join(fault.text for fault in usable.faults if fault.table == table)
        if table in usable.without.tables:
            return TableLook(table=table, fault=fault)
        return TableLook(table=table, row_count=row["row_count"], last_processed=row["last_processed"], fault=fault)

    def _source(self, table: str) -> str:
        """Return the processor of a Phase 4 table, otherwise the table without the dataset."""
        return next((block.processor for block in self.pipeline.blocks if block.table == table), short(table))

    def facts(self, day: date, record: DateRecord | None) -> DateFacts:
        """Read the facts about an analysis date.

        Args:
            day: The analysis date.
            record: Record from the store; None for an analysis date never opened.
        """
        calendar = self._parts.settings.calendar
        # No worker has opened the analysis date: use the record of an opening in time.
        opened_at = min(self.now, calendar.at(day, calendar.deadline))
        known = record or calendar.fresh_record(day, opened_at)
        published = self._published(known)
        predictions = self.predictions(day, day)
        return DateFacts(
            record=published,
            known_generation=known.published_generation,
            now=self.now,
            pipeline=self.pipeline,
            upstream=self.upstream(day),
            predictions=None if predictions is None else predictions.get(day, {}),
            untold=untold_by_date(self._parts.store).get(day),
        )

    def _published(self, record: DateRecord) -> DateRecord:
        """Return the record with the publication of the ledger, if the store does not know this publication yet.

        `mlfs build` publishes without the store, and a worker may have ended between publication and report. Consumers
        read the publication all the same.
        """
        from worker.builds.builder import result_from_ledger

        ledger = self.from_warehouse(lambda: self._parts.warehouse.read_ledger(record.analysis_date))
        if ledger is None or ledger.generation <= record.published_generation:
            return record
        settled = record.state in TERMINAL_STATES or not record.version
        return replace(
            record,
            state=ledger.state if settled else record.state,
            generation=max(record.generation, ledger.generation) if settled else record.generation,
            result=result_from_ledger(ledger),
        )


def is_away(error: PipelineError) -> bool:
    """Return whether the warehouse does not answer at all; a denied or missing table is no such error."""
    return isinstance(error, Unavailable) and not isinstance(error, Denied | SourceGone)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedDate:
    """Analysis date of a report, with the data of store and warehouse.

    Attributes:
        analysis_date: The analysis date.
        expected: Whether the calendar expects the analysis date.
        over: Whether the analysis date has ended or the deadline has passed.
        record: Record from the store; None if the store has no record, or no record any more.
        published: The last publication in the warehouse; None without a publication, or after a failed read.
        history: Changes kept by the store, oldest first.
    """

    analysis_date: date
    expected: bool
    over: bool = True
    record: DateRecord | None = None
    published: Row | None = None
    history: Sequence[HistoryEntry] = field(default=())

    @property
    def state(self) -> str | None:
        """State of the record; without a record the state of the last publication."""
        if self.record is not None:
            return self.record.state.value
        return self.published["state"] if self.published else None

    def figure(self, name: str) -> object:
        """Return a figure of the last publication; None without a publication."""
        if self.record is not None and self.record.result is not None:
            return getattr(self.record.result, name)
        return (self.published or {}).get(name)

    @property
    def findings(self) -> Sequence[Finding] | None:
        """Findings about the last publication; None without a publication, or for rows that no check judged."""
        if self.record is not None and self.record.result is not None:
            return self.record.result.findings
        return read_findings((self.published or {}).get("findings"))

    def rows_at_build(self, processor: str) -> int | None:
        """Return the rows of the processor's table at the last publication."""
        if self.record is not None and self.record.result is not None:
            return self.record.result.dependency_rows.get(processor)
        return self.published[f"{PROCESSORS[processor]}_rows"] if self.published else None


def read_nights(
    parts: Resources, reader: ReportReader, last: date, days: int, *, with_history: bool = False
) -> list[ReportedDate]:
    """Read *days* dates up to *last*, oldest first; omit a date not expected and without any data.

    Every report over several dates uses this list, so the reports agree about the number of nights.

    Raises:
        Unavailable: The store does not answer.
    """
    span = [last - timedelta(days=back) for back in range(days - 1, -1, -1)]
    records = parts.store.load_all(span)
    published = reader.ask("report_nights", first_date=span[0], last_date=last) or []
    by_date = {row["analysis_date"]: row for row in published}
    damaged = [day.isoformat() for day in span if day not in records]
    if damaged:
        reader.not_read.append(f"damaged records: {', '.join(damaged)}; repair them: mlfs recover")
    calendar: Calendar = parts.settings.calendar
    nights = (
        ReportedDate(
            analysis_date=day,
            expected=calendar.expected(day),
            over=_over(calendar, day, records.get(day), reader.now),
            record=records.get(day),
            published=by_date.get(day),
            history=parts.store.history(day) if with_history and records.get(day) else (),
        )
        for day in span
    )
    return [night for night in nights if night.expected or night.record or night.published]


def _over(calendar: Calendar, day: date, record: DateRecord | None, now: datetime) -> bool:
    return now >= calendar.at(day, calendar.deadline) if record is None else is_over(record, now)


def iso(instant: datetime | None) -> str | None:
    """Return an instant for JSON."""
    return None if instant is None else instant.isoformat()
