"""What the processes can do next, and the doing of it: one pass of a loop, one delivery, one build."""

import traceback
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.boundary import Crash, Suspended
from tests.simulation.bus import Message
from tests.simulation.checker import Violation
from tests.simulation.fibers import FIBERS, Killed
from tests.simulation.plan import SECOND
from tests.simulation.process import Process, SteppedLeaseKeeper
from worker.errors import PipelineError
from worker.foresight.recording import PAUSE_S
from worker.intake import Verdict

if TYPE_CHECKING:
    from tests.simulation.world import World

# The longest a loop of a healthy worker leaves something that is due.
TICK_MAX = timedelta(seconds=3)
# Two deliveries at once per process: enough for every race between them.
DELIVERIES_MAX = 2

Action = Callable[[], None]
About = tuple[date, str, str]


class Tasks:
    """The moves of the scheduler."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def possible(self) -> list[Action]:
        """Everything that could happen at this instant."""
        world = self._world
        now = world.now
        actions: list[Action] = [
            partial(self._resume, one)
            for one in world.boundary.suspended
            if one.process.dead or (one.until <= now and one.process.frozen_until is None)
        ]
        messages = world.bus.available(now)
        for process in world.processes:
            if process.awake:
                actions += self._possible_for(process, messages)
        return actions

    def _possible_for(self, process: Process, messages: list[Message]) -> list[Action]:
        world = self._world
        now = world.now
        actions: list[Action] = [partial(self._renew, keeper) for keeper in process.keepers if keeper.due_at <= now]
        if messages and process.deliveries < DELIVERIES_MAX:
            actions.append(partial(self._deliver, process, messages))
        if process.relay_at <= now and not process.relaying and world.server.waiting_messages:
            actions.append(partial(self._relay, process))
        if process.write_at <= now and not process.writing and world.server.arrivals_due:
            actions.append(partial(self._write_arrivals, process))
        if process.sweep_at <= now and self._sweep_due(process):
            actions.append(partial(self._sweep, process))
        if process.builds < world.schedule.build_threads and process.has_queued:
            actions.append(partial(self._build, process))
        return actions

    def _sweep_due(self, process: Process) -> bool:
        """Whether a sweep that is allowed now would find something, or was asked for."""
        world = self._world
        if process.sweeping:
            return False
        if process.sweep_wanted or world.server.memory._last_opened is None:
            return True
        wake = min(world.server.wakes.values(), default=None)
        return wake is not None and wake <= process.clock.now()

    def overdue(self) -> Action | None:
        """A healthy worker's loop never leaves a sweep or a renewal for longer than its tick."""
        late = self._world.now - TICK_MAX
        for process in self._world.processes:
            if not process.awake:
                continue
            for keeper in process.keepers:
                if keeper.due_at < late:
                    return partial(self._renew, keeper)
            if process.sweep_at < late and self._sweep_due(process):
                return partial(self._sweep, process)
        return None

    def _task(self, process: Process, what: str, act: Action) -> None:
        """Run a pass of the product as one of its threads would."""
        self._world.say(f"{process.name}: {what}")
        try:
            act()
        except (Crash, Killed):
            if not self._world.over:
                self._world.disasters.bury(process)
        except PipelineError as exc:
            self._world.say(f"{process.name}: {what} ended by {type(exc).__name__}: {exc}")
        except Exception as exc:
            text = "".join(traceback.format_exception(exc))
            raise Violation("never crashes", f"{process.name}: {what} raised {text}") from exc

    def _resume(self, one: Suspended) -> None:
        self._world.boundary.suspended.remove(one)
        if not one.by_reader:
            one.process.disturbed_at = self._world.now
        self._world.say(f"{one.process.name}: goes on")
        self._world.handoff = True
        FIBERS.resume_when_loop_returns(one.fiber, killed=one.process.dead)

    def _deliver(self, process: Process, messages: list[Message]) -> None:
        """A free thread takes one message, or a few that wait."""
        rng = self._world.rng
        taken = rng.sample(messages, min(len(messages), rng.choice((1, 1, 2, 3))))
        for message in taken:
            message.holder = process
        process.deliveries += 1
        abouts = [self._world.checker.about(message.body) for message in taken]
        told = ", ".join(f"m{message.number} {about}" for message, about in zip(taken, abouts, strict=True))
        self._task(process, f"takes {told}", partial(self._handle, process, taken, abouts, self._world.server.losses))
        process.deliveries -= 1

    def _handle(self, process: Process, messages: list[Message], abouts: list[About | None], losses: int) -> None:
        world = self._world
        if "acks_early" in world.sabotage:
            for message, about in zip(messages, abouts, strict=True):
                world.checker.acked(message, about, store_lost=world.server.losses != losses)
        if "status_ignored" in world.sabotage:
            for message in messages:
                message.body = message.body.replace(b'"failed"', b'"success"')
        try:
            for place, verdict in process.intake.handle_all([message.delivery for message in messages]):
                self._settle(process, messages[place], abouts[place], verdict, losses)
        except PipelineError as exc:
            raise Violation("never crashes", f"intake raised {exc!r}") from exc

    def _settle(self, process: Process, message: Message, about: About | None, verdict: Verdict, losses: int) -> None:
        world = self._world
        world.boundary.alive(process)
        if verdict is not Verdict.ACK:
            world.bus.nack(message, world.now)
            return
        world.checker.acked(message, about, store_lost=world.server.losses != losses)
        world.bus.ack(message, world.now)

    def _renew(self, keeper: SteppedLeaseKeeper) -> None:
        keeper.due_at = self._world.now + timedelta(seconds=20)
        if not keeper.lost.is_set():
            self._task(keeper.process, "renews a lease", keeper.renew_once)

    def _relay(self, process: Process) -> None:
        process.relaying = True
        process.relay_at = self._world.now + SECOND * self._patience("store", "bus")
        self._task(process, "relays", lambda: process.relay.run_once() and None)
        process.relaying = False

    def _write_arrivals(self, process: Process) -> None:
        process.writing = True
        process.write_at = self._world.now + SECOND * (PAUSE_S + self._patience("store", "warehouse"))
        self._task(process, "writes arrivals", lambda: process.arrivals.run_once() and None)
        process.writing = False

    def _patience(self, *ports: str) -> float:
        """Look less often during an outage: the thousandth failing look teaches nothing. Its end wakes all loops."""
        return self._world.rng.uniform(5, 60) if self._world.boundary.away.intersection(ports) else 1.0

    def _sweep(self, process: Process) -> None:
        process.sweeping = True
        process.sweep_wanted = False
        process.sweep_at = self._world.now + SECOND * self._patience("store", "warehouse") * self._world.rng.uniform(
            0.5, 3
        )
        if "deaf_sweep" not in self._world.sabotage or self._world.rng.random() < 0.02:
            self._task(process, "sweeps", lambda: process.sweeper.run_once() and None)
        process.sweeping = False

    def _build(self, process: Process) -> None:
        process.builds += 1
        self._task(process, "builds", process.build_next)
        process.builds -= 1
