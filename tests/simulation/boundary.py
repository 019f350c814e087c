"""Every call of the product to the outside goes through here: the place where things break, or time stands still."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeVar

from tests.simulation.fibers import FIBERS, Fiber, Killed
from tests.simulation.plan import Intensity
from worker.errors import Fatal, Unavailable

if TYPE_CHECKING:
    from tests.simulation.process import Process

_T = TypeVar("_T")

# A call that hangs: mostly a moment, now and then longer than a lease.
HANGS_S = (0.01, 0.5, 2.0, 8.0, 25.0, 70.0, 200.0)
# How long a build's query takes where builds are slow.
SLOW_S = (5.0, 30.0, 55.0, 90.0, 400.0)


class Crash(BaseException):
    """The process dies here. No `except Exception` of the product may catch it."""


class Suspended:
    """A call that hangs, and until when; *by_reader*: it waits for somebody for whom nothing may wait."""

    def __init__(self, process: "Process", fiber: Fiber, until: datetime, *, by_reader: bool = False) -> None:
        self.process = process
        self.fiber = fiber
        self.until = until
        self.by_reader = by_reader


class Time(Protocol):
    now: datetime


class Boundary:
    """Decides at each call whether the process crashes, the call fails before or after its effect, or hangs."""

    def __init__(self, rng: Random, time: Time, intensity: Intensity) -> None:
        self._rng = rng
        self._time = time
        self.intensity = intensity
        self.injected: Counter[str] = Counter()
        self.away: set[str] = set()
        self.suspended: list[Suspended] = []
        self.deaths: Counter[str] = Counter()
        self.over = False
        self.trace: Callable[[str], None] | None = None

    def call(self, process: "Process", port: str, name: str, effect: Callable[[], _T]) -> _T:
        """Do *effect*, or not, or do it and lose the reply; a connection does not outlive the server's process."""
        deaths = self.deaths[port]
        self._before(process, port, name)
        self._still_connected(process, port, deaths, f"before {name}")
        result = effect()
        if self.trace is not None:
            self.trace(f"{process.name}: {port}.{name}")
        self._after(process, port, name)
        self._still_connected(process, port, deaths, f"after {name}")
        return result

    def _still_connected(self, process: "Process", port: str, deaths: int, where: str) -> None:
        if self.deaths[port] != deaths:
            self.note(process, "connection_lost", f"{port} {where}")
            raise Unavailable(f"{port} died {where}")

    def _before(self, process: "Process", port: str, name: str) -> None:
        self.alive(process)
        chances = self.intensity
        draw = self._rng.random()
        if draw < chances.crash and not process.sheltered:
            self._crash(process, f"before {port}.{name}")
        draw -= chances.crash
        if 0 <= draw < chances.preempt and not process.sheltered:
            self.hang(process, self._rng.choice(HANGS_S), f"before {port}.{name}")
        draw -= chances.preempt
        if port in self.away:
            self.note(process, f"{port}_away", f"{port}.{name}")
            raise Unavailable(f"{port} is away")
        if 0 <= draw < chances.unavailable_before:
            self.note(process, "unavailable_before", f"{port}.{name}")
            raise Unavailable(f"{port}.{name} not done")
        draw -= chances.unavailable_before
        if port == "warehouse" and 0 <= draw < chances.fatal:
            self.note(process, "fatal", f"{port}.{name}")
            raise Fatal(f"{port}.{name} is denied")

    def _after(self, process: "Process", port: str, name: str) -> None:
        self.alive(process)
        chances = self.intensity
        draw = self._rng.random()
        if draw < chances.crash and not process.sheltered:
            self._crash(process, f"after {port}.{name}")
        draw -= chances.crash
        if 0 <= draw < chances.preempt and not process.sheltered:
            self.hang(process, self._rng.choice(HANGS_S), f"after {port}.{name}")
        draw -= chances.preempt
        if 0 <= draw < chances.unavailable_after:
            self.note(process, "unavailable_after", f"{port}.{name}")
            raise Unavailable(f"{port}.{name} done, reply lost")

    def hang(self, process: "Process", seconds: float, where: str) -> None:
        """Stand still; other calls, also of the same process, go on meanwhile."""
        if process.sheltered:
            return
        self.note(process, "hang", f"{seconds} s {where}")
        me = Suspended(process, FIBERS.current, self._time.now + timedelta(seconds=seconds))
        self.suspended.append(me)
        FIBERS.suspend()
        self.alive(process)

    def alive(self, process: "Process") -> None:
        if self.over or process.dead:
            raise Killed

    def note(self, process: "Process", kind: str, where: str) -> None:
        self.injected[kind] += 1
        process.disturbed_at = self._time.now
        if self.trace is not None:
            self.trace(f"{process.name}: FAULT {kind} {where}")

    def _crash(self, process: "Process", where: str) -> None:
        self.note(process, "crash", where)
        process.dead = True
        raise Crash(where)
