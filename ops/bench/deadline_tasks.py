"""Task of `mlfs bench deadline`: the lag of a deadline while many other analysis dates are open."""

import threading
import time
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import redis

from ops.bench.build_tasks import generate
from statemachine.events import DateOpened
from statemachine.model import DateRecord
from worker.builds.upstream import probe
from worker.clock import SystemClock
from worker.engine import Engine
from worker.errors import Unavailable
from worker.observing import logs
from worker.observing.observer import Decided, Notice
from worker.ports import StateStore
from worker.repair import Repair
from worker.resources import ProcessKind, Resources, make_engine
from worker.settings import load
from worker.sweep import Sweeper, seconds_to_next_sweep

GROUP = 500
BETWEEN_DEADLINES_S = 0.05
FIRST_FAR_DATE = date(2100, 1, 1)
FIRST_DUE_DATE = date(2001, 1, 1)
# Seconds for the work before and after the measured deadlines.
MARGIN_S = 2.0
PATIENCE_S = 60.0


class DeadlineWatch:
    """Notes how many milliseconds after its deadline a date was made ready."""

    def __init__(self) -> None:
        self.lag_ms: dict[date, float] = {}

    def note(self, notice: Notice) -> None:
        """Measure the lag of an analysis date that stopped waiting."""
        if not isinstance(notice, Decided):
            return
        before: DateRecord = notice.before
        if notice.decision.record.generation > before.generation:
            late = SystemClock().now() - before.deadline_at
            self.lag_ms[before.analysis_date] = late.total_seconds() * 1000


def deadline(folder: str, open_dates: int, deadlines: int) -> dict[str, Any]:
    """Open *open_dates* dates of the far future, then sweep like `mlfs run` until *deadlines* deadlines have fired."""
    home, clock, watch = Path(folder), SystemClock(), DeadlineWatch()
    generate(str(home / "warehouse.duckdb"), 400, "1GB", 2)
    settings = load(
        pipeline="",
        data_dir=home,
        redis_url=f"embedded://{home}/valkey",
        warehouse=f"duckdb://{home}/warehouse.duckdb",
        # The due dates lie in the past, so the deadline of each date is the opening plus this grace.
        drain_grace_s=deadlines * BETWEEN_DEADLINES_S + MARGIN_S,
    )
    with (home / "worker.log").open("w", encoding="utf-8") as log, Resources(settings, ProcessKind.PULL) as parts:
        logs.configure("WARNING", log)
        engine = make_engine(
            settings,
            store=parts.store,
            clock=clock,
            worker="bench",
            observer=watch,
        )
        empty = _store_bytes(home)
        opened_in_s = _open_far(engine, open_dates)
        store_bytes = _store_bytes(home) - empty
        parts.store.set_last_opened(settings.calendar.league_day(clock.now()))
        warehouse = parts.warehouse
        sweeper = Sweeper(
            engine=engine,
            store=parts.store,
            calendar=settings.calendar,
            clock=clock,
            repair=Repair(engine=engine, store=parts.store, clock=clock, warehouse=warehouse),
            probe=lambda day: probe(warehouse, day),
            date_failed=lambda _day, _error: None,
        )
        _open_due(engine, deadlines)
        _sweep(sweeper, parts.store, watch, deadlines, settings.tick_s)
    return {"lag_ms": list(watch.lag_ms.values()), "opened_in_s": opened_in_s, "store_bytes": store_bytes}


def _store_bytes(home: Path) -> int:
    """Return the bytes of the data in the store, with the keys of operations, which expire after ten minutes."""
    with closing(redis.Redis.from_url(f"unix://{home}/valkey/valkey.sock")) as client:
        return int(client.info("memory")["used_memory_dataset"])


def _open_far(engine: Engine, open_dates: int) -> float:
    started = time.perf_counter()
    for first in range(0, open_dates, GROUP):
        days = [FIRST_FAR_DATE + timedelta(days=number) for number in range(first, min(first + GROUP, open_dates))]
        engine.apply_all([(day, DateOpened()) for day in days])
    return time.perf_counter() - started


def _open_due(engine: Engine, deadlines: int) -> None:
    """Open dates of the past `BETWEEN_DEADLINES_S` apart, so that the deadlines have the same distance."""
    pause = threading.Event()
    for number in range(deadlines):
        engine.apply(FIRST_DUE_DATE + timedelta(days=number), DateOpened())
        pause.wait(BETWEEN_DEADLINES_S)


def _sweep(sweeper: Sweeper, store: StateStore, watch: DeadlineWatch, deadlines: int, tick_s: float) -> None:
    """Sweep like the worker until every deadline has fired."""
    pause, clock = threading.Event(), SystemClock()
    give_up_at = time.monotonic() + 2 * (deadlines * BETWEEN_DEADLINES_S + MARGIN_S) + PATIENCE_S
    while len(watch.lag_ms) < deadlines:
        if time.monotonic() > give_up_at:
            raise Unavailable(f"{len(watch.lag_ms)} of {deadlines} deadlines fired")
        swept_at = clock.now()
        sweeper.run_once()
        pause.wait(seconds_to_next_sweep(store.next_wake(after=swept_at), clock.now(), tick_s))
