"""The sweep: one loop serves everything that waits.

It opens expected dates and asks the wake index what is due: a deadline, a retry, an expired lease, the next look into
the tables of a degraded date, the end of the upgrade window. Every replica sweeps; the commit's version check makes one
of them win. Nothing sleeps on a deadline in memory, so a restart forgets nothing.

Looks that may hang, beside the loop that needs them: one slow warehouse call must not hold up other deadlines.
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

# A look into the warehouse takes a fraction of this; who needs longer is asked about again at the next pass.
PATIENCE_S = 2.0
# More than this many dates whose looks hang at once is an outage: the others wait for it to end.
LOOKS_MAX = 16


class _Look:
    """One call on a thread of its own."""

    def __init__(self, act: Callable[[], None], name: str) -> None:
        self._act = act
        self.ended = threading.Event()
        self.error: Exception | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def is_open(self) -> bool:
        """Whether the call still runs, or raised what nobody has heard of yet."""
        return not self.ended.is_set() or self.error is not None

    def _run(self) -> None:
        try:
            self._act()
        except Exception as exc:  # noqa: BLE001 - raised again where somebody waits for it
            self.error = exc
        finally:
            self.ended.set()


class Aside:
    """Runs at most one look a date; any thread may ask."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        """Take how long the first who asks waits for a look; with 0 nobody waits.

        Args:
            patience_s: Seconds.
        """
        self._patience_s = patience_s
        self._looks: dict[date, _Look] = {}
        self._lock = threading.Lock()

    def __call__(self, analysis_date: date, act: Callable[[], None]) -> bool:
        """Run *act*, or wait for the look that runs for the date already; False while that goes on.

        Raises:
            Exception: What the look raised.
        """
        with self._lock:
            self._looks = {day: one for day, one in self._looks.items() if day == analysis_date or one.is_open}
            look = self._looks.get(analysis_date)
            is_new = look is None
            if look is None:
                if sum(not one.ended.is_set() for one in self._looks.values()) >= LOOKS_MAX:
                    return False
                look = self._looks[analysis_date] = _Look(act, f"look-{analysis_date}")
        # Only the first to ask waits: a look that hangs costs one pass of the loop, and no other.
        if not look.ended.wait(self._patience_s if is_new else 0):
            return False
        with self._lock:
            if self._looks.get(analysis_date) is look:
                del self._looks[analysis_date]
        if look.error is not None:
            raise look.error
        return True


def at_once(_analysis_date: date, act: Callable[[], None]) -> bool:
    """Run *act* here and now: where nothing can hang, in tests and simulation."""
    act()
    return True


log = structlog.get_logger(__name__)

RunAside = Callable[[date, Callable[[], None]], bool]

# One pass handles this many dates; the next pass takes the rest.
BATCH_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What one pass did."""

    opened: int
    due: int
    failed: int

    def check(self) -> None:
        """Refuse a pass that handled no date at all; a single date that fails is this date's own fault.

        Raises:
            SweepFailed: Several dates were due or expected, and every one of them failed.
        """
        handled = self.opened + self.due
        if handled > 1 and self.failed >= handled:
            raise SweepFailed(f"each of {handled} analysis dates failed; the log names the faults: date_failed")


class Sweeper:
    """Fires what is due."""

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
    ) -> None:
        """Take the collaborators.

        Args:
            engine: Decides and stores.
            store: Holds the wake index and the calendar's mark.
            calendar: Says which dates are expected.
            clock: The store's clock.
            repair: Opens dates and ends generations.
            probe: Counts the rows of each processor's table.
            date_failed: Told of a fault of a single date.
            aside: Runs what must be known in this pass, beside the loop where it hangs.
            aside_for_upgrades: Runs the looks into the tables of degraded dates. There may be hundreds of them after a
                backfill, and none of them may keep a deadline waiting.
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
        self._started_at = clock.now()
        self._skip = 0

    def run_once(self) -> Sweep:
        """Open what the calendar expects, fire what is due; safe to repeat, the core ignores a second one.

        Raises:
            Unavailable: The store does not answer at all. A fault of a single date is reported and does not stop the
                others.
        """
        self._clock.follow()
        now = self._clock.now()
        failed = 0
        expected = self._calendar.to_open(self._last_opened(now), now)
        for day in expected:
            failed += self._faults_of(day, lambda: self._restore(day))  # noqa: B023 - called at once
            self._store.set_last_opened(day)
        due = self._store.due(now, BATCH_MAX, skip=self._skip)
        # Dates that wait for a build thread stay due: the next pass looks behind them, or they would hide a deadline.
        self._skip = self._skip + BATCH_MAX if len(due) == BATCH_MAX else 0
        for day in due:
            failed += self._faults_of(day, lambda: self._fire(day, now))  # noqa: B023 - called at once
        return Sweep(opened=len(expected), due=len(due), failed=failed)

    def _last_opened(self, now: datetime) -> date | None:
        """Return the calendar's mark; lower a mark ahead of the store's clock, so that its nights are opened again."""
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
                next_step="check the clock of the state store's server; nights before "
                f"{lowered.isoformat()} that were not opened: mlfs replay DATE --reason '…'",
            )
        return lowered

    def _faults_of(self, analysis_date: date, act: Callable[[], object]) -> int:
        """Do something to one date; count a fault that is its own, so that the other dates go on."""
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
            # The wake index outlived the record: it was set aside by a worker that then died, or it is lost.
            self._restore(analysis_date)
            return
        if decision.reason is not Reason.NEEDS_PROBE:
            return
        record = decision.record
        if record.state is State.RUNNING:
            self._aside(analysis_date, lambda: self._repair.end_last_attempt(analysis_date))
        elif now >= self._started_at + self._calendar.drain_grace:
            # Before that the worker has just started: completions that wait in the queue are read first.
            aside = self._aside if record.result is None else self._aside_for_upgrades
            looked = aside(analysis_date, lambda: self._look_into_tables(record, now))
            if not looked and self._is_out_of_patience(record, now):
                self._engine.apply(analysis_date, TimerFired(probe={}))

    def _restore(self, analysis_date: date) -> None:
        # The date is opened before the ledger is read: it has its deadline, however long that takes.
        def restore() -> None:
            self._repair.restore(analysis_date)

        self._aside(analysis_date, restore)

    @staticmethod
    def _is_out_of_patience(record: DateRecord, now: datetime) -> bool:
        """Whether what is due has waited long enough for the warehouse."""
        return record.wake_at is not None and now >= record.wake_at + PROBE_PATIENCE

    def _look_into_tables(self, record: DateRecord, now: datetime) -> None:
        """Fire again with what the tables hold."""
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
    """Say how long to wait for the next sweep.

    Args:
        wake: The earliest instant later than the beginning of the last sweep at which something is due, UTC. What was
            due before that and still is lies in other hands (a build that runs or waits for its turn, a claim
            elsewhere): it is looked at again at the tick, and keeps no other date waiting.
        now: UTC.
        tick_s: The longest wait.
    """
    return tick_s if wake is None else min(max((wake - now).total_seconds(), 0.0), tick_s)
