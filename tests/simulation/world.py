"""The world of one seed: time, the outside, the processes, and the scheduler that picks what happens next."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from random import Random

from tests.simulation.boundary import Boundary
from tests.simulation.bus import Bus
from tests.simulation.checker import Checker, Violation
from tests.simulation.disasters import Disasters
from tests.simulation.doubts import CLAIMED
from tests.simulation.ending import check_end
from tests.simulation.fibers import FIBERS
from tests.simulation.people import People
from tests.simulation.plan import SECOND, Happening, Mode, Schedule
from tests.simulation.process import Process
from tests.simulation.reader import LogReader
from tests.simulation.store import Server
from tests.simulation.tasks import Tasks
from tests.simulation.warehouse import Tables

# Far above what a schedule needs; a run that gets here goes round in circles.
STEPS_MAX = 6000
AFTER_HEAL = timedelta(hours=3)
CRASH_BY_DAY = 0.003


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
    ) -> None:
        self.schedule = schedule
        self.sabotage = sabotage
        self.rng = Random(schedule.seed * 2654435761 % 2**32)  # noqa: S311 - repeatable, not secret
        self.now = schedule.first_start
        self.checker = Checker(schedule)
        self.boundary = Boundary(self.rng, self, schedule.intensity)
        self.bus = Bus(self.rng, schedule.intensity, self.checker)
        self.server = Server(self.checker, sabotage)
        self.tables = Tables(schedule.nights, self.checker, sabotage)
        self.reader = LogReader(self)
        self.happenings = list(reversed(schedule.happenings))
        self.processes: list[Process] = []
        self.started = 0
        self.starts_at: list[datetime] = [schedule.first_start] * schedule.workers
        self.over = False
        self.healed = schedule.calm
        self.steps = 0
        self.handoff = False
        self.jumped = False
        self._trace = trace
        if trace is not None:
            self.boundary.trace = self.say
        self.operator = Process(self, "operator", timedelta())
        self.operator.sheltered = True
        self.people = People(self)
        self.disasters = Disasters(self)
        self.tasks = Tasks(self)

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
        actions = self.tasks.possible()
        overdue = self.tasks.overdue()
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
        due = self.checker.due
        healthy = [process.disturbed_at for process in self.processes if self._is_healthy(process)]
        if not healthy:
            return
        stalls = self.reader.stalls
        for day in due.late(min(healthy), self.now):
            rule = "a slow reader stops nothing" if stalls else "deadline fires in time"
            record = self.checker.records[day]
            self.checker.demand(False, rule, f"{day} is {record.state} at {self.now}, due at {record.wake_at}")
        if self.jumped:
            return  # a worker two hours ahead closes an upgrade window early
        for day, name in due.overlooked(self.checker.records, self.tables.filled_at, min(healthy), self.now):
            self.checker.demand(False, "late rows are found in time", f"{day}: {name} has rows at {self.now}")

    def _is_healthy(self, process: Process) -> bool:
        if not process.awake or self.boundary.away & {"store", "warehouse"}:
            return False
        return not any(one.process is process and not one.by_reader for one in self.boundary.suspended)

    def _happen(self) -> None:
        """Do what the schedule says is due."""
        while self.happenings and self.happenings[-1].at <= self.now:
            self.do(self.happenings.pop())
        if self.schedule.mode is Mode.LIVENESS and not self.healed and self.now >= self.schedule.heal_at:
            self.healed = True
            self.disasters.heal()
        self.disasters.pass_away()
        due = [moment for moment in self.starts_at if moment <= self.now]
        for moment in due:
            self.starts_at.remove(moment)
            self._start_worker()

    def do(self, happening: Happening) -> None:
        """Let the outside do one thing now."""
        self.say(f"--- {happening.kind} {happening.night or ''} {happening.processor}")
        match happening.kind:
            case "rows":
                assert happening.night is not None
                self.tables.fill(happening.night, happening.processor, self.now, happening.count or CLAIMED)
            case "event" | "poison" | "raising":
                about = self.checker.about(happening.body)
                if about is not None:
                    self.checker.sent.add(about)
                self.boundary.injected[happening.kind] += happening.kind != "event"
                self.bus.send(happening.body, self.now)
            case "midnight":
                self.want_sweeps()
                # A day of the worst crashes would let no worker live through its grace, and teach nothing new.
                self.boundary.intensity.crash = min(self.boundary.intensity.crash, CRASH_BY_DAY)
            case "replay" | "take_over" | "cancel" | "retract" | "early_replay" | "by_hand":
                self.people.intervene(happening)
            case _ if not self.healed:
                self.disasters.strike(happening)

    def _start_worker(self) -> None:
        self.started += 1
        skew = timedelta(seconds=self.rng.uniform(-5, 5)) if self.schedule.skews else timedelta()
        self.processes.append(Process(self, f"w{self.started}", skew))
        self.say(f"--- w{self.started} starts, its clock is off by {skew.total_seconds():+.1f} s")

    def want_sweeps(self) -> None:
        for process in self.processes:
            process.want_sweep()

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
                if self.server.arrivals_due:
                    instants.append(process.write_at)
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
        self.checker.rows_kept(self.tables.staged)
        self.boundary.injected["half_published"] += self.tables.half_published
        if self.schedule.mode is Mode.LIVENESS:
            check_end(self)
