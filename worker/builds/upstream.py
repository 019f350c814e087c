"""Upstream tables: compare columns with the catalogue, count the Phase 4 rows of an analysis date, read the schedule.

A build compares before the build reads the tables, and stops with `SchemaDrift` at a fault. `SchemaWatch` compares
between builds, so that the log and the metrics show a fault before the evening. `ScheduleWatch` reads the days with a
game for the calendar. Every function only reads: a crash leaves no trace, and the next call starts from the tables
again.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta

import structlog

from worker.calendar import DAYS_AHEAD_MAX, SCHEDULE_REACH, Calendar
from worker.errors import PipelineError, SchemaDrift
from worker.features.plan import find_drift, plan_game_days, plan_probe, read_dependency_rows
from worker.observing.observer import Observer, SchemaChecked
from worker.ports import Warehouse

log = structlog.get_logger(__name__)

# A new upstream release can change every column; an error message names the first faults.
FAULTS_SHOWN_MAX = 6
# Seconds between two comparisons: several before each evening, at the cost of one read of the columns of nine tables.
PAUSE_S = 300.0
# The schedule changes a few times a day. After a failure the next try comes sooner.
SCHEDULE_PAUSE = timedelta(hours=1)
SCHEDULE_RETRY = timedelta(minutes=5)


def probe(warehouse: Warehouse, analysis_date: date) -> Mapping[str, int]:
    """Count the rows of an analysis date in the table of each Phase 4 processor, by processor.

    Raises:
        SchemaDrift: A table does not exist.
        Unavailable: The warehouse does not answer.
    """
    pipeline = warehouse.pipeline
    return read_dependency_rows(warehouse.query(plan_probe(analysis_date, pipeline)), pipeline)


def upstream_faults(warehouse: Warehouse) -> tuple[str, ...]:
    """Compare every upstream table that a build reads with the catalogue.

    Returns:
        One sentence fragment per fault, with table and column; empty if a build can read all tables.

    Raises:
        Unavailable: The warehouse does not answer.
    """
    upstream = warehouse.pipeline.upstream
    found = warehouse.columns_of(upstream)
    return tuple(fault for table, wanted in upstream.items() for fault in find_drift(table, wanted, found[table]))


def validate_upstream(warehouse: Warehouse, analysis_date: date) -> int:
    """Compare every upstream table that a build reads with the catalogue; return the number of tables.

    Raises:
        SchemaDrift: A table or column is absent or has another type; the message names tables and columns.
        Unavailable: The warehouse does not answer.
    """
    faults = upstream_faults(warehouse)
    if faults:
        shown = "; ".join(faults[:FAULTS_SHOWN_MAX])
        more = f"; and {len(faults) - FAULTS_SHOWN_MAX} more" if len(faults) > FAULTS_SHOWN_MAX else ""
        day = analysis_date.isoformat()
        raise SchemaDrift(
            f"{day} cannot be built: {shown}{more}. Repair upstream (an embedded warehouse is filled "
            f"by: mlfs load DIR), then: mlfs replay {day} --reason '…'"
        )
    return len(warehouse.pipeline.upstream)


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
