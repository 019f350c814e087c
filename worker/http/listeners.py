"""The HTTP listeners of one process: one for everything, or machines and people on a listener each."""

import threading
import time
from collections.abc import Callable
from functools import partial

import structlog
from fastapi import FastAPI

from worker import package_version
from worker.access import AccessControl, AccessRule
from worker.builds.generations import compare_generations
from worker.builds.queue import Builds
from worker.builds.steps import probe
from worker.errors import PipelineError
from worker.http.actions import ActionContext
from worker.http.application import Api, HealthChecks, create_app
from worker.http.guard import RouteGuard
from worker.http.push_and_tick import Machines
from worker.http.reading import DateReader
from worker.http.server import HttpServer
from worker.interventions.audit import Auditor
from worker.interventions.idempotency import IdempotentRequests
from worker.interventions.requests import Interventions
from worker.observing.metrics import Metrics
from worker.ports import TokenVerifier
from worker.tick import Ticked, Ticker
from worker.wiring import Assembly

log = structlog.get_logger(__name__)


class Listeners:
    """Everything that listens."""

    def __init__(  # noqa: PLR0913 - one collaborator each
        self,
        assembly: Assembly,
        *,
        metrics: Metrics,
        verifier: TokenVerifier,
        builds: Builds,
        probes: HealthChecks,
        tick_passed: Callable[[Exception | None], None],
        serves_machines: bool,
        publishes: bool,
    ) -> None:
        """Wire the listeners; nothing is bound yet.

        Args:
            assembly: The worker's pieces.
            metrics: What `/metrics` shows.
            verifier: Reads tokens.
            builds: Where dates that are ready go.
            probes: What health pages ask.
            tick_passed: Notes how a tick ended; None where it did its work.
            serves_machines: Whether `/pubsub/push` and `/tick` are there.
            publishes: Whether a request that made an outcome publishes it; else a loop does.
        """
        self.apps: list[FastAPI]
        self._assembly = assembly
        self._settings = settings = assembly.parts.settings
        self._metrics = metrics
        self._tick_passed = tick_passed
        self._doorkeeper = AccessControl(verifier, metrics.not_admitted)
        self._ticker = self._make_ticker(builds)
        api = self._make_api(builds, publishes=publishes)
        machines = self._make_machines() if serves_machines else None
        version = package_version()
        if settings.admin_port is None:
            self.apps = [create_app(probes, version=version, api=api, machines=machines)]
            self._servers = [HttpServer(self.apps[0], settings.http_host, settings.http_port)]
        else:
            front = create_app(probes, version=version, machines=machines)
            back = create_app(probes, version=version, api=api)
            self.apps = [front, back]
            self._servers = [
                HttpServer(front, settings.http_host, settings.http_port),
                HttpServer(back, settings.admin_host, settings.admin_port, setting="MLFS_ADMIN_PORT"),
            ]

    def _make_ticker(self, builds: Builds) -> Ticker:
        assembly = self._assembly
        return Ticker(
            sweeper=assembly.sweeper,
            builds=builds,
            relay=assembly.relay,
            clock=assembly.clock,
            stopwatch=time.monotonic,
            ticked=self._metrics.ticked,
        )

    def _make_api(self, builds: Builds, *, publishes: bool) -> Api:
        assembly, settings = self._assembly, self._settings
        parts, clock = assembly.parts, assembly.clock
        warehouse = parts.warehouse
        self.interventions = Interventions(
            store=parts.store,
            auditor=Auditor(
                engine=assembly.engine,
                log_replay=warehouse.log_replay,
                clock=clock,
                unreported=assembly.repair.unreported,
            ),
            repair=assembly.repair,
            builds=builds,
            probe=lambda day: probe(warehouse, day),
            clock=clock,
            stopwatch=time.monotonic,
            pause=_wait,
            tell=self._publish if publishes else _leave_to_the_loop,
            processors=settings.policy.processors,
        )
        compare = partial(compare_generations, warehouse)
        return Api(
            gate=self._gate(settings.api_door()),
            page_gate=RouteGuard(self._doorkeeper, settings.api_door(), for_browsers=True),
            shelf=DateReader(
                store=parts.store, clock=clock, policy=settings.policy, zone=settings.calendar.zone, compare=compare
            ),
            desk=ActionContext(
                interventions=self.interventions,
                once=IdempotentRequests(parts.requests),
                calendar=settings.calendar,
                earliest=settings.earliest_date,
                clock=clock,
                wait_s=settings.request_wait_s,
            ),
            registry=self._metrics.registry,
        )

    def _make_machines(self) -> Machines:
        settings, intake = self._settings, self._assembly.intake
        return Machines(
            push_gate=self._gate(settings.push_door()),
            tick_gate=self._gate(settings.tick_door()),
            subscription=f"projects/{settings.pubsub_project}/subscriptions/{settings.subscription}",
            handle=intake.handle,
            refuse=intake.refuse,
            charge=intake.charge,
            tick=self._tick,
            clock=self._assembly.clock,
        )

    def _tick(self) -> Ticked:
        try:
            ticked = self._ticker.run_once(self._settings.request_wait_s)
        except Exception as exc:
            self._tick_passed(exc)
            raise
        self._tick_passed(None)
        return ticked

    def _gate(self, door: AccessRule) -> RouteGuard:
        return RouteGuard(self._doorkeeper, door)

    def _publish(self) -> None:
        """Tell outcomes at once; what the bus does not take now, the next tick tells."""
        try:
            self._ticker.publish(time.monotonic() + self._settings.request_wait_s)
        except PipelineError as exc:
            log.warning("outcomes_left_to_next_tick", kind=type(exc).__name__, error=str(exc))

    def start(self) -> list[str]:
        """Bind and serve; give the base addresses, the first listener's first.

        Raises:
            Unavailable: A port is taken.
        """
        return [server.start() for server in self._servers]

    def stop(self) -> None:
        """Stop serving; open requests get a moment."""
        for server in self._servers:
            server.stop()


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _leave_to_the_loop() -> None:
    """The relay's loop was woken already."""
