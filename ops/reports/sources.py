"""Data of the reports: the records in the store, and the tables of the warehouse.

While the warehouse does not answer, a report uses the store alone and names the failed reads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from ops.arguments import shipped_only
from statemachine.model import DateRecord
from worker.calendar import Calendar
from worker.errors import PipelineError, Unavailable
from worker.features.model import Statement
from worker.pipelines.shipped import BLOCKS, PREDICTIONS_TABLE
from worker.ports import HistoryEntry
from worker.resources import Resources

Row = Mapping[str, Any]
_T = TypeVar("_T")
# Processor -> name of the block in the columns of the tables.
PROCESSORS: Mapping[str, str] = {block.processor: block.name for block in BLOCKS}


class ReportReader:
    """Reads the data of a report; `not_read` lists the failed reads."""

    def __init__(self, parts: Resources) -> None:
        shipped_only(parts.settings)
        self._parts = parts
        self.now = parts.clock.now()
        self.not_read: list[str] = []
        self._warehouse_away = False

    def ask(self, name: str, **parameters: object) -> list[Row] | None:
        """Run a shipped statement; on an error of the warehouse add the error to `not_read` and return None."""
        statement = Statement(name=name, sql=self._parts.settings.definition.text(name), parameters=parameters)
        return self._from_warehouse(lambda: list(self._parts.warehouse.query(statement)))

    def predictions(self, day: date) -> Row | None:
        """Read the predictions of Phase 5; return {} if the warehouse has no such table, None if the read failed."""
        found = self._from_warehouse(lambda: self._parts.warehouse.columns(PREDICTIONS_TABLE))
        if not found:
            return None if found is None else {}
        rows = self.ask("report_predictions", analysis_date=day)
        return rows[0] if rows else None

    def _from_warehouse(self, read: Callable[[], _T]) -> _T | None:
        if self._warehouse_away:
            return None
        try:
            return read()
        except PipelineError as exc:
            # Do not query an unavailable warehouse again: each query may wait for a time-out.
            self._warehouse_away = isinstance(exc, Unavailable)
            self.not_read.append(f"the warehouse: {exc}")
            return None

    def upstream(self, day: date) -> dict[str, Row] | None:
        """Count the present upstream rows of an analysis date by table; return None if the read failed."""
        lookback = timedelta(days=self._parts.settings.phase3_lookback_days)
        rows = self.ask(
            "report_upstream", analysis_date=day, lookback_start=day - lookback, previous_date=day - timedelta(days=1)
        )
        return None if rows is None else {row["source"]: row for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedDate:
    """Analysis date of a report, with the data of store and warehouse.

    Attributes:
        analysis_date: The analysis date.
        expected: Whether the calendar expects the analysis date.
        record: Record from the store; None if the store has no record, or no record any more.
        published: The last publication in the warehouse; None without a publication, or after a failed read.
        history: Changes kept by the store, oldest first.
    """

    analysis_date: date
    expected: bool
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

    def rows_at_build(self, processor: str) -> int | None:
        """Return the rows of the processor's table at the last publication."""
        if self.record is not None and self.record.result is not None:
            return self.record.result.dependency_rows.get(processor)
        return self.published[f"{PROCESSORS[processor]}_rows"] if self.published else None


def read_nights(
    parts: Resources, reader: ReportReader, last: date, days: int, *, with_history: bool = False
) -> list[ReportedDate]:
    """Read *days* dates up to *last*, oldest first; omit a date not expected and without any data.

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
            record=records.get(day),
            published=by_date.get(day),
            history=parts.store.history(day) if with_history and records.get(day) else (),
        )
        for day in span
    )
    return [night for night in nights if night.expected or night.record or night.published]


def iso(instant: datetime | None) -> str | None:
    """Return an instant for JSON."""
    return None if instant is None else instant.isoformat()
