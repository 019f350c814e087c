"""Upstream tables: find what is usable tonight, count the Phase 4 rows of an analysis date, read the schedule.

Model: an upstream table or column that is gone, denied or retyped counts as missing (`worker.features.usable`), and a
build goes on without the table or column. `find_usable` compares the columns with the catalogue. `find_unreadable`
follows a failed statement: the check reads each table, then each column of an unreadable table. `SchemaWatch` compares
between builds, so that the log and the metrics show a fault before the evening. `ScheduleWatch` reads the days with a
game for the calendar.

Every function only reads: a crash leaves no trace, and the next call starts from the tables again.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta

import structlog

from worker.calendar import DAYS_AHEAD_MAX, SCHEDULE_REACH, Calendar
from worker.errors import AccessDenied, Fatal, PipelineError, SchemaDrift, SourceGone
from worker.features.model import UpstreamFault
from worker.features.pipeline import Pipeline
from worker.features.plan import plan_game_days, plan_probe, plan_reading, read_dependency_rows
from worker.features.usable import ABSENT, Usable, compare, essential_columns
from worker.observing.observer import Observer, SchemaChecked
from worker.ports import Warehouse

log = structlog.get_logger(__name__)

# Seconds between two comparisons: several before each evening, at the cost of one read of the columns of nine tables.
PAUSE_S = 300.0
# The schedule changes a few times a day. After a failure the next try comes sooner.
SCHEDULE_PAUSE = timedelta(hours=1)
SCHEDULE_RETRY = timedelta(minutes=5)
# Errors of a statement that a table or column may have caused. An outage or a limit of the warehouse is no such error.
UPSTREAM_ERRORS = (SchemaDrift, AccessDenied, SourceGone)
# A check of a table without a known analysis date reads no row.
NO_DAYS = (date(1900, 1, 1), date(1900, 1, 1))

Days = tuple[date, date]
"""First and last date of the rows that a check reads, both included."""


def find_usable(warehouse: Warehouse, tables: Collection[str]) -> Usable:
    """Compare upstream tables with the catalogue; a table without columns is read to find the reason.

    Raises:
        Unavailable: The warehouse does not answer.
    """
    usable = compare(warehouse.pipeline, warehouse.columns_of(tables))
    return usable.also(
        UpstreamFault(table=fault.table, found=f"cannot be read: {refusal}")
        for fault in usable.faults
        if not fault.column and fault.found == ABSENT and (refusal := _refusal(warehouse, fault.table))
    )


def _refusal(warehouse: Warehouse, table: str) -> str:
    """Return why a table without known columns cannot be read; empty for a table that does not exist."""
    try:
        _read(warehouse, table, essential_columns(warehouse.pipeline, table), NO_DAYS)
    except (AccessDenied, SourceGone) as exc:
        return _reason(exc)
    except Fatal:
        return ""
    return ""


def _read(warehouse: Warehouse, table: str, columns: Collection[str], days: Days) -> None:
    warehouse.query(plan_reading(table, columns, days, warehouse.pipeline))


def _reason(error: PipelineError) -> str:
    """Return the text of an error without the name of the statement."""
    return str(error).removeprefix("running reading: ")


def find_unreadable(warehouse: Warehouse, usable: Usable, tables: Collection[str], days: Days) -> Usable:
    """Return *usable* with the faults that a failed statement met: the columns are compared and read again.

    Args:
        warehouse: Warehouse of the tables.
        usable: Known faults; a table or column in these faults is not read.
        tables: Tables of the failed statement.
        days: Dates of the rows.

    Raises:
        Unavailable: The warehouse does not answer.
    """
    again = find_usable(warehouse, tables)
    usable = Usable(faults=usable.faults, casts=again.casts).also(again.faults)
    without = usable.without
    for table in tables:
        if table not in without.tables:
            known = {column for name, column in without.columns if name == table}
            usable = usable.also(_unreadable(warehouse, table, known, days))
    return usable


def check_roster(warehouse: Warehouse, usable: Usable) -> None:
    """Return if the roster is usable or is unusable for good.

    Raises:
        SourceGone: The file behind the roster is absent or unreadable; another attempt may find the file whole.
    """
    roster = warehouse.pipeline.entity.roster
    if roster not in usable.without.tables:
        return
    # The faults hold the same reason already, and the verdict of the build names the faults.
    with suppress(Fatal):
        _read(warehouse, roster, essential_columns(warehouse.pipeline, roster), NO_DAYS)


def _unreadable(warehouse: Warehouse, table: str, known: Collection[str], days: Days) -> Iterator[UpstreamFault]:
    """Yield the faults of a table: of each unreadable column, or of the whole table."""
    wanted = {name: kind for name, kind in warehouse.pipeline.readable[table].items() if name not in known}
    error = _error_of(warehouse, table, wanted, days)
    if error is None:
        return
    essential = essential_columns(warehouse.pipeline, table)
    whole = _error_of(warehouse, table, essential, days)
    others = {name: _error_of(warehouse, table, (name,), days) for name in wanted if name not in essential}
    broken = {name: why for name, why in others.items() if why is not None}
    if whole is not None or not broken:
        yield UpstreamFault(table=table, found=f"cannot be read: {_reason(whole or error)}")
        return
    for name, why in broken.items():
        yield UpstreamFault(table=table, column=name, wanted=wanted[name], found=f"unreadable: {_reason(why)}")


def _error_of(warehouse: Warehouse, table: str, columns: Collection[str], days: Days) -> PipelineError | None:
    try:
        _read(warehouse, table, columns, days)
    except UPSTREAM_ERRORS as exc:
        return exc
    return None


def probe(warehouse: Warehouse, analysis_date: date, *, as_of: datetime | None = None) -> Mapping[str, int]:
    """Count the rows of an analysis date in the table of each Phase 4 processor, by processor.

    A table that a build would find unusable counts as empty, so that rows behind such a table start no build.

    Raises:
        Fatal: The warehouse refuses the statement for another reason than an unusable table.
        Unavailable: The warehouse does not answer.
    """
    pipeline = warehouse.pipeline
    tables = phase4_tables(pipeline)
    usable = find_usable(warehouse, tables)
    try:
        rows = warehouse.query(plan_probe(analysis_date, pipeline, as_of=as_of, without=usable.without))
    except UPSTREAM_ERRORS as exc:
        worse = usable.also(
            UpstreamFault(table=table, found=f"cannot be read: {_reason(error)}")
            for table in tables
            if table not in usable.without.tables
            and (error := _error_of(warehouse, table, essential_columns(pipeline, table), (analysis_date,) * 2))
        )
        if worse == usable:
            raise
        log.warning("probe_without_tables", analysis_date=analysis_date.isoformat(), error=str(exc))
        rows = warehouse.query(plan_probe(analysis_date, pipeline, as_of=as_of, without=worse.without))
    return read_dependency_rows(rows, pipeline)


def phase4_tables(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the tables of the Phase 4 processors, each once."""
    return tuple(dict.fromkeys(block.table for block in pipeline.blocks))


