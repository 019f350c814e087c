"""The composition root of the long-running worker: chooses the adapters, starts and stops everything in order."""

import os
import socket
import threading
import time
from datetime import date
from functools import partial

import structlog

from statemachine.decide import Decision
from worker.adapters.google_tokens import Certificates, GoogleTokens
from worker.adapters.pubsub.pull import PullSubscriber, PullTuning
from worker.adapters.pubsub.unary import SubscriptionWatch
from worker.adapters.pubsub.watchdog import WatchPolicy
from worker.builds.queue import BackgroundBuilds, BuildQueue, Builds, RequestBuilds
from worker.builds.upstream import SchemaWatch
from worker.builds.vacuum import DailyVacuum
from worker.clock import SystemClock
from worker.errors import Fatal, PipelineError, Unavailable
from worker.http.application import HealthChecks
from worker.http.listeners import Listeners
from worker.observing.bounds import Bounded
from worker.observing.logs import lines_dropped
from worker.observing.metrics import Metrics
from worker.observing.observer import DeadLetterTopicChecked, LogObserver, Observer, Observers
from worker.ports import Clock
from worker.resources import Resources, open_lineage
from worker.settings import BadSettings
from worker.supervisor import Loop, Passes, Supervisor
from worker.sweep import seconds_to_next_sweep
from worker.wiring import Assembly, ProcessCallbacks

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
    """One worker process: deliveries, sweep, builds, relay, HTTP."""

    def __init__(
        self, parts: Resources, clock: Clock, watchers: tuple[Observer, ...] = (), *, serves_push: bool = False
    ) -> None:
        """Open the parts and wire everything; nothing runs yet.

        Args:
            parts: Store, warehouse and bus.
            clock: The shell's clock.
            watchers: Told of everything, beside metrics and logs.
            serves_push: Deliveries are pushed over HTTP instead of pulled; then loops run only where
                `MLFS_SERVE_LOOPS` says so, and `/tick` does their work.

        Raises:
            BadSettings: A push service that anybody could call.
            Unavailable: A part does not answer.
        """
        settings = parts.settings
        if serves_push and (faults := settings.serving_faults()):
            raise BadSettings("not safe to serve:\n  " + "\n  ".join(faults))
        self._settings = settings
        self._clock = clock
        self._parts, self._store = parts, parts.store
        self._has_loops = settings.serve_loops or not serves_push
        self.metrics = self._make_metrics(expects_stream=not serves_push)
        self._lineage = open_lineage(settings, self.metrics.lineage_event)
        told = () if self._lineage is None else (self._lineage,)
        observer = Observers(self.metrics, LogObserver(), *told, *watchers)
        self._queue = BuildQueue()
        self._builds = self._make_builds()
        self._passes = Passes()
        self._store_check = Bounded(parts.store.check_writable, "the state store")
        self._supervisor = Supervisor(self.metrics.loop_failed, self._passes)
        self._assembly = Assembly(
            parts,
            clock=clock,
            worker=worker_name(),
            observer=observer,
            hooks=self._hooks(),
            drains=not serves_push,
        )
        self.engine = self._assembly.engine
        self._subscriber = None if serves_push else self._make_subscriber(parts)
        self._subscription = SubscriptionWatch(
            settings.pubsub_project, parts.bus_address, subscription=settings.subscription, topic=settings.topic
        )
        self._sweep_loop = Loop(name="sweep", run_once=self._sweep)
        self._relay_loop = Loop(name="relay", run_once=self._relay)
        self._schema_loop = Loop(name="schema", run_once=SchemaWatch(parts.warehouse, observer).run_once)
        self._last_tick = time.monotonic()
        self.listeners = self._make_listeners(serves_push=serves_push)
        self.addresses: list[str] = []

    def _make_metrics(self, *, expects_stream: bool) -> Metrics:
        settings = self._settings
        metrics = Metrics(settings.definition.processors)
        metrics.show_dates(self._store, self._clock, settings.calendar)
        metrics.expects_stream(expects_stream)
        metrics.note(DeadLetterTopicChecked(topic=settings.dead_letter_topic, fault=None))
        metrics.show_process(lines_dropped=lines_dropped, store_restarts=self._parts.store_restarts)
        return metrics

    def _hooks(self) -> ProcessCallbacks:
        return ProcessCallbacks(
            start_build=self._builds.put,
            outbox_filled=self._outbox_filled,
            date_failed=lambda _day, error: self.metrics.loop_failed("sweep", error),
            lease_passed=partial(self._passes.note, "lease"),
        )

    def _make_builds(self) -> Builds:
        if self._has_loops:
            return BackgroundBuilds(self._queue.put)
        return RequestBuilds(
            build=self._build_in_request,
            threads=self._settings.build_threads,
            stopwatch=time.monotonic,
            failed=lambda error: self.metrics.loop_failed("build", error),
        )

    def _build_in_request(self, day: date) -> Decision | None:
        return self._assembly.builder.run_one(day)

    def _make_subscriber(self, parts: Resources) -> PullSubscriber:
        settings = self._settings
        return PullSubscriber(
            project=settings.pubsub_project,
            subscription=settings.subscription,
            local_address=parts.bus_address,
            handle_all=self._assembly.intake.handle_all,
            store_answers=self._store_answers,
            observer=self.metrics,
            tuning=PullTuning(
                messages_max=settings.messages_leased_max,
                watch=WatchPolicy(silence_s=settings.stream_silence_s, recycles_max=settings.stream_recycles_max),
            ),
        )

    def _store_answers(self) -> bool:
        try:
            self._store.check_writable()
        except PipelineError:
            return False
        return True

    def _make_listeners(self, *, serves_push: bool) -> Listeners:
        return Listeners(
            self._assembly,
            metrics=self.metrics,
            verifier=GoogleTokens(
                Certificates(self._settings.oidc_certs_url),
                # Its issuer goes by the true time. By a store's clock that is wrong every tick would be refused, and
                # with the ticks the look that sets that clock right again.
                SystemClock(),
                behind_cloud_run_iam=self._settings.behind_cloud_run_iam,
            ),
            builds=self._builds,
            probes=HealthChecks(alive=self._alive, ready=self._ready),
            tick_passed=partial(self._passes.note, "tick"),
            serves_machines=serves_push,
            publishes=not self._has_loops,
        )

    @property
    def http_address(self) -> str:
        """Where it serves; empty before `start`."""
        return self.addresses[0] if self.addresses else ""

    def start(self) -> None:
        """Start everything; returns when the worker takes messages.

        Raises:
            Unavailable: An HTTP port is taken.
        """
        self.addresses = self.listeners.start()
        if self._has_loops:
            self._supervisor.run_thread("prepare", self._parts.warehouse.prepare_builds)
            for number in range(self._settings.build_threads):
                self._supervisor.run_thread(f"build-{number}", self._build)
            self._supervisor.run_loop(self._schema_loop)
            vacuum = DailyVacuum(self._parts.warehouse, self._clock, self._settings.keep_generations)
            self._supervisor.run_loop(Loop(name="vacuum", run_once=vacuum.run_once))
            self._supervisor.run_loop(self._relay_loop)
            self._supervisor.run_loop(self._sweep_loop)
        if self._subscriber is not None:
            self._subscriber.start()
            self._supervisor.run_loop(Loop(name="stream", run_once=self._subscriber.check))
            self._supervisor.run_loop(Loop(name="subscription", run_once=self._subscription.run_once))
        admin = {"admin": self.addresses[1]} if self.addresses[1:] else {}
        log.info("worker_started", http=self.http_address, **admin, **self._settings.describe())

    def wait(self, stop: threading.Event) -> Unavailable | Fatal | None:
        """Block until *stop* is set; return the reason if the stream or an embedded server has ended for good."""
        while not stop.wait(0.2):
            if (failure := self._parts.failure()) is not None:
                return failure
            if self._subscriber is not None and self._subscriber.ended.is_set():
                return self._subscriber.error
        return None

    def stop(self) -> None:
        """Take no more messages, finish what is in hand, release everything; a build that runs is left to its lease.

        The parts stay open: whoever opened them closes them.
        """
        log.info("worker_stopping")
        if self._subscriber is not None:
            self._subscriber.stop()
        self._queue.stop(self._settings.build_threads)
        unfinished = self._supervisor.stop()
        if self._lineage is not None and not self._lineage.close(LINEAGE_FLUSH_S):
            log.warning("lineage_left_over")
        self.listeners.stop()
        log.info("worker_stopped", unfinished=unfinished)

    def sweep_now(self) -> None:
        """Run the next sweep at once; the demo moves its clock and cannot wait for the tick."""
        self._sweep_loop.wake.set()

    def _outbox_filled(self) -> None:
        self._relay_loop.wake.set()

    def _sweep(self) -> float:
        swept_at = self._clock.now()
        try:
            swept = self._assembly.sweeper.run_once()
        finally:
            # A pass that failed is no stuck thread: a restart would cure nothing.
            self._last_tick = time.monotonic()
        now = self._clock.now()
        self.metrics.ticked(now)
        self.metrics.stream(self._subscriber is not None and self._subscriber.running)
        swept.check()
        return seconds_to_next_sweep(self._store.next_wake(after=swept_at), now, self._settings.tick_s)

    def _relay(self) -> float:
        self._assembly.relay.run_once()
        return RELAY_PAUSE_S

    def _build(self) -> None:
        while (day := self._queue.get()) is not None:
            try:
                self._assembly.builder.run_one(day)
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
        if (failure := self._parts.failure()) is not None:
            return [str(failure)]
        if not self._has_loops:
            return []
        silence_s = time.monotonic() - self._last_tick
        return [f"no sweep for {silence_s:.0f} s"] if silence_s > TICK_SILENCE_MAX_S else []

    def _ready(self) -> list[str]:
        faults = self._alive()
        if self._supervisor.stopping:
            faults.append("stopping")
        if self._subscriber is not None and not self._subscriber.running:
            faults.append("the pull stream is not open")
        faults += [*self._subscription.faults, *self._passes.faults()]
        try:
            self._store_check()
        except PipelineError as exc:
            faults.append(str(exc))
        return faults
