"""Tasks of `mlfs bench intake`: the subscriber of the worker with the intake, or with a callback as yardstick."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from ops.bench.bus import PROJECT, SUBSCRIPTION, TOPIC, bus_process, publish_all
from ops.bench.sampling import Sampling
from schemas.completion import Delivery
from worker.adapters.pubsub.pull import PullSubscriber
from worker.clock import SystemClock
from worker.errors import Unavailable
from worker.intake import Intake, Verdict
from worker.observing import logs
from worker.observing.metrics import Metrics
from worker.observing.observer import LogObserver, Observer, Observers
from worker.pipelines.shipped import PROCESSORS
from worker.repair import Repair
from worker.resources import ProcessKind, Resources, make_engine
from worker.settings import Settings, load

FIRST_DATE = date(2001, 1, 1)
FINISH_TIMEOUT_S = 300.0

HandleAll = Callable[[Sequence[Delivery]], Iterable[tuple[int, Verdict]]]


def completions(events: int, first: date = FIRST_DATE) -> Iterator[bytes]:
    """Return successful completions, four for each analysis date, date by date like a backfill."""
    for number in range(events):
        body = {
            "processor": PROCESSORS[number % 4],
            "analysis_date": (first + timedelta(days=number // 4)).isoformat(),
            "status": "success",
            "row_count": 450,
            "run_id": f"run-{number}",
        }
        yield json.dumps(body).encode()


def settings_in(folder: Path, bus_address: str, redis_url: str = "") -> Settings:
    """Return the settings of a worker with the embedded parts in *folder*; *redis_url* names another store."""
    return load(
        pipeline="",
        data_dir=folder,
        warehouse=f"duckdb://{folder}/warehouse.duckdb",
        redis_url=redis_url or f"embedded://{folder}/valkey",
        pubsub=f"emulator://{bus_address}",
        pubsub_project=PROJECT,
        topic=TOPIC,
        subscription=SUBSCRIPTION,
        http_port=0,
    )


def make_intake(parts: Resources, start_build: Callable[[date], None], observer: Observer) -> Intake:
    """Wire the intake like `worker.app`, with the build of the caller."""
    clock, settings = SystemClock(), parts.settings
    engine = make_engine(
        settings,
        store=parts.store,
        clock=clock,
        worker="bench",
        start_build=start_build,
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
    return Observers(Metrics(PROCESSORS), LogObserver())


def acknowledge_all(deliveries: Sequence[Delivery]) -> Iterator[tuple[int, Verdict]]:
    """Acknowledge every delivery at once: the yardstick."""
    return ((place, Verdict.ACK) for place in range(len(deliveries)))


class Tally:
    """Counts acknowledgements; `first` is the instant of the first delivery, `last` of the last acknowledgement."""

    def __init__(self, handle_all: HandleAll, awaited: int | None = None) -> None:
        """Store the callback; `finished` is set after *awaited* acknowledgements."""
        self.acknowledged: list[str] = []
        self.first, self.last = 0.0, 0.0
        self.finished = threading.Event()
        self._handle_all = handle_all
        self._awaited = awaited

    def handle_all(self, deliveries: Sequence[Delivery]) -> Iterator[tuple[int, Verdict]]:
        """Forward the deliveries; the subscriber asks for a verdict after acknowledging the previous delivery."""
        self.first = self.first or time.perf_counter()
        for place, verdict in self._handle_all(deliveries):
            yield place, verdict
            if verdict is Verdict.ACK:
                # Two threads append here: an append is a single operation of the interpreter.
                self.acknowledged.append(deliveries[place].message_id)
                self.last = time.perf_counter()
                if len(self.acknowledged) == self._awaited:
                    self.finished.set()


def subscribe(address: str, tally: Tally) -> PullSubscriber:
    """Return the subscriber of the worker with the counting callback."""
    return PullSubscriber(
        project=PROJECT,
        subscription=SUBSCRIPTION,
        local_address=address,
        handle_all=tally.handle_all,
        store_answers=lambda: True,
    )


def noop(folder: str, events: int) -> dict[str, Any]:
    """Drain *events* messages with a callback which acknowledges at once."""
    with bus_process(Path(folder)) as address:
        return _drain(address, events, acknowledge_all)


def intake(folder: str, events: int, sample_hz: int = 0) -> dict[str, Any]:
    """Drain *events* completions into an embedded Valkey; an event counts when stored and acknowledged.

    With *sample_hz* py-spy samples the stacks of this process; see `ops.bench.sampling`.
    """
    started: list[date] = []
    with ExitStack() as stack:
        address = stack.enter_context(bus_process(Path(folder)))
        log = stack.enter_context((Path(folder) / "worker.log").open("w", encoding="utf-8"))
        logs.configure("INFO", log)
        parts = stack.enter_context(Resources(settings_in(Path(folder), address), ProcessKind.PULL))
        handle_all = make_intake(parts, started.append, worker_observer()).handle_all
        answer = _drain(address, events, handle_all, Sampling(Path(folder), sample_hz))
        if len(set(started)) != events // 4:
            raise Unavailable(f"{len(set(started))} dates became ready, not {events // 4}: nothing was measured")
    return answer


def _drain(address: str, events: int, handle_all: HandleAll, sampling: Sampling | None = None) -> dict[str, Any]:
    """Publish all messages, then open the stream; the time runs from the first callback to the last acknowledgement."""
    publish_all(address, completions(events))
    tally = Tally(handle_all, awaited=events)
    subscriber = subscribe(address, tally)
    with sampling or nullcontext():
        cpu = time.process_time()
        subscriber.start()
        if not tally.finished.wait(FINISH_TIMEOUT_S):
            raise Unavailable(f"{len(tally.acknowledged)} of {events} events in {FINISH_TIMEOUT_S:g} s")
        cpu_seconds = time.process_time() - cpu
    subscriber.stop()
    rate = events / (tally.last - tally.first)
    sys.stderr.write(f"{rate:.0f} events/s\n")
    answer: dict[str, Any] = {"events_per_s": rate, "cpu_us_per_event": cpu_seconds / events * 1e6}
    return answer if sampling is None else {**answer, **sampling.found}
