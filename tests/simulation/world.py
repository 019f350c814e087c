"""The world of one seed: time, the outside, the processes, and the scheduler that picks what happens next."""

import json
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from random import Random

from tests.simulation.boundary import Boundary, Crash, Suspended
from tests.simulation.bus import Bus, Message
from tests.simulation.checker import Checker, Violation
from tests.simulation.disasters import Disasters
from tests.simulation.ending import check_end
from tests.simulation.fibers import FIBERS, Killed
from tests.simulation.plan import PROCESSORS, SECOND, Happening, Intensity, Mode, Schedule
from tests.simulation.process import Process, SteppedLeaseKeeper
from tests.simulation.store import Server
from tests.simulation.warehouse import Tables
from worker.errors import PipelineError
from worker.intake import Verdict

# Far above what a schedule needs; a run that gets here goes round in circles.
STEPS_MAX = 6000
# The longest a loop of a healthy worker leaves something that is due.
TICK_MAX_S = 3.0
# DESIGN section 6. The grace of a fresh start, a tick and a claim fit into it beside five seconds of skew.
DEADLINE_BOUND = timedelta(seconds=40)
# Two deliveries at once per process: enough for every race between them.
DELIVERIES_MAX = 2
AFTER_HEAL = timedelta(hours=3)

Action = Callable[[], None]


@dataclass(slots=True)
class Report:
    """What one run did."""

    seed: int
    mode: Mode
    steps: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    commits: int = 0
    finals: dict[date, tuple[str, ...]] = field(default_factory=dict)


