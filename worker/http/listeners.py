"""HTTP listeners of a process: a single listener for all routes, or with `MLFS_ADMIN_PORT` two listeners.

Of two listeners the first serves `/pubsub/push` and `/tick`, the second serves the API and the pages. A crash loses the
open requests; a repeated request with the same `Idempotency-Key` has no second effect.
"""

import time
from collections.abc import Callable
from functools import partial

from fastapi import FastAPI

from worker import package_version
from worker.access import AccessControl
from worker.builds.generations import compare_generations, read_distributions
from worker.builds.queue import Builds
from worker.builds.upstream import probe
from worker.clock import pause
from worker.http.actions import ActionContext
from worker.http.application import Api, HealthChecks, create_app
from worker.http.guard import RouteGuard, RouteKind
from worker.http.push_and_tick import Machines
from worker.http.reading import DateReader
from worker.http.server import HttpServer
from worker.interventions.audit import Auditor
from worker.interventions.idempotency import IdempotentRequests
from worker.interventions.process import Processing
from worker.interventions.requests import Interventions
from worker.observing.metrics import Metrics
from worker.ports import TokenVerifier
from worker.resources import ProcessKind
from worker.tick import Ticked
from worker.wiring import Services


class Listeners:
    """HTTP listeners of a worker."""

    def __init__(
        self,
        services: Services,
        *,
        metrics: Metrics,
        verifier: TokenVerifier,
        builds: Builds,
        probes: HealthChecks,
        tick: Callable[[], Ticked],
        publish_outcomes: Callable[[], None],
    ) -> None:
        """Connect the routes; bind no port.

        Args:
            services: Services of the worker.
            metrics: Metrics that `/metrics` shows.
            verifier: Verifier of identity tokens.
            builds: Driver of the build queue.
            probes: Checks of `/livez` and `/readyz`.
            tick: Runs a tick, for `/tick`.
            publish_outcomes: Called by a request after a decision with an outcome message.
        """
        self.apps: list[FastAPI]
        self._services = services
        self._settings = settings = services.resources.settings
        self._metrics = metrics
        self._tick = tick
        self._guard = partial(RouteGuard, AccessControl(verifier, metrics.not_admitted))
        api = self._make_api(builds, publish_outcomes)
        machines = self._make_machines() if services.resources.kind is ProcessKind.PUSH else None
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

    def _make_api(self, builds: Builds, publish_outcomes: Callable[[], None]) -> Api:
        services, settings = self._services, self._settings
        resources, clock = services.resources, services.clock
        warehouse = resources.warehouse
        interventions = self._make_interventions(publish_outcomes)
        self.processing = Processing(
            store=resources.store,
            auditor=interventions.auditor,
            repair=services.repair,
            builds=builds,
            probe=partial(probe, warehouse),
            clock=clock,
            stopwatch=time.monotonic,
            pause=pause,
            publish_outcomes=publish_outcomes,
        )
        reader = DateReader(
            store=resources.store,
            clock=clock,
            policy=settings.policy,
            zone=settings.calendar.zone,
            compare=partial(compare_generations, warehouse),
            distributions=partial(read_distributions, warehouse),
            outlook=services.outlook,
        )
        return Api(
            guard=self._guard(settings.api_rule(), RouteKind.API),
            page_guard=self._guard(settings.api_rule(), RouteKind.PAGE),
            reader=reader,
            actions=ActionContext(
                interventions=interventions,
                processing=self.processing,
                once=IdempotentRequests(resources.requests),
                calendar=settings.calendar,
                earliest=settings.earliest_date,
                clock=clock,
                wait_s=settings.request_wait_s,
            ),
            registry=self._metrics.registry,
        )

    def _make_interventions(self, publish_outcomes: Callable[[], None]) -> Interventions:
        services, resources = self._services, self._services.resources
        return Interventions(
            store=resources.store,
            auditor=Auditor(
                engine=services.engine,
                log_replay=resources.warehouse.log_replay,
                clock=services.clock,
                unreported=services.repair.unreported,
            ),
            requests=resources.requests,
            replace_damaged=services.repair.replace_damaged,
            calendar=self._settings.calendar,
            clock=services.clock,
            processors=self._settings.definition.processors,
            publish_outcomes=publish_outcomes,
        )

    def _make_machines(self) -> Machines:
        settings = self._settings
        return Machines(
            push_guard=self._guard(settings.push_rule(), RouteKind.API),
            tick_guard=self._guard(settings.tick_rule(), RouteKind.API),
            subscription=f"projects/{settings.pubsub_project}/subscriptions/{settings.subscription}",
            intake=self._services.intake,
            tick=self._tick,
            clock=self._services.clock,
        )

    def start(self) -> list[str]:
        """Bind and serve; return the base address of each listener, the first listener first.

        Raises:
            Unavailable: A port is taken.
        """
        return [server.start() for server in self._servers]

    def stop(self) -> None:
        """Stop serving; wait a moment for open requests."""
        for server in self._servers:
            server.stop()
