"""The composition root of the long-running worker: makes every piece, wires them, starts and stops them in order."""

import os
import socket
import threading
import time

import structlog

from worker.adapters.pubsub_pull import PullSubscriber, PullTuning
from worker.adapters.pubsub_watchdog import WatchPolicy
from worker.audit import ReplayAudit
from worker.builder import Builder, BuildQueue
from worker.building import probe
from worker.deadlines import Sweeper, seconds_to_next_sweep
from worker.errors import Fatal, PipelineError, Unavailable
from worker.http import HttpServer, create_app
from worker.intake import Intake
from worker.metrics import Metrics
from worker.observer import LogObserver, Observer, Observers
from worker.parts import Parts, make_engine, open_lineage
from worker.ports import Clock
from worker.relay import Relay
from worker.repair import Repair
from worker.schema_watch import SchemaWatch
from worker.settings import PROCESSORS
from worker.supervisor import Loop, Supervisor

log = structlog.get_logger(__name__)

# A sweep that has not run for this long means the process is stuck, whatever the outside does.
TICK_SILENCE_MAX_S = 60.0
RELAY_PAUSE_S = 1.0
# What is left of the lineage events after this is lost; a shutdown has better things to wait for.
LINEAGE_FLUSH_S = 2.0


def worker_name() -> str:
    """Give a name that tells replicas and restarts apart."""
    return f"{socket.gethostname()}-{os.getpid()}"