class World:
    """Everything of one run."""

    def __init__(
        self,
        schedule: Schedule,
        sabotage: frozenset[str] = frozenset(),
        trace: Callable[[str], None] | None = None,
        explore: frozenset[str] = frozenset(),
    ) -> None:
        self.schedule = schedule
        self.sabotage = sabotage
        self.explore = explore
        self.rng = Random(schedule.seed * 2654435761 % 2**32)
        self.now = schedule.first_start
        self.checker = Checker(schedule)
        self.boundary = Boundary(self.rng, self, schedule.intensity)
        self.bus = Bus(self.rng, schedule.intensity, self.checker)
        self.server = Server(self.checker, sabotage)
        self.tables = Tables(schedule.nights, self.checker, sabotage)
        self.happenings = list(reversed(schedule.happenings))
        self.processes: list[Process] = []
        self.started = 0
        self.starts_at: list[datetime] = [schedule.first_start] * schedule.workers
        self.over = False
        self.healed = schedule.calm
        self.steps = 0
        self.handoff = False
        self.recover_needed = False
        self.jumped = False
        self._trace = trace
        if trace is not None:
            self.boundary.trace = self.say
        self.operator = Process(self, "operator", timedelta())
        self.operator.sheltered = True
        self.disasters = Disasters(self)

    def say(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.steps:4d} {self.now:%d %H:%M:%S.%f}"[:-3] + f" {text}")

    def run(self) -> Report:
        """Play the schedule to its end.

        Raises:
            Violation: An invariant is broken.
        """
        FIBERS.run(self._loop)
        report = Report(seed=self.schedule.seed, mode=self.schedule.mode, steps=self.steps)
        report.injected = self.boundary.injected
        report.commits = len(self.checker.commits)
        report.states = Counter(str(record.state) for record in self.checker.records.values())
        report.finals = {
            day: (str(record.state), str(record.generation), *sorted(record.counted))
            for day, record in sorted(self.checker.records.items())
        }
        return report

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        """Step until the run is over, or until another fiber has to go on."""
        try:
            while not self.over and not self.handoff:
                self.step()
        except BaseException:
            self._finish()
            raise
        self.handoff = False

    def _finish(self) -> None:
        self.over = self.boundary.over = True

    def step(self) -> None:
        """Let one thing happen, or let time pass."""
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Violation("everything bounded", f"{STEPS_MAX} steps and no end")
        self._happen()
        actions = self._actions()
        overdue = self._overdue()
        if overdue is not None:
            overdue()
        elif actions and self.rng.random() < 0.85:
            self.rng.choice(actions)()
        elif actions:
            self._pass_time(self.now + SECOND * self.rng.random())
        else:
            self._pass_time(self._next_instant())
        self._check()

    def _check(self) -> None:
        if self.checker.owed:
            self.checker.outbox({entry.message.event_id for entry in self.server.memory._outbox.values()})
        healthy = [process.disturbed_at for process in self.processes if self._is_healthy(process)]
        self.checker.deadlines(self.now, min(healthy, default=None), DEADLINE_BOUND)

    def _is_healthy(self, process: Process) -> bool:
        if not process.awake or self.boundary.away & {"store", "warehouse"}:
            return False
        return not any(one.process is process for one in self.boundary.suspended)

    def _happen(self) -> None:
        """Do what the schedule says is due."""
        while self.happenings and self.happenings[-1].at <= self.now:
            self._do(self.happenings.pop())
        if self.schedule.mode is Mode.LIVENESS and not self.healed and self.now >= self.schedule.heal_at:
            self.healed = True
            self.disasters.heal()
        self.disasters.pass_away()
        due = [moment for moment in self.starts_at if moment <= self.now]
        for moment in due:
            self.starts_at.remove(moment)
            self._start_worker()

    def _do(self, happening: Happening) -> None:
        self.say(f"--- {happening.kind} {happening.night or ''} {happening.processor}")
        match happening.kind:
            case "rows":
                assert happening.night is not None
                self.tables.fill(happening.night, happening.processor)
            case "event" | "poison":
                about = self._about(happening.body)
                if about is not None:
                    self.checker.sent.add(about)
                self.bus.send(happening.body, self.now)
            case "midnight":
                self.want_sweeps()
            case "replay" | "take_over" | "cancel" | "recover":
                self.disasters.intervene(happening)
            case _ if not self.healed:
                self.disasters.strike(happening)

    def _about(self, body: bytes) -> tuple[date, str, str] | None:
        """What a message reports, read without the product."""
        try:
            said = json.loads(body)
            day = date.fromisoformat(said["analysis_date"])
        except (ValueError, TypeError, KeyError):
            return None
        true = (
            said["processor"] in PROCESSORS and said["status"] in {"success", "failed"} and day in self.schedule.nights
        )
        return (day, said["processor"], said["status"]) if true else None

    def _start_worker(self) -> None:
        self.started += 1
        skew = timedelta(seconds=self.rng.uniform(-5, 5)) if self.schedule.skews else timedelta()
        self.processes.append(Process(self, f"w{self.started}", skew))
        self.say(f"--- w{self.started} starts, its clock is off by {skew.total_seconds():+.1f} s")

    def want_sweeps(self) -> None:
        for process in self.processes:
            process.sweep_at = self.now

    # --- what can happen next ----------------------------------------------------------------------------------------

    def _actions(self) -> list[Action]:
        actions: list[Action] = []
        for one in self.boundary.suspended:
            if one.process.dead or (one.until <= self.now and one.process.frozen_until is None):
                actions.append(partial(self._resume, one))
        messages = self.bus.available(self.now)
        for process in self.processes:
            if process.awake:
                actions += self._actions_of(process, messages)
        return actions

    def _actions_of(self, process: Process, messages: list[Message]) -> list[Action]:
        actions: list[Action] = [
            partial(self._renew, keeper) for keeper in process.keepers if keeper.due_at <= self.now
        ]
        if messages and process.deliveries < DELIVERIES_MAX:
            actions.append(partial(self._deliver, process, messages))
        if not process.relaying and process.relay_at <= self.now and self.server.waiting_messages:
            actions.append(partial(self._relay, process))
        if self._sweep_due(process):
            actions.append(partial(self._sweep, process))
        if process.builds < self.schedule.build_threads and process.has_queued:
            actions.append(partial(self._build, process))
        return actions

    def _sweep_due(self, process: Process) -> bool:
        if process.sweeping or process.sweep_at > self.now:
            return False
        wake = min(self.server.wakes.values(), default=None)
        wanted = process.sweep_at > self.now - SECOND or self.server.memory._last_opened is None
        return wanted or (wake is not None and wake <= process.clock.now())

    def _overdue(self) -> Action | None:
        """A healthy worker's loop never leaves a sweep or a renewal for longer than its tick."""
        for process in self.processes:
            if not process.awake:
                continue
            for keeper in process.keepers:
                if (self.now - keeper.due_at).total_seconds() > TICK_MAX_S:
                    return partial(self._renew, keeper)
            if (self.now - process.sweep_at).total_seconds() > TICK_MAX_S and self._sweep_due(process):
                return partial(self._sweep, process)
        return None

    def _next_instant(self) -> datetime:
        """When something becomes possible again; the end of the run where nothing ever does."""
        instants = [*self.starts_at, *self.disasters.instants()]
        if self.happenings:
            instants.append(self.happenings[-1].at)
        if self.schedule.mode is Mode.LIVENESS and not self.healed:
            instants.append(self.schedule.heal_at)
        instants += [max(one.until, one.process.frozen_until or one.until) for one in self.boundary.suspended]
        if (available := self.bus.next_at()) is not None:
            instants.append(available)
        wake = min(self.server.wakes.values(), default=None)
        for process in self.processes:
            if process.awake:
                instants += [keeper.due_at for keeper in process.keepers]
                if wake is not None:
                    instants.append(max(wake - process.clock.skew, process.sweep_at))
                if self.server.waiting_messages:
                    instants.append(process.relay_at)
        ahead = [instant for instant in instants if instant > self.now]
        return min(ahead, default=self.schedule.end_at + AFTER_HEAL)

    def _pass_time(self, until: datetime) -> None:
        limit = self.schedule.end_at
        if self.schedule.mode is Mode.LIVENESS:
            limit = max(limit, self.schedule.heal_at + AFTER_HEAL)
        if until >= limit:
            self._end()
            return
        self.now = max(self.now, until)

    def _end(self) -> None:
        self._finish()
        self.say("--- the end")
        if self.schedule.mode is Mode.LIVENESS:
            check_end(self)

    # --- the actions -------------------------------------------------------------------------------------------------

    def _task(self, process: Process, what: str, act: Action) -> None:
        """Run a pass of the product as one of its threads would."""
        self.say(f"{process.name}: {what}")
        try:
            act()
        except (Crash, Killed):
            if not self.over:
                self.disasters.bury(process)
        except PipelineError as exc:
            self.say(f"{process.name}: {what} ended by {type(exc).__name__}: {exc}")
        except Exception as exc:
            text = "".join(traceback.format_exception(exc))
            raise Violation("never crashes", f"{process.name}: {what} raised {text}") from exc

    def _resume(self, one: Suspended) -> None:
        self.boundary.suspended.remove(one)
        one.process.disturbed_at = self.now
        self.say(f"{one.process.name}: goes on")
        self.handoff = True
        FIBERS.resume_when_loop_returns(one.fiber, killed=one.process.dead)

    def _deliver(self, process: Process, messages: list[Message]) -> None:
        message = self.rng.choice(messages)
        message.holder = process
        process.deliveries += 1
        about = self._about(message.body)
        losses = self.server.losses
        self._task(process, f"takes m{message.number} {about}", partial(self._handle, process, message, about, losses))
        process.deliveries -= 1

    def _handle(self, process: Process, message: Message, about: tuple[date, str, str] | None, losses: int) -> None:
        if "acks_early" in self.sabotage:
            self.checker.acked(message, about, store_lost=self.server.losses != losses)
        delivery = message.delivery
        if "status_ignored" in self.sabotage:
            message.body = message.body.replace(b'"failed"', b'"success"')
            delivery = message.delivery
        try:
            verdict = process.intake.handle(delivery)
        except PipelineError as exc:
            raise Violation("never crashes", f"intake raised {exc!r}") from exc
        self.boundary.alive(process)
        if verdict is Verdict.RETRY:
            self.bus.nack(message, self.now)
            return
        self.checker.acked(message, about, store_lost=self.server.losses != losses)
        self.bus.ack(message, self.now)

    def _renew(self, keeper: SteppedLeaseKeeper) -> None:
        keeper.due_at = self.now + timedelta(seconds=20)
        if not keeper.lost.is_set():
            self._task(keeper.process, "renews a lease", keeper.renew_once)

    def _relay(self, process: Process) -> None:
        process.relaying = True
        process.relay_at = self.now + SECOND * self._patience("store", "bus")
        self._task(process, "relays", lambda: process.relay.run_once() and None)
        process.relaying = False

    def _patience(self, *ports: str) -> float:
        """Look less often during an outage: the thousandth failing look teaches nothing. Its end wakes all loops."""
        return self.rng.uniform(5, 60) if self.boundary.away.intersection(ports) else 1.0

    def _sweep(self, process: Process) -> None:
        process.sweeping = True
        process.sweep_at = self.now + SECOND * self._patience("store", "warehouse") * self.rng.uniform(0.5, 3)
        if "deaf_sweep" not in self.sabotage or self.rng.random() < 0.02:
            self._task(process, "sweeps", lambda: process.sweeper.run_once() and None)
        process.sweeping = False

    def _build(self, process: Process) -> None:
        process.builds += 1
        self._task(process, "builds", process.build_next)
        process.builds -= 1


def calm_intensity() -> Intensity:
    return Intensity()
