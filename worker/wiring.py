"""Wires the worker's pieces to each other; which adapters they stand on is the caller's choice."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial

from worker.builds.builder import Builder, LeaseKeeper
from worker.builds.generations import short_diffs
from worker.builds.steps import probe
from worker.engine import Engine
from worker.errors import PipelineError
from worker.intake import Intake
from worker.interventions.retractions import RetractionAudit
from worker.observing.observer import Observer
from worker.ports import Clock
from worker.relay import Relay
from worker.repair import Repair
from worker.resources import Resources, make_engine
from worker.sweep import Aside, Sweeper


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCallbacks:
    """What the pieces call in the process around them.

    Attributes:
        start_build: A date is ready.
        outbox_filled: An outcome waits to be published.
        date_failed: The sweep could not handle one date.
        lease_passed: A renewal of a build's lease was stored, or failed with this error.
    """

    start_build: Callable[[date], None]
    outbox_filled: Callable[[], None]
    date_failed: Callable[[date, Exception], None]
    lease_passed: Callable[[PipelineError | None], None] = lambda _error: None


class Assembly:
    """Engine, repair, builder, sweeper, intake and relay of one process."""

    def __init__(
        self, parts: Resources, *, clock: Clock, worker: str, observer: Observer, hooks: ProcessCallbacks, drains: bool
    ) -> None:
        """Open the parts and wire everything; nothing runs yet.

        Args:
            parts: Store, warehouse and bus.
            clock: The shell's clock.
            worker: Name of this process, for leases and history.
            observer: Told of everything.
            hooks: The process around.
            drains: Whether this process reads a queue of its own, that must be drained after a start before an overdue
                deadline fires. A push service has none: Pub/Sub pushes at its own rhythm, and the probe finds the rows.

        Raises:
            Unavailable: A part does not answer.
        """
        settings, store, warehouse = parts.settings, parts.store, parts.warehouse
        self.parts = parts
        self.clock = clock
        self.engine: Engine = make_engine(
            settings,
            store=store,
            clock=clock,
            worker=worker,
            start_build=hooks.start_build,
            outbox_filled=hooks.outbox_filled,
            observer=observer,
            tracer=parts.tracer,
        )
        self.repair = Repair(engine=self.engine, store=store, clock=clock, warehouse=warehouse)
        self.builder = self._make_builder(worker, observer, hooks)
        calendar = settings.calendar
        self.sweeper = Sweeper(
            engine=self.engine,
            store=store,
            calendar=calendar if drains else replace(calendar, drain_grace=timedelta(0)),
            clock=clock,
            repair=self.repair,
            probe=lambda day: probe(warehouse, day),
            date_failed=hooks.date_failed,
            aside=Aside(),
            # A push service works only while a request waits, so its looks are waited for.
            aside_for_upgrades=Aside(0.0) if drains else Aside(),
        )
        self.relay = Relay(store=store, publisher=parts.publisher, observer=observer, tracer=parts.tracer)
        self.intake = self._make_intake(observer)

    def _make_builder(self, worker: str, observer: Observer, hooks: ProcessCallbacks) -> Builder:
        settings, warehouse = self.parts.settings, self.parts.warehouse
        return Builder(
            engine=self.engine,
            warehouse=warehouse,
            clock=self.clock,
            worker=worker,
            lease_s=settings.lease_s,
            phase3_lookback_days=settings.phase3_lookback_days,
            observer=observer,
            stopwatch=time.perf_counter,
            follow=self.repair.follow,
            changes_of=short_diffs(warehouse),
            settle_retractions=RetractionAudit(self.engine, warehouse).settle,
            tracer=self.parts.tracer,
            lease_keeper=partial(LeaseKeeper, passed=hooks.lease_passed),
        )

    def _make_intake(self, observer: Observer) -> Intake:
        settings = self.parts.settings
        return Intake(
            engine=self.engine,
            store=self.parts.store,
            repair=self.repair,
            dead_letters=self.parts.dead_letter_publisher(),
            dead_letter_topic=settings.dead_letter_topic,
            processors=settings.definition.processors,
            earliest=settings.earliest_date,
            clock=self.clock,
            observer=observer,
            stopwatch=time.perf_counter,
            tracer=self.parts.tracer,
        )
