"""The sweep: the pass of a worker over all analysis dates with a timer.

A sweep opens the expected analysis dates, reads the wake index and fires every timer that is due: a deadline, a retry,
the end of a lease, the next probe of a degraded analysis date, the cutoff. Every replica sweeps.

Guarantees: several replicas may fire the same timer, and the version check of the commit lets a single replica win.
Warehouse queries run on separate threads: while a query of an analysis date is slow, the sweep goes on with the others.

A crash at any step loses no timer: the wake index and the calendar's mark lie in the store, and the next sweep of any
replica fires the same timers.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import structlog

from statemachine.events import TimerFired
from statemachine.model import DateRecord, State
from statemachine.reasons import Reason
from statemachine.timers import PROBE_PATIENCE
from worker.calendar import Calendar
from worker.engine import Engine
from worker.errors import CorruptRecord, Fatal, PipelineError, SweepFailed, Unavailable
from worker.ports import Clock, StateStore
from worker.repair import Repair

log = structlog.get_logger(__name__)

# A sweep reads at most this many analysis dates from the wake index; the next sweep reads the rest.
BATCH_MAX = 500
# Seconds. A sweep waits at most this long for a new warehouse query, then goes on; later sweeps check the query without
# waiting.
PATIENCE_S = 2.0
# Limit of running queries. When all of them hang, the warehouse is down, and more queries would only add threads.
QUERIES_MAX = 16

RunAside = Callable[[date, Callable[[], None]], bool]


class _Query:
    """One call on a separate thread."""

    def __init__(self, act: Callable[[], None], name: str) -> None:
        self._act = act
        self.ended = threading.Event()
        self.error: Exception | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def is_open(self) -> bool:
        """Whether the call still runs, or ended with an error that no caller has received yet."""
        return not self.ended.is_set() or self.error is not None

    def _run(self) -> None:
        try:
            self._act()
        except Exception as exc:  # noqa: BLE001 - `Aside` raises the error again in the thread of the sweep
            self.error = exc
        finally:
            self.ended.set()


class Aside:
    """Runs at most one query per analysis date on a separate thread. Thread-safe."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        """Store the time for which the first call waits for a query.

        Args:
            patience_s: Seconds; with 0 no call waits.
        """
        self._patience_s = patience_s
        self._queries: dict[date, _Query] = {}
        self._lock = threading.Lock()

    def __call__(self, analysis_date: date, act: Callable[[], None]) -> bool:
        """Run *act*, or check the running query of the analysis date; return False while the query runs.

        Raises:
            Exception: The error of the query.
        """
        with self._lock:
            self._queries = {
                day: query for day, query in self._queries.items() if day == analysis_date or query.is_open
            }
            query = self._queries.get(analysis_date)
            is_new = query is None
            if query is None:
                if sum(not running.ended.is_set() for running in self._queries.values()) >= QUERIES_MAX:
                    return False
                query = self._queries[analysis_date] = _Query(act, f"query-{analysis_date}")
        # Only the call that starts a query waits. A query that hangs delays one sweep, and no later sweep.
        if not query.ended.wait(self._patience_s if is_new else 0):
            return False
        with self._lock:
            if self._queries.get(analysis_date) is query:
                del self._queries[analysis_date]
        if query.error is not None:
            raise query.error
        return True


def at_once(_analysis_date: date, act: Callable[[], None]) -> bool:
    """Run *act* in the calling thread: for tests and the simulation, where no query hangs."""
    act()
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Figures of one sweep."""

    opened: int
    due: int
    failed: int

    def check(self) -> None:
        """Raise an error if every analysis date of the sweep failed; a single failed analysis date raises no error.

        Raises:
            SweepFailed: Several analysis dates were due or expected, and all of them failed.
        """
        handled = self.opened + self.due
        if handled > 1 and self.failed >= handled:
            raise SweepFailed(f"each of {handled} analysis dates failed; the log names the faults: date_failed")


