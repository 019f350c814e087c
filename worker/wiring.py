"""Services of one process, connected to each other: engine, repair, builder, sweeper, intake, relay, build queue.

`Services` serves `mlfs run`, `mlfs serve` and `mlfs tick`; the kind of the resources decides the differences. No
thread runs before a caller starts loops, requests or a tick. A crash loses only the build queue: messages wait on the
bus, due instants in the wake index, outcomes in the outbox.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from worker.builds.builder import Builder, LeaseKeeper
from worker.builds.generations import short_diffs
from worker.builds.queue import BuildQueue, Builds, RequestBuilds
from worker.builds.upstream import ScheduleWatch, probe
from worker.calendar import Calendar
from worker.canary import CANARY_KEYS, CANARY_POLICY, Canary
from worker.errors import PipelineError
from worker.foresight.reading import OutlookReader
from worker.foresight.recording import ArrivalsWriter
from worker.intake import Intake
from worker.interventions.retractions import RetractionAudit
from worker.observing.observer import LogObserver, Observer, Observers
from worker.ports import Clock
from worker.relay import Relay
from worker.repair import Repair
from worker.resources import ProcessKind, Resources, make_engine, open_lineage
from worker.sweep import PATIENCE_S, Aside, Sweeper
from worker.tick import Ticked, Ticker

if TYPE_CHECKING:
    from worker.lineage.emitter import LineageEmitter

log = structlog.get_logger(__name__)

# Seconds for which the end of a process waits for queued lineage events; later events are lost.
LINEAGE_FLUSH_S = 2.0


class Services:
    """Services of one process on opened resources.

    Attributes:
        queue: Analysis dates that are ready for a build.
        outbox_filled: Set by each commit with an outcome message; wakes the relay loop.
        sweep_wanted: Set by each end of a build; wakes the sweep loop.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        clock: Clock,
        observer: Observer,
        date_failed: Callable[[date, Exception], None],
        lease_passed: Callable[[PipelineError | None], None] = lambda _error: None,
    ) -> None:
        """Connect the services.

        Args:
            resources: Opened state store, warehouse, bus and tracer.
            clock: Clock of every instant that the services store.
            observer: Notified of deliveries, decisions and builds.
            date_failed: Called with an analysis date that a sweep could not handle, and the exception.
            lease_passed: Called after each renewal of a lease, with the exception of a failed renewal.
        """
        self.resources = resources
        self.clock = clock
        self._observer = observer
        # Name of the process for leases and history, unique among replicas and restarts.
        self._worker = f"{socket.gethostname()}-{os.getpid()}"
        self.queue = BuildQueue()
        self.outbox_filled, self.sweep_wanted = threading.Event(), threading.Event()
        self.engine = make_engine(
            resources.settings,
            store=resources.store,
            clock=clock,
            worker=self._worker,
            start_build=self.queue.put,
            outbox_filled=self.outbox_filled.set,
            observer=observer,
            tracer=resources.tracer,
        )
        self.repair = Repair(engine=self.engine, store=resources.store, clock=clock, warehouse=resources.warehouse)
        self.builder = self._make_builder(lease_passed)
        self.canary = self._make_canary()
        self.schedule = ScheduleWatch(resources.warehouse, resources.settings.calendar, Aside())
        self.sweeper = self._make_sweeper(date_failed)
        self.relay = Relay(
            store=resources.store, publisher=resources.publisher, observer=observer, tracer=resources.tracer
        )
        self.intake = self._make_intake()
        self.arrivals = self._make_arrivals()
        self.outlook = self._make_outlook()

    def calendar(self) -> Calendar:
        """Return the calendar with the games of the last read of the schedule."""
        return self.resources.settings.calendar.with_games(self.schedule.known)

    def _make_outlook(self) -> OutlookReader:
        settings = self.resources.settings
        return OutlookReader(
            self.resources.warehouse,
            policy=settings.policy,
            zone=settings.calendar.zone,
            calendar=self.calendar,
            lookback_days=settings.phase3_lookback_days,
            clock=self.clock,
        )

    def _make_builder(self, lease_passed: Callable[[PipelineError | None], None]) -> Builder:
        settings, warehouse = self.resources.settings, self.resources.warehouse
        return Builder(
            engine=self.engine,
            warehouse=warehouse,
            clock=self.clock,
            worker=self._worker,
            lease_s=settings.lease_s,
            phase3_lookback_days=settings.phase3_lookback_days,
            observer=self._observer,
            stopwatch=time.perf_counter,
            follow=self.repair.follow,
            changes_of=short_diffs(warehouse),
            settle_retractions=RetractionAudit(self.engine, warehouse).settle,
            tracer=self.resources.tracer,
            lease_keeper=partial(LeaseKeeper, passed=lease_passed),
        )

    def _make_sweeper(self, date_failed: Callable[[date, Exception], None]) -> Sweeper:
        calendar, upgrade_patience_s = self.resources.settings.calendar, 0.0
        if self.resources.kind is not ProcessKind.PULL:
            # Only a pull worker has messages to read after a start, before an overdue deadline fires; elsewhere the
            # probe at the deadline finds missed rows. A tick and a push service without loops run only during a
            # command or a request, so the sweep waits for the probes of upgrades, too.
            calendar, upgrade_patience_s = replace(calendar, drain_grace=timedelta(0)), PATIENCE_S
        return Sweeper(
            engine=self.engine,
            store=self.resources.store,
            calendar=calendar,
            clock=self.clock,
            repair=self.repair,
            probe=partial(probe, self.resources.warehouse),
            date_failed=date_failed,
            aside=Aside(),
            aside_for_upgrades=Aside(upgrade_patience_s),
            game_days=self.schedule.days,
            canary=self.canary.run_once if self.resources.settings.canary else lambda: None,
        )

    def _make_canary(self) -> Canary:
        resources, settings = self.resources, self.resources.settings
        store = resources.store.apart(CANARY_KEYS)
        # Only a pull worker has threads that outlive a sweep; elsewhere the sweep waits a moment for the canary.
        patience_s = 0.0 if resources.kind is ProcessKind.PULL else PATIENCE_S
        return Canary(
            engine=make_engine(
                settings, store=store, policy=CANARY_POLICY, clock=self.clock, worker=self._worker, observer=Observers()
            ),
            store=store,
            requests=resources.requests,
            publisher=resources.publisher,
            topic=settings.topic,
            warehouse=resources.warehouse,
            clock=self.clock,
            worker=self._worker,
            publish_aside=Aside(patience_s),
            build_aside=Aside(patience_s),
        )

    def _make_intake(self) -> Intake:
        settings = self.resources.settings
        return Intake(
            engine=self.engine,
            store=self.resources.store,
            repair=self.repair,
            dead_letters=self.resources.dead_letter_publisher,
            dead_letter_topic=settings.dead_letter_topic,
            processors=settings.definition.processors,
            earliest=settings.earliest_date,
            clock=self.clock,
            observer=self._observer,
            stopwatch=time.perf_counter,
            tracer=self.resources.tracer,
            canary=self.canary.receive,
        )

    def _make_arrivals(self) -> ArrivalsWriter:
        return ArrivalsWriter(
            store=self.resources.store,
            warehouse=self.resources.warehouse,
            calendar=self.resources.settings.calendar,
            clock=self.clock,
            observer=self._observer,
        )

    def request_builds(self, failed: Callable[[Exception], None]) -> RequestBuilds:
        """Return the driver that builds queued analysis dates during a request or a tick."""
        threads = self.resources.settings.build_threads
        return RequestBuilds(self.queue, self.builder.run_one, failed, threads=threads, stopwatch=time.monotonic)

    def ticker(self, builds: Builds, ticked: Callable[[datetime], None]) -> Ticker:
        """Return the ticker of this process; *ticked* gets the instant of each sweep."""
        return Ticker(
            sweeper=self.sweeper,
            builds=builds,
            relay=self.relay,
            clock=self.clock,
            stopwatch=time.monotonic,
            ticked=ticked,
            write_arrivals=self.arrivals.run_once,
        )


def run_tick(resources: Resources, clock: Clock, wait_s: float) -> Ticked:
    """Sweep, build and publish outcomes once, without a worker; start no build after *wait_s* seconds.

    Raises:
        Unavailable: State store or warehouse does not answer; due analysis dates stay due.
    """
    resources.open()
    lineage = open_lineage(resources.settings, lambda _fate: None)
    try:
        observers = (LogObserver(),) if lineage is None else (LogObserver(), lineage)
        services = Services(resources, clock=clock, observer=Observers(*observers), date_failed=_log_failed_date)
        # The driver has logged the exception of a failed build.
        builds = services.request_builds(failed=lambda _error: None)
        return services.ticker(builds, ticked=lambda _now: None).run_once(wait_s)
    finally:
        close_lineage(lineage)


def _log_failed_date(day: date, error: Exception) -> None:
    log.warning("date_not_handled", analysis_date=day, kind=type(error).__name__, error=str(error))


def close_lineage(lineage: "LineageEmitter | None") -> None:
    """Send the queued lineage events within `LINEAGE_FLUSH_S`; log a warning for events that remain."""
    if lineage is not None and not lineage.close(LINEAGE_FLUSH_S):
        log.warning("lineage_left_over")
