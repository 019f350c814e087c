"""One simulated worker process: the product's own objects, wired as `worker.app` wires them, stepped from outside."""

from collections import deque
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Self

from statemachine.model import DateRecord, Policy
from tests.simulation.boundary import Boundary
from tests.simulation.bus import Bus, SimulatedPublisher
from tests.simulation.plan import PROCESSORS, ZONE, Schedule
from tests.simulation.reader import LoggingObserver
from tests.simulation.store import Server, SimulatedStore
from tests.simulation.warehouse import SimulatedWarehouse, Tables
from worker.builds.builder import RENEWALS_PER_LEASE, Builder, LeaseKeeper
from worker.builds.queue import BuildQueue
from worker.builds.upstream import probe
from worker.calendar import Calendar, WallClock
from worker.engine import Engine, Topics
from worker.errors import PipelineError
from worker.foresight.recording import ArrivalsWriter
from worker.intake import Intake
from worker.interventions.retractions import RetractionAudit
from worker.relay import Relay
from worker.repair import Repair
from worker.sweep import Sweeper

if TYPE_CHECKING:
    from tests.simulation.world import World

LEASE_S = 60.0
TOPICS = Topics(success="success", failure="failure")


class WorkerClock:
    """The true time, as this process sees it."""

    def __init__(self, world: "World", skew: timedelta) -> None:
        self._world = world
        self.skew = skew

    def now(self) -> datetime:
        return self._world.now + self.skew

    def follow(self) -> None:
        """Nothing: here a clock stays wrong, which a worker's does not, and no result may depend on it."""


class SteppedLeaseKeeper(LeaseKeeper):
    """Renews when the scheduler says so."""

    process: "Process"
    due_at: datetime

    def __enter__(self) -> Self:
        self.process.keepers.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self in self.process.keepers:
            self.process.keepers.remove(self)


class Process:
    """A worker from its start to its death."""

    def __init__(self, world: "World", name: str, skew: timedelta) -> None:
        self.name = name
        self.world = world
        self.clock = WorkerClock(world, skew)
        self.dead = False
        self.sheltered = False
        self.frozen_until: datetime | None = None
        self.disturbed_at = world.now
        self.sweeping = False
        self.relaying = False
        self.writing = False
        self.deliveries = 0
        self.builds = 0
        self.sweep_at = world.now
        self.sweep_wanted = True
        self.relay_at = world.now
        self.write_at = world.now
        self.keepers: list[SteppedLeaseKeeper] = []
        self.probed: dict[date, frozenset[str]] = {}
        self.probe_failed = False
        self.queue = BuildQueue()
        self.queued: deque[date] = deque()
        self._wire(world.schedule, world.boundary, world.server, world.bus, world.tables, world.rng)

    def _wire(
        self, schedule: Schedule, boundary: Boundary, server: Server, bus: Bus, tables: Tables, rng: Random
    ) -> None:
        self.store = SimulatedStore(server, boundary, self)
        self.publisher = SimulatedPublisher(bus, boundary, self)
        self.warehouse = SimulatedWarehouse(tables, boundary, self, rng)
        calendar = make_calendar(schedule)
        observer = LoggingObserver(self.world.reader, self)
        self.engine = Engine(
            store=self.store,
            policy=make_policy(schedule),
            calendar=calendar,
            clock=self.clock,
            pipeline="p",
            topics=TOPICS,
            worker=self.name,
            keep_finished=None,
            start_build=self.queue.put,
            outbox_filled=self._outbox_filled,
            observer=observer,
        )
        self.repair = Repair(engine=self.engine, store=self.store, clock=self.clock, warehouse=self.warehouse)
        self.retractions = RetractionAudit(self.engine, self.warehouse)
        self.builder = Builder(
            engine=self.engine,
            warehouse=self.warehouse,
            clock=self.clock,
            worker=self.name,
            lease_s=LEASE_S,
            phase3_lookback_days=30,
            observer=observer,
            stopwatch=lambda: 0.0,
            follow=self.repair.follow,
            settle_retractions=self.retractions.settle,
            lease_keeper=self._keeper,
            pause=lambda seconds: boundary.hang(self, seconds, "between two reports"),
        )
        self.sweeper = Sweeper(
            engine=self.engine,
            store=self.store,
            calendar=calendar,
            clock=self.clock,
            repair=self.repair,
            probe=self._probe,
            date_failed=lambda _day, _error: None,
        )
        self.arrivals = ArrivalsWriter(
            store=self.store, warehouse=self.warehouse, calendar=calendar, clock=self.clock, observer=observer
        )
        self.relay = Relay(store=self.store, publisher=self.publisher, observer=observer)
        self.intake = Intake(
            engine=self.engine,
            store=self.store,
            repair=self.repair,
            dead_letters=self.publisher,
            dead_letter_topic="dead",
            processors=PROCESSORS,
            earliest=date(2000, 1, 1),
            clock=self.clock,
            observer=observer,
            stopwatch=lambda: self.world.now.timestamp(),  # noqa: PLW0108 - the world's instant moves
        )

    def _outbox_filled(self) -> None:
        self.relay_at = self.world.now

    def _probe(self, night: date) -> Mapping[str, int]:
        self.probe_failed = True
        rows = probe(self.warehouse, night)
        self.probe_failed = False
        return rows

    def _keeper(self, engine: Engine, record: DateRecord, worker: str, lease_s: float) -> LeaseKeeper:
        keeper = SteppedLeaseKeeper(engine, record, worker, lease_s)
        keeper.process = self
        keeper.due_at = self.world.now + timedelta(seconds=lease_s / RENEWALS_PER_LEASE)
        return keeper

    def want_sweep(self) -> None:
        """Let the sweep loop run now, whether or not something is due."""
        self.sweep_at = self.world.now
        self.sweep_wanted = True

    @property
    def awake(self) -> bool:
        return not self.dead and self.frozen_until is None

    def build_next(self) -> None:
        """One pass of a build thread, as `worker.app` has it."""
        day = self.queue.get()
        assert day is not None
        try:
            self.builder.run_one(day)
        except PipelineError:
            """The worker logs it and counts it."""
        finally:
            self.queue.finished(day)
            self.want_sweep()

    @property
    def has_queued(self) -> bool:
        return not self.queue._dates.empty()


def make_calendar(schedule: Schedule) -> Calendar:
    return Calendar(
        zone=ZONE,
        deadline=WallClock.read(schedule.deadline),
        upgrade_cutoff=WallClock.read(schedule.upgrade_cutoff),
        season_start=(10, 15),
        season_end=(6, 30),
        skip_dates=frozenset(),
        drain_grace=schedule.drain_grace,
        # A corrected mark opens the nights of the look-back, which no schedule knows: one of them is enough.
        catch_up_days=1,
    )


def make_policy(schedule: Schedule) -> Policy:
    return Policy(
        processors=PROCESSORS,
        optional=schedule.optional,
        lease=timedelta(seconds=LEASE_S),
        on_upstream_failure=schedule.on_upstream_failure,
        rerun=schedule.rerun,
    )
