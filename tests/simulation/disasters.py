"""What breaks on a large scale, and how everything gets well again."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.simulation.plan import HOUR, Happening, Intensity
from worker.errors import PipelineError

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

RECOVER_AFTER_S = (1, 30)
# Reads of the wake index, the known dates, the outbox and a date's changes.
INDEXES = ("due", "dates", "outbox", "history")
RESTART_AFTER_S = (1, 5, 30, 120)


class Disasters:
    """Strikes, and their ends."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._ends: list[tuple[datetime, str]] = []
        self._restore_at: datetime | None = None
        self._recover_at: datetime | None = None

    def instants(self) -> list[datetime]:
        world = self._world
        frozen = [one.frozen_until for one in world.processes if not one.dead and one.frozen_until is not None]
        single = [instant for instant in (self._restore_at, self._recover_at) if instant is not None]
        return [*frozen, *single, *(moment for moment, _port in self._ends)]

    def strike(self, happening: Happening) -> None:
        world = self._world
        kind = happening.kind
        world.boundary.injected[kind] += 1
        match kind:
            case "store_away" | "warehouse_away" | "bus_away":
                port = kind.removesuffix("_away")
                world.boundary.away.add(port)
                self._ends.append((world.now + happening.span, port))
            case "log_stalls":
                world.reader.stall(world.now + happening.span)
            case "wipe":
                world.server.wipe()
                self._lost()
            case "snapshot_restore":
                world.server.take_snapshot()
                self._restore_at = world.now + happening.span
            case "damage":
                assert happening.night is not None
                world.server.damage(happening.night)
                self._disturb()
            case "expire" | "child_dies" | "junk_member":
                self._strike_store(happening)
            case "downtime" | "restart_all":
                span = happening.span if kind == "downtime" else timedelta(seconds=2)
                for process in list(world.processes):
                    self._kill(process, span)
            case _:
                self._strike_one(happening)

    def _strike_store(self, happening: Happening) -> None:
        """Hit the store's server in one place, or end its process."""
        world = self._world
        match happening.kind:
            case "expire":
                assert happening.night is not None
                world.server.expire(happening.night)
            case "junk_member":
                world.server.junk.add(INDEXES[happening.count % len(INDEXES)])
            case _:
                # The server is started again on its own folder and has every commit that it confirmed.
                world.boundary.deaths["store"] += 1
                world.boundary.away.add("store")
                self._ends.append((world.now + happening.span, "store"))

    def _strike_one(self, happening: Happening) -> None:
        world = self._world
        living = [process for process in world.processes if process.awake]
        if not living:
            return
        process = living[happening.count % len(living)]
        world.say(f"--- it hits {process.name}")
        match happening.kind:
            case "crash":
                self._kill(process, timedelta(seconds=world.rng.choice(RESTART_AFTER_S)))
            case "freeze":
                process.frozen_until = world.now + happening.span
            case "clock_jump":
                process.clock.skew += 2 * HOUR
                world.jumped = True
            case _:
                raise AssertionError(happening.kind)

    def pass_away(self) -> None:
        """End what has lasted long enough."""
        world = self._world
        for moment, port in list(self._ends):
            if moment <= world.now:
                self._ends.remove((moment, port))
                if port not in {other for _moment, other in self._ends}:
                    world.boundary.away.discard(port)
                    self._disturb()
        for process in world.processes:
            if process.frozen_until is not None and process.frozen_until <= world.now:
                process.frozen_until = None
                process.disturbed_at = world.now
        if self._restore_at is not None and self._restore_at <= world.now:
            self._restore_at = None
            world.say("--- the store is restored from an old copy")
            world.server.restore()
            self._lost()
        if self._recover_at is not None and self._recover_at <= world.now:
            self._recover_at = None
            self._recover()

    def heal(self) -> None:
        """Nothing breaks from now on, and what is broken is repaired."""
        world = self._world
        world.say("--- all faults end")
        calm = Intensity()
        for name in ("crash", "unavailable_before", "unavailable_after", "fatal", "preempt", "duplicate", "ack_lost",
                     "slow_build", "delay_max"):  # fmt: skip
            setattr(world.boundary.intensity, name, getattr(calm, name))
        world.boundary.away.clear()
        self._ends.clear()
        world.reader.stalled_until = None
        world.server.junk.clear()
        if self._restore_at is not None:
            self._restore_at = None
        for process in world.processes:
            process.frozen_until = None
            if process.clock.skew > HOUR:
                process.clock.skew -= 2 * HOUR
        for one in world.boundary.suspended:
            one.until = min(one.until, world.now + timedelta(seconds=30))
        missing = world.schedule.workers - sum(1 for process in world.processes if not process.dead)
        world.starts_at = [world.now] * max(missing, 0)
        self._disturb()

    def bury(self, process: "Process") -> None:
        """A process has crashed: another is started for it, and what it held is delivered again."""
        world = self._world
        if process not in world.processes:
            return
        process.dead = True
        world.processes.remove(process)
        world.bus.drop_leases(process, world.now)
        if len(world.processes) + len(world.starts_at) < world.schedule.workers:
            world.starts_at.append(world.now + timedelta(seconds=world.rng.choice(RESTART_AFTER_S)))
        if not world.processes:
            self._disturb()

    def _kill(self, process: "Process", away: timedelta) -> None:
        world = self._world
        process.dead = True
        if process in world.processes:
            world.processes.remove(process)
        world.bus.drop_leases(process, world.now)
        world.starts_at.append(world.now + away)

    def _lost(self) -> None:
        """The store has lost something: a person is called, and runs `mlfs recover`."""
        world = self._world
        world.want_sweeps()
        self._disturb()
        self._recover_at = world.now + timedelta(seconds=world.rng.uniform(*RECOVER_AFTER_S))

    def _disturb(self) -> None:
        world = self._world
        for process in world.processes:
            process.disturbed_at = world.now
            process.relay_at = world.now
            process.want_sweep()

    def _recover(self) -> None:
        """`mlfs recover`: restore what the ledger knows and the store does not, then turn the subscription back."""
        world = self._world
        world.say("--- mlfs recover")
        try:
            operator = world.operator
            first = min(world.schedule.nights) - timedelta(days=1)
            last = max(world.schedule.nights)
            operator.retractions.restore_since(first, last)
            for row in operator.warehouse.read_ledger_since(first):
                operator.repair.catch_up(row)
            operator.retractions.restore_since(first, last)
        except PipelineError as exc:
            world.say(f"operator: {exc}; once more in a minute")
            self._recover_at = world.now + timedelta(minutes=1)
            return
        world.bus.seek(world.now - 24 * HOUR, world.now)
