"""The reader of a worker's log: now and then it stands still, and nothing may wait for it."""

from datetime import datetime
from typing import TYPE_CHECKING

from tests.simulation.boundary import Suspended
from tests.simulation.fibers import FIBERS
from worker.observing.observer import BuildEnded, BuildStep, Decided, MessageParked, Notice, OutcomeRelayed

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World


class LogReader:
    """Takes the lines of all processes; while it stalls, lines are dropped and counted."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.stalled_until: datetime | None = None
        self.lines = 0
        self.dropped = 0

    @property
    def stalls(self) -> bool:
        return self.stalled_until is not None and self._world.now < self.stalled_until

    def stall(self, until: datetime) -> None:
        self.stalled_until = max(until, self.stalled_until or until)

    def write(self, process: "Process") -> None:
        """Take one line, or drop it. A sink that waits instead is what the judge must notice."""
        if not self.stalls:
            self.lines += 1
            return
        self.dropped += 1
        if "log_blocks" in self._world.sabotage and not process.sheltered:
            assert self.stalled_until is not None
            boundary = self._world.boundary
            boundary.suspended.append(Suspended(process, FIBERS.current, self.stalled_until, by_reader=True))
            FIBERS.suspend()
            boundary.alive(process)


class LoggingObserver:
    """Writes a line wherever the product's own observer does."""

    def __init__(self, reader: LogReader, process: "Process") -> None:
        self._reader = reader
        self._process = process

    def note(self, notice: Notice) -> None:
        news = isinstance(notice, Decided) and notice.decision.changed and not notice.routine
        news = news or (isinstance(notice, OutcomeRelayed) and notice.confirmed)
        if news or isinstance(notice, MessageParked | BuildEnded | BuildStep):
            self._reader.write(self._process)