class Sweeper:
    """Opens expected analysis dates and fires due timers."""

    def __init__(  # noqa: PLR0913 - one collaborator each
        self,
        *,
        engine: Engine,
        store: StateStore,
        calendar: Calendar,
        clock: Clock,
        repair: Repair,
        probe: Callable[[date], Mapping[str, int]],
        date_failed: Callable[[date, Exception], None],
        aside: RunAside = at_once,
        aside_for_upgrades: RunAside = at_once,
        game_days: Callable[[datetime], frozenset[date]] = lambda _now: frozenset(),
        canary: Callable[[], None] = lambda: None,
    ) -> None:
        """Store the collaborators.

        Args:
            engine: Decides and stores.
            store: Holds the wake index and the calendar's mark.
            calendar: Computes the expected analysis dates.
            clock: The store's clock.
            repair: Opens analysis dates and ends generations.
            probe: Counts the rows of each processor's table.
            date_failed: Called with the error of a single analysis date.
            aside: Runs the queries on which a deadline or the end of a generation waits.
            aside_for_upgrades: Runs the probes of degraded analysis dates. After a backfill there may be hundreds of
                probes; with a separate limit these probes delay no deadline.
            game_days: Returns the days with a game by the schedule; empty while the schedule is not known.
            canary: Called at the start of each sweep, also while the store is away.
        """
        self._engine = engine
        self._store = store
        self._calendar = calendar
        self._clock = clock
        self._repair = repair
        self._probe = probe
        self._date_failed = date_failed
        self._aside = aside
        self._aside_for_upgrades = aside_for_upgrades
        self._game_days = game_days
        self._canary = canary
        self._started_at = clock.now()
        self._skip = 0

    def run_once(self) -> Sweep:
        """Open the expected analysis dates and fire the due timers; the core ignores a repeat of the same timer.

        Raises:
            Unavailable: The store does not answer. A fault of a single analysis date is logged and does not stop the
                sweep.
        """
        self._run_canary()
        self._clock.follow()
        now = self._clock.now()
        failed = 0
        expected = self._calendar.with_games(self._game_days(now)).to_open(self._last_opened(now), now)
        for day in expected:
            failed += self._faults_of(day, lambda: self._restore(day))  # noqa: B023 - called at once
            self._store.set_last_opened(day)
        due = self._store.due(now, BATCH_MAX, skip=self._skip)
        # An analysis date in the build queue stays due. After a full page the next sweep reads the following page;
        # otherwise 500 queued analysis dates would hide a deadline behind them.
        self._skip = self._skip + BATCH_MAX if len(due) == BATCH_MAX else 0
        for day in due:
            failed += self._faults_of(day, lambda: self._fire(day, now))  # noqa: B023 - called at once
        return Sweep(opened=len(expected), due=len(due), failed=failed)

    def _run_canary(self) -> None:
        try:
            self._canary()
        except Exception:
            # The alert about a silent canary tells a person; the analysis dates need the rest of the sweep.
            log.exception("canary_failed_unexpectedly")

    def _last_opened(self, now: datetime) -> date | None:
        """Return the last opened analysis date, the calendar's mark.

        A wrong clock of the store can move the mark into the future. Lower such a mark to the beginning of the
        look-back, so that the sweep opens the skipped analysis dates.
        """
        mark, latest = self._store.last_opened(), self._calendar.latest_opened(now)
        if mark is None or mark <= latest:
            return mark
        lowered = self._calendar.before_look_back(now)
        if self._store.lower_last_opened(ceiling=latest, to=lowered):
            log.error(
                "calendar_corrected",
                last_opened=mark.isoformat(),
                store_time=now.isoformat(),
                lowered_to=lowered.isoformat(),
                next_step="check the clock of the state store's server; analysis dates before "
                f"{lowered.isoformat()} that were not opened: mlfs replay DATE --reason '…'",
            )
        return lowered

    def _faults_of(self, analysis_date: date, act: Callable[[], object]) -> int:
        """Run *act* for an analysis date; return 1 if *act* failed because of the analysis date, otherwise 0."""
        try:
            try:
                act()
            except CorruptRecord as exc:
                self._date_failed(analysis_date, exc)
                self._repair.replace_damaged(analysis_date, str(exc))
                return 1
        except Unavailable:
            raise
        except PipelineError as exc:
            log.error("date_failed", analysis_date=analysis_date, kind=type(exc).__name__, error=str(exc))
            self._date_failed(analysis_date, exc)
            return 1
        except Exception as exc:
            log.exception("date_failed_unexpectedly", analysis_date=analysis_date)
            self._date_failed(analysis_date, exc)
            return 1
        return 0

    def _fire(self, analysis_date: date, now: datetime) -> None:
        decision = self._engine.apply(analysis_date, TimerFired())
        if not decision.record.version:
            # The wake index names an analysis date without a record: the record is lost, or a worker died after the
            # quarantine of a damaged record.
            self._restore(analysis_date)
            return
        if decision.reason is not Reason.NEEDS_PROBE:
            return
        record = decision.record
        if record.state is State.RUNNING:
            self._aside(analysis_date, lambda: self._repair.end_last_attempt(analysis_date))
        elif now >= self._started_at + self._calendar.drain_grace:
            # In the grace period after a start, the worker first reads the completions waiting in the queue.
            aside = self._aside if record.result is None else self._aside_for_upgrades
            probed = aside(analysis_date, lambda: self._probe_tables(record, now))
            if not probed and self._is_out_of_patience(record, now):
                self._engine.apply(analysis_date, TimerFired(probe={}))

    def _restore(self, analysis_date: date) -> None:
        # `Repair.restore` opens the analysis date before reading the ledger: a slow ledger delays no deadline.
        def restore() -> None:
            self._repair.restore(analysis_date)

        self._aside(analysis_date, restore)

    @staticmethod
    def _is_out_of_patience(record: DateRecord, now: datetime) -> bool:
        """Whether the due timer has waited `PROBE_PATIENCE` for the warehouse."""
        return record.wake_at is not None and now >= record.wake_at + PROBE_PATIENCE

    def _probe_tables(self, record: DateRecord, now: datetime) -> None:
        """Count the Phase 4 rows of the analysis date and fire the timer with the counts."""
        looked_at = self._clock.now()
        try:
            probe = self._probe(record.analysis_date)
        except (Unavailable, Fatal) as exc:
            log.warning("probe_failed", analysis_date=record.analysis_date, error=str(exc))
            if not self._is_out_of_patience(record, now):
                return
            probe = {}
        self._engine.apply(record.analysis_date, TimerFired(probe=probe, looked_at=looked_at))


def seconds_to_next_sweep(wake: datetime | None, now: datetime, tick_s: float) -> float:
    """Return the seconds to wait for the next sweep.

    Args:
        wake: The earliest due instant after the beginning of the last sweep, UTC; None without a timer. An analysis
            date that was due earlier is queued, building or claimed elsewhere, and the next tick is early enough.
        now: UTC.
        tick_s: The longest wait.
    """
    return tick_s if wake is None else min(max((wake - now).total_seconds(), 0.0), tick_s)
