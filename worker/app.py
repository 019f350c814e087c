"""Worker process: `mlfs run` pulls messages, `mlfs serve` receives pushed messages; both serve HTTP.

A pull worker has `PulledMessages` and `BackgroundWork`. A push service has no stream; its work is `RequestWork`, or
`BackgroundWork` with `MLFS_SERVE_LOOPS=true`. Every resource is open before the first thread starts.

The worker starts in this order: HTTP, work, stream. It stops in the order stream, build threads, loops, lineage, HTTP,
so that a stored message is acknowledged and a decided outcome stays in the outbox. A crash loses no stored state: the
bus delivers an unacknowledged message again, the next sweep reads the wake index, the relay reads the outbox, and an
expired lease leads to the next attempt of an interrupted build.
"""

import threading
import time
from functools import partial

import structlog

from worker.adapters.google_tokens import Certificates, GoogleTokens
from worker.adapters.pubsub.pull import PullSubscriber, PullTuning
from worker.adapters.pubsub.unary import SubscriptionWatch
from worker.adapters.pubsub.watchdog import WatchPolicy
from worker.builds.queue import BackgroundBuilds
from worker.builds.upstream import SchemaWatch
from worker.builds.vacuum import DailyVacuum
from worker.clock import SystemClock
from worker.errors import Fatal, PipelineError, Unavailable
from worker.foresight.reading import OutlookWatch
from worker.http.application import HealthChecks
from worker.http.listeners import Listeners
from worker.observing.bounds import Bounded
from worker.observing.logs import lines_dropped
from worker.observing.metrics import Metrics
from worker.observing.observer import DeadLetterTopicChecked, LogObserver, Observer, Observers
from worker.ports import Clock
from worker.resources import ProcessKind, Resources, open_lineage
from worker.supervisor import Loop, Passes, Supervisor
from worker.sweep import seconds_to_next_sweep
from worker.tick import Ticked
from worker.wiring import Services, close_lineage

log = structlog.get_logger(__name__)

# Seconds without a sweep after which `/livez` reports a stuck process; a failed sweep counts as a sweep.
TICK_SILENCE_MAX_S = 60.0
RELAY_PAUSE_S = 1.0