def days_of(analysis_date: date, lookback_days: int) -> Days:
    """Return the dates of the rows that a build may read."""
    return analysis_date - timedelta(days=lookback_days), analysis_date


def upstream_faults(warehouse: Warehouse) -> tuple[str, ...]:
    """Compare every upstream table that a build reads with the catalogue.

    Returns:
        One sentence fragment per fault, with table and column; empty if a build can read all tables.

    Raises:
        Unavailable: The warehouse does not answer.
    """
    return tuple(fault.text for fault in find_usable(warehouse, warehouse.pipeline.upstream).faults)


def no_roster(day: str, fault: str, pipeline: Pipeline) -> str:
    """Return the message of a build without active entities; *fault* names the roster's table and the fault."""
    return (
        f"{day}: {fault}. Once the owner of {pipeline.entity.roster} has repaired the table (an embedded warehouse is "
        f"filled by: mlfs load DIR): mlfs replay {day} --reason '…'; until then: "
        f"mlfs replay {day} --source yesterday --reason '…'"
    )


class SchemaWatch:
    """Comparison between builds; the observer hears of every comparison, the log only of changed faults."""

    def __init__(self, warehouse: Warehouse, observer: Observer) -> None:
        self._warehouse = warehouse
        self._observer = observer
        self._known: tuple[str, ...] | None = None

    def run_once(self) -> float:
        """Compare once; return the seconds until the next comparison.

        Raises:
            Unavailable: The warehouse does not answer; the faults of the last comparison stay shown.
        """
        faults = upstream_faults(self._warehouse)
        self._observer.note(SchemaChecked(faults=faults, changed=faults != self._known))
        self._known = faults
        return PAUSE_S


def read_game_days(warehouse: Warehouse, calendar: Calendar, today: date) -> frozenset[date]:
    """Return the days with a game around *today*: as far back as a worker catches up, and a year ahead.

    Returns:
        Days of the league's calendar; empty for a pipeline without a schedule.

    Raises:
        PipelineError: The schedule cannot be read.
    """
    if warehouse.pipeline.schedule is None:
        return frozenset()
    first = today - timedelta(days=calendar.catch_up_days + SCHEDULE_REACH + 1)
    last = today + timedelta(days=DAYS_AHEAD_MAX + SCHEDULE_REACH)
    rows = warehouse.query(plan_game_days(first, last, warehouse.pipeline))
    return frozenset(row["game_day"] for row in rows)


class ScheduleWatch:
    """The days with a game, read at most once an hour. A failure keeps the days of the last read. Thread-safe."""

    def __init__(
        self, warehouse: Warehouse, calendar: Calendar, aside: Callable[[date, Callable[[], None]], bool]
    ) -> None:
        """Store the collaborators; read nothing.

        Args:
            warehouse: Holds the schedule.
            calendar: Computes the range of days to read.
            aside: Runs the query on a separate thread, so that a slow warehouse delays no sweep for long.
        """
        self._warehouse = warehouse
        self._calendar = calendar
        self._aside = aside
        self._next: datetime | None = None
        self.known: frozenset[date] = frozenset()

    def days(self, now: datetime) -> frozenset[date]:
        """Return the days of the last read, after a new read if an hour has passed; *now* is UTC."""
        if self._is_due(now):
            self._aside(self._calendar.league_day(now), lambda: self._read(now))
        return self.known

    def _is_due(self, now: datetime) -> bool:
        # An instant far ahead comes from a store's clock that was wrong for a while.
        return self._next is None or not now < self._next <= now + SCHEDULE_PAUSE

    def _read(self, now: datetime) -> None:
        self._next = now + SCHEDULE_RETRY
        try:
            self.known = read_game_days(self._warehouse, self._calendar, self._calendar.league_day(now))
        except PipelineError as exc:
            log.warning(
                "schedule_not_read",
                kind=type(exc).__name__,
                error=str(exc),
                next_step="mlfs doctor; for five minutes the days of the last read count, without such days the season",
            )
        except Exception:
            log.exception("schedule_not_read")
        else:
            self._next = now + SCHEDULE_PAUSE
