"""What `mlfs bench intake` measures: the worker's subscriber with the worker's intake behind it, or with nothing."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from ops.bench.bus import PROJECT, SUBSCRIPTION, TOPIC, bus_process, publish_all
from schemas.completion import Delivery
from worker import logs
from worker.adapters.pubsub_pull import PullSubscriber
from worker.catalogue import PROCESSORS
from worker.clock import SystemClock
from worker.errors import Unavailable
from worker.intake import Intake, Verdict
from worker.metrics import Metrics
from worker.observer import LogObserver, Observer, Observers
from worker.parts import Parts, make_engine
from worker.repair import Repair
from worker.settings import Settings, load

FIRST_DATE = date(2001, 1, 1)
FINISH_TIMEOUT_S = 300.0

HandleAll = Callable[[Sequence[Delivery]], Iterable[tuple[int, Verdict]]]


def completions(events: int, first: date = FIRST_DATE) -> Iterator[bytes]:
    """Make successes: four for each date, one date after the other, as a backfill would send them."""
    for number in range(events):
        body = {
            "processor": PROCESSORS[number % 4],
            "analysis_date": (first + timedelta(days=number // 4)).isoformat(),
            "status": "success",
            "row_count": 450,
            "run_id": f"run-{number}",
        }
        yield json.dumps(body).encode()


def settings_in(folder: Path, bus_address: str) -> Settings:
    """Make the settings of a worker with its embedded parts in *folder* and the bus at *bus_address*."""
    return load(
        pipeline="",
        data_dir=folder,
        warehouse=f"duckdb://{folder}/warehouse.duckdb",
        redis_url=f"embedded://{folder}/valkey",
        pubsub=f"emulator://{bus_address}",
        pubsub_project=PROJECT,
        topic=TOPIC,
        subscription=SUBSCRIPTION,
        http_port=0,
    )


def make_intake(parts: Parts, start_build: Callable[[date], None], observer: Observer) -> Intake:
    """Wire the intake as `worker.app` does; only the build behind it is the caller's."""
    clock, settings = SystemClock(), parts.settings
    engine = make_engine(
        settings,
        store=parts.store,
        clock=clock,
        worker="bench",
        start_build=start_build,
        outbox_filled=lambda: None,
        observer=observer,
    )
    return Intake(
        engine=engine,
        store=parts.store,
        repair=Repair(engine=engine, store=parts.store, clock=clock, warehouse=parts.warehouse),
        dead_letters=parts.publisher,
        dead_letter_topic=settings.dead_letter_topic,
        processors=PROCESSORS,
        earliest=settings.earliest_date,
        clock=clock,
        observer=observer,
        stopwatch=time.perf_counter,
    )


def worker_observer() -> Observer:
    """Watch as the worker does: metrics and log lines."""
    return Observers((Metrics(PROCESSORS), LogObserver()))


def noop(folder: str, events: int) -> dict[str, Any]:
    """Drain *events* messages with a callback that acknowledges at once."""
    with bus_process(Path(folder)) as address:
        return _drain(address, events, lambda deliveries: ((place, Verdict.ACK) for place in range(len(deliveries))))


def intake(folder: str, events: int) -> dict[str, Any]:
    """Drain *events* completions into an embedded Valkey; an event counts once it is stored and acknowledged."""
    started: list[date] = []
    with ExitStack() as stack:
        address = stack.enter_context(bus_process(Path(folder)))
        log = stack.enter_context((Path(folder) / "worker.log").open("w", encoding="utf-8"))
        logs.configure("INFO", log)
        parts = stack.enter_context(Parts(settings_in(Path(folder), address), own=True))
        answer = _drain(address, events, make_intake(parts, started.append, worker_observer()).handle_all)
        if len(set(started)) != events // 4:
            raise Unavailable(f"{len(set(started))} dates became ready, not {events // 4}: nothing was measured")
    return answer


def _drain(address: str, events: int, handle_all: HandleAll) -> dict[str, Any]:
    """Publish everything, then open the stream; the time runs from the first callback to the last."""
    publish_all(address, completions(events))
    seen, first = 0, 0.0
    lock, finished = threading.Lock(), threading.Event()

    def counted(deliveries: Sequence[Delivery]) -> Iterator[tuple[int, Verdict]]:
        nonlocal seen, first
        first = first or time.perf_counter()
        for place, verdict in handle_all(deliveries):
            yield place, verdict
            with lock:
                seen += verdict is Verdict.ACK
                if seen == events:
                    finished.set()

    subscriber = PullSubscriber(
        project=PROJECT,
        subscription=SUBSCRIPTION,
        local_address=address,
        handle_all=counted,
        store_answers=lambda: True,
    )
    cpu = time.process_time()
    subscriber.start()
    if not finished.wait(FINISH_TIMEOUT_S):
        raise Unavailable(f"{seen} of {events} events in {FINISH_TIMEOUT_S:g} s")
    seconds = time.perf_counter() - first
    cpu_seconds = time.process_time() - cpu
    subscriber.stop()
    sys.stderr.write(f"{events / seconds:.0f} events/s\n")
    return {"events_per_s": events / seconds, "cpu_us_per_event": cpu_seconds / events * 1e6}