class PulledMessages:
    """Messages of a pull worker: the stream, and the watch over stream and subscription."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        resources, settings = services.resources, services.resources.settings
        self._store_check = resources.store.check_writable
        self._metrics = metrics
        self.subscriber = PullSubscriber(
            project=settings.pubsub_project,
            subscription=settings.subscription,
            local_address=resources.bus_address,
            handle_all=services.intake.handle_all,
            store_answers=self._store_answers,
            observer=metrics,
            tuning=PullTuning(
                messages_max=settings.messages_leased_max,
                watch=WatchPolicy(silence_s=settings.stream_silence_s, recycles_max=settings.stream_recycles_max),
            ),
        )
        self._subscription = SubscriptionWatch(
            settings.pubsub_project,
            resources.bus_address,
            subscription=settings.subscription,
            topic=settings.topic,
        )

    def start(self, supervisor: Supervisor) -> None:
        """Open the stream and start the loops that watch stream and subscription.

        Raises:
            Unavailable: Google refuses the account of this process.
        """
        self.subscriber.start()
        supervisor.run_loop(Loop(name="stream", run_once=self._check_stream))
        supervisor.run_loop(Loop(name="subscription", run_once=self._subscription.run_once))

    def faults(self) -> list[str]:
        """Return why no message arrives; empty while the stream of the right subscription is open."""
        closed = [] if self.subscriber.running else ["the pull stream is not open"]
        return [*closed, *self._subscription.faults]

    def _check_stream(self) -> float:
        try:
            return self.subscriber.check()
        finally:
            self._metrics.stream(self.subscriber.running)

    def _store_answers(self) -> bool:
        try:
            self._store_check()
        except PipelineError:
            return False
        return True


class BackgroundWork:
    """Work on loops and build threads that live as long as the process."""

    def __init__(self, services: Services, metrics: Metrics, observer: Observer) -> None:
        resources = services.resources
        settings, warehouse = resources.settings, resources.warehouse
        self._services = services
        self._metrics = metrics
        self._build_threads = settings.build_threads
        self.builds = BackgroundBuilds(services.queue, services.builder.run_one, partial(metrics.loop_failed, "build"))
        self.ticker = services.ticker(self.builds, metrics.ticked)
        outlook = OutlookWatch(services.outlook, resources.store, services.clock, metrics.show_outlook())
        vacuum = DailyVacuum(warehouse, services.clock, settings.keep_generations)
        self._loops = (
            Loop(name="schema", run_once=SchemaWatch(warehouse, observer).run_once),
            Loop(name="vacuum", run_once=vacuum.run_once),
            Loop(name="arrivals", run_once=services.arrivals.run_once),
            Loop(name="outlook", run_once=outlook.run_once),
            Loop(name="relay", run_once=self._relay, wake=services.outbox_filled),
            Loop(name="sweep", run_once=self._sweep, wake=services.sweep_wanted),
        )
        self._swept_at = time.monotonic()

    def start(self, supervisor: Supervisor) -> None:
        """Start the build threads, then the loops."""
        supervisor.run_thread("prepare", self._services.resources.warehouse.prepare_builds)
        for number in range(self._build_threads):
            supervisor.run_thread(f"build-{number}", self._build)
        for loop in self._loops:
            supervisor.run_loop(loop)

    def stop(self) -> None:
        """Stop the build threads that wait; a running build goes on under the lease."""
        self._services.queue.stop(self._build_threads)

    def publish_outcomes(self) -> None:
        """Leave the outcomes to the relay loop: the commit has woken the loop."""

    def faults(self) -> list[str]:
        """Return the seconds since the last sweep, if the sweep loop is stuck."""
        silence_s = time.monotonic() - self._swept_at
        return [f"no sweep for {silence_s:.0f} s"] if silence_s > TICK_SILENCE_MAX_S else []

    def _sweep(self) -> float:
        services = self._services
        begun_at = services.clock.now()
        try:
            swept = services.sweeper.run_once()
        finally:
            # A failed sweep is no stuck thread: a restart of the process would not cure the failure.
            self._swept_at = time.monotonic()
        now = services.clock.now()
        self._metrics.ticked(now)
        swept.check()
        next_wake = services.resources.store.next_wake(after=begun_at)
        return seconds_to_next_sweep(next_wake, now, services.resources.settings.tick_s)

    def _relay(self) -> float:
        self._services.relay.run_once()
        return RELAY_PAUSE_S

    def _build(self) -> None:
        while self.builds.build_next():
            self._services.sweep_wanted.set()


class RequestWork:
    """Work of a push service without loops, on threads of the requests and of `/tick`."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._wait_s = services.resources.settings.request_wait_s
        self.builds = services.request_builds(partial(metrics.loop_failed, "build"))
        self.ticker = services.ticker(self.builds, metrics.ticked)

    def start(self, supervisor: Supervisor) -> None:
        """Start no thread: requests start the threads of their builds."""

    def stop(self) -> None:
        """Stop no thread: the end of the HTTP listeners ends the requests."""

    def publish_outcomes(self) -> None:
        """Publish the outbox within the time of a request; the next tick publishes the remaining outcomes."""
        try:
            self.ticker.publish(time.monotonic() + self._wait_s)
        except PipelineError as exc:
            log.warning("outcomes_left_to_next_tick", kind=type(exc).__name__, error=str(exc))

    def faults(self) -> list[str]:
        """Return no fault: without loops no thread can be stuck between requests."""
        return []