class Worker:
    """One worker process: intake, sweep, builds, relay, HTTP."""

    def __init__(self, parts: Parts, clock: Clock, watchers: tuple[Observer, ...] = ()) -> None:
        """Open the parts and wire everything; nothing runs yet.

        Raises:
            Unavailable: A part does not answer.
        """
        settings = parts.settings
        self._settings = settings
        self._clock = clock
        self._store = parts.store
        self.metrics = Metrics(PROCESSORS)
        self.metrics.show_dates(self._store, clock)
        self._lineage = open_lineage(settings, self.metrics.lineage_event)
        told = () if self._lineage is None else (self._lineage,)
        observer = Observers((self.metrics, LogObserver(), *told, *watchers))
        self._queue = BuildQueue()
        self._supervisor = Supervisor(self.metrics.loop_failed)
        name = worker_name()
        self.engine = make_engine(
            settings,
            store=self._store,
            clock=clock,
            worker=name,
            start_build=self._queue.put,
            outbox_filled=self._outbox_filled,
            observer=observer,
        )
        self._repair = Repair(engine=self.engine, store=self._store, clock=clock, warehouse=parts.warehouse)
        self._builder = self._make_builder(parts, name, observer)
        self._sweeper = self._make_sweeper(parts)
        self._subscriber = self._make_subscriber(parts, observer)
        relay = Relay(store=self._store, publisher=parts.publisher, observer=observer)
        self._sweep_loop = Loop(name="sweep", run_once=self._sweep)
        watch = SchemaWatch(parts.warehouse, observer)
        self._schema_loop = Loop(name="schema", run_once=watch.run_once)
        self._relay_loop = Loop(name="relay", run_once=lambda: self._relay(relay))
        self._last_tick = time.monotonic()
        self._http = self._make_http()
        self.http_address = ""

    def _make_builder(self, parts: Parts, name: str, observer: Observer) -> Builder:
        return Builder(
            engine=self.engine,
            warehouse=parts.warehouse,
            clock=self._clock,
            worker=name,
            lease_s=self._settings.lease_s,
            phase3_lookback_days=self._settings.phase3_lookback_days,
            observer=observer,
            stopwatch=time.perf_counter,
            audit_replay=ReplayAudit(self._store, parts.warehouse).write,
        )

    def _make_sweeper(self, parts: Parts) -> Sweeper:
        warehouse = parts.warehouse
        return Sweeper(
            engine=self.engine,
            store=self._store,
            calendar=self._settings.calendar,
            clock=self._clock,
            repair=self._repair,
            probe=lambda day: probe(warehouse, day),
            date_failed=lambda _day, error: self.metrics.loop_failed("sweep", error),
        )

    def _make_subscriber(self, parts: Parts, observer: Observer) -> PullSubscriber:
        settings = self._settings
        intake = Intake(
            engine=self.engine,
            store=self._store,
            repair=self._repair,
            dead_letters=parts.publisher,
            dead_letter_topic=settings.dead_letter_topic,
            processors=PROCESSORS,
            earliest=settings.earliest_date,
            clock=self._clock,
            observer=observer,
            stopwatch=time.perf_counter,
        )
        return PullSubscriber(
            project=settings.pubsub_project,
            subscription=settings.subscription,
            local_address=parts.bus_address,
            handle_all=intake.handle_all,
            store_answers=self._store_answers,
            notes=self.metrics,
            tuning=PullTuning(
                messages_max=settings.messages_leased_max,
                watch=WatchPolicy(silence_s=settings.stream_silence_s, recycles_max=settings.stream_recycles_max),
            ),
        )

    def _store_answers(self) -> bool:
        try:
            self._store.ping()
        except Unavailable:
            return False
        return True

    def _make_http(self) -> HttpServer:
        app = create_app(
            store=self._store,
            registry=self.metrics.registry,
            clock=self._clock,
            policy=self._settings.policy,
            zone=self._settings.calendar.zone,
            alive=self._alive,
            ready=self._ready,
        )
        return HttpServer(app, self._settings.http_host, self._settings.http_port)

    def start(self) -> None:
        """Start everything; returns when the worker takes messages.

        Raises:
            Unavailable: The HTTP port is taken.
        """
        self.http_address = self._http.start()
        for number in range(self._settings.build_threads):
            self._supervisor.run_thread(f"build-{number}", self._build)
        self._supervisor.run_loop(self._schema_loop)
        self._supervisor.run_loop(self._relay_loop)
        self._supervisor.run_loop(self._sweep_loop)
        self._subscriber.start()
        self._supervisor.run_loop(Loop(name="stream", run_once=self._subscriber.check))
        log.info("worker_started", http=self.http_address, **self._settings.describe())

    def wait(self, stop: threading.Event) -> Unavailable | Fatal | None:
        """Block until *stop* is set, or the stream has ended for good: then give the reason."""
        while not stop.wait(0.2):
            if self._subscriber.ended.is_set():
                return self._subscriber.error
        return None

    def stop(self) -> None:
        """Take no more messages, finish what is in hand, release everything; a build that runs is left to its lease.

        The parts stay open: whoever opened them closes them.
        """
        log.info("worker_stopping")
        self._subscriber.stop()
        self._queue.stop(self._settings.build_threads)
        unfinished = self._supervisor.stop()
        if self._lineage is not None and not self._lineage.close(LINEAGE_FLUSH_S):
            log.warning("lineage_left_over")
        self._http.stop()
        log.info("worker_stopped", unfinished=unfinished)

    def sweep_now(self) -> None:
        """Run the next sweep at once; the demo moves its clock and cannot wait for the tick."""
        self._sweep_loop.wake.set()

    def _outbox_filled(self) -> None:
        self._relay_loop.wake.set()

    def _sweep(self) -> float:
        swept_at = self._clock.now()
        self._sweeper.run_once()
        now = self._clock.now()
        self._last_tick = time.monotonic()
        self.metrics.ticked(now)
        self.metrics.stream(self._subscriber.running)
        return seconds_to_next_sweep(self._store.next_wake(after=swept_at), now, self._settings.tick_s)

    def _relay(self, relay: Relay) -> float:
        relay.run_once()
        return RELAY_PAUSE_S

    def _build(self) -> None:
        while (day := self._queue.get()) is not None:
            try:
                self._builder.run_one(day)
            except PipelineError as exc:
                log.warning("build_not_reported", analysis_date=day, kind=type(exc).__name__, error=str(exc))
                self.metrics.loop_failed("build", exc)
            except Exception as exc:
                # A bug must not end the thread that builds every other date; the lease brings this one back.
                log.exception("build_failed_unexpectedly", analysis_date=day)
                self.metrics.loop_failed("build", exc)
            finally:
                self._queue.finished(day)
                self._sweep_loop.wake.set()

    def _alive(self) -> list[str]:
        silence_s = time.monotonic() - self._last_tick
        return [f"no sweep for {silence_s:.0f} s"] if silence_s > TICK_SILENCE_MAX_S else []

    def _ready(self) -> list[str]:
        faults = self._alive()
        if self._supervisor.stopping:
            faults.append("stopping")
        if not self._subscriber.running:
            faults.append("the pull stream is not open")
        try:
            self._store.ping()
        except Unavailable as exc:
            faults.append(str(exc))
        return faults