class Worker:
    """One worker process of the kind PULL or PUSH: HTTP, messages and work."""

    def __init__(self, resources: Resources, clock: Clock, watchers: tuple[Observer, ...] = ()) -> None:
        """Open the resources and connect the services; start no thread of the worker.

        Args:
            resources: State store, warehouse, bus and tracer, of the kind PULL or PUSH.
            clock: Clock of every instant that the worker stores.
            watchers: Observers beside metrics, log and lineage.

        Raises:
            Unavailable: A resource does not answer.
        """
        resources.open()
        self._resources, self._settings = resources, resources.settings
        self.metrics = self._make_metrics()
        self._lineage = open_lineage(self._settings, self.metrics.lineage_event)
        lineage = () if self._lineage is None else (self._lineage,)
        observer = Observers(self.metrics, LogObserver(), *lineage, *watchers)
        self._passes = Passes()
        self._supervisor = Supervisor(self.metrics.loop_failed, self._passes)
        self._services = Services(
            resources,
            clock=clock,
            observer=observer,
            date_failed=lambda _day, error: self.metrics.loop_failed("sweep", error),
            lease_passed=partial(self._passes.note, "lease"),
        )
        pipeline = self._settings.definition
        self.metrics.show_dates(
            resources.store, clock, self._services.calendar, pipeline.findings, pipeline.optional_processors
        )
        if self._settings.canary:
            self.metrics.show_canary(self._services.canary.ages)
        self.engine = self._services.engine
        pulls = resources.kind is ProcessKind.PULL
        self._messages = PulledMessages(self._services, self.metrics) if pulls else None
        self._work: BackgroundWork | RequestWork
        if pulls or self._settings.serve_loops:
            self._work = BackgroundWork(self._services, self.metrics, observer)
        else:
            self._work = RequestWork(self._services, self.metrics)
        self._store_check = Bounded(resources.store.check_writable, "the state store")
        self.listeners = self._make_listeners()
        self.addresses: list[str] = []

    def _make_metrics(self) -> Metrics:
        resources, settings = self._resources, self._settings
        metrics = Metrics(settings.definition.processors)
        metrics.expects_stream(resources.kind is ProcessKind.PULL)
        metrics.note(DeadLetterTopicChecked(topic=settings.dead_letter_topic, fault=None))
        metrics.show_process(lines_dropped=lines_dropped, store_restarts=resources.store_restarts)
        return metrics

    def _make_listeners(self) -> Listeners:
        verifier = GoogleTokens(
            Certificates(self._settings.oidc_certs_url),
            # Verify tokens against the system clock. A wrong store clock would reject every call of `/tick`, and
            # without ticks no sweep reads the corrected store clock.
            SystemClock(),
            behind_cloud_run_iam=self._settings.behind_cloud_run_iam,
        )
        return Listeners(
            self._services,
            metrics=self.metrics,
            verifier=verifier,
            builds=self._work.builds,
            probes=HealthChecks(alive=self._alive, ready=self._ready),
            tick=self._tick,
            publish_outcomes=self._work.publish_outcomes,
        )

    @property
    def http_address(self) -> str:
        """Base address of the first listener; empty before `start`."""
        return self.addresses[0] if self.addresses else ""

    def start(self) -> None:
        """Start HTTP, work and stream; return when the worker takes messages.

        Raises:
            Unavailable: An HTTP port is taken, or Google refuses the account of this process.
        """
        self.addresses = self.listeners.start()
        self._work.start(self._supervisor)
        if self._messages is not None:
            self._messages.start(self._supervisor)
        admin = {"admin": self.addresses[1]} if self.addresses[1:] else {}
        log.info("worker_started", http=self.http_address, **admin, **self._settings.describe())

    def wait(self, stop: threading.Event) -> Unavailable | Fatal | None:
        """Block until *stop* is set; return the error if the stream or an embedded server has ended for good."""
        while not stop.wait(0.2):
            if (failure := self._resources.failure()) is not None:
                return failure
            if self._messages is not None and self._messages.subscriber.ended.is_set():
                return self._messages.subscriber.error
        return None

    def stop(self) -> None:
        """Take no further message, end loops and listeners; leave a running build to the lease.

        The caller that opened the resources closes the resources.
        """
        log.info("worker_stopping")
        if self._messages is not None:
            self._messages.subscriber.stop()
        self._work.stop()
        unfinished = self._supervisor.stop()
        close_lineage(self._lineage)
        self.listeners.stop()
        log.info("worker_stopped", unfinished=unfinished)

    def sweep_now(self) -> None:
        """Run the next sweep at once: the demo moves the clock and cannot wait for the next regular sweep."""
        self._services.sweep_wanted.set()

    def _tick(self) -> Ticked:
        try:
            ticked = self._work.ticker.run_once(self._settings.request_wait_s)
        except Exception as exc:
            self._passes.note("tick", exc)
            raise
        self._passes.note("tick", None)
        return ticked

    def _alive(self) -> list[str]:
        if (failure := self._resources.failure()) is not None:
            return [str(failure)]
        return self._work.faults()

    def _ready(self) -> list[str]:
        faults = self._alive()
        if self._supervisor.stopping:
            faults.append("stopping")
        if self._messages is not None:
            faults += self._messages.faults()
        faults += self._passes.faults()
        try:
            self._store_check()
        except PipelineError as exc:
            faults.append(str(exc))
        return faults
