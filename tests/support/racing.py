"""What each of two worker processes does in a race; `multiprocessing` runs it, so everything here can be pickled.

A racer meets its opponent at a barrier before each date, so that both act on it at the same instant. A race in which
nobody ever collided proves nothing, so each racer also tells how often it had to decide again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from multiprocessing.synchronize import Barrier

from statemachine.events import BuildClaimed, ReplayRequested
from statemachine.reasons import Reason
from tests.support.nights import CACHE, CALENDAR, success, without
from tests.support.rigs import ModelClock, Rig, repair_of
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.errors import PipelineError
from worker.observing.observer import Decided, Notice
from worker.sweep import Sweep, Sweeper

# The opponent may be off its processor for a while; one that is this late has died.
MEETING_TIMEOUT_S = 30.0
_meeting: list[Barrier] = []


def remember(barrier: Barrier) -> None:
    """Keep the barrier of both processes; a barrier can only be handed to a process that starts."""
    _meeting[:] = [barrier]


def meet() -> None:
    """Wait for the opponent."""
    _meeting[0].wait(MEETING_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Lane:
    """Where one racer runs: which store, under which name, over which dates."""

    url: str
    pipeline: str
    worker: str
    nights: Sequence[date]


@dataclass(slots=True)
class Ran:
    """What one racer did: what it stored, what it was told to build, and how often it had to decide again."""

    stored: list[tuple[date, int, Reason]] = field(default_factory=list)
    started: list[date] = field(default_factory=list)
    conflicts: int = 0
    swept: Sweep | None = None

    def note(self, notice: Notice) -> None:
        if not isinstance(notice, Decided):
            return
        self.conflicts += notice.conflicts
        if notice.decision.changed:
            record = notice.decision.record
            self.stored.append((record.analysis_date, record.generation, notice.decision.reason))

    def of(self, reason: Reason) -> list[tuple[date, int]]:
        """The dates and generations of what was stored for this reason."""
        return [(night, generation) for night, generation, why in self.stored if why is reason]


class Racer:
    """The shell of one worker over a client of its own, on the evening of the first night."""

    def __init__(self, lane: Lane) -> None:
        self.ran = Ran()
        self.client = connect(lane.url)
        self.clock = ModelClock()
        self.rig = Rig(
            store=RedisStore(self.client, lane.pipeline),
            clock=self.clock,
            worker=lane.worker,
            notes=self.ran,
            started=self.ran.started,
        )
        self.apply = self.rig.engine.apply

    def finish(self) -> Ran:
        self.client.close()
        return self.ran


def prepare(lane: Lane, *processors: str) -> Ran:
    """Let *processors* report success for each date, without an opponent."""
    racer = Racer(lane)
    for night in lane.nights:
        for processor in processors:
            racer.apply(night, success(processor))
    return racer.finish()


def report(lane: Lane, processor: str) -> Ran:
    """Bring the report of one processor for each date, at the instant at which the opponent acts on it."""
    racer = Racer(lane)
    racer.clock.instant = last_deadline(lane)
    for night in lane.nights:
        meet()
        racer.apply(night, success(processor))
    return racer.finish()


def sweep(lane: Lane) -> Ran:
    """Fire every deadline in one sweep; it looks into the tables of each date, and there it meets the opponent."""
    racer = Racer(lane)
    store, failed = racer.rig.store, []
    store.set_last_opened(lane.nights[-1])

    def probe(_night: date) -> dict[str, int]:
        meet()
        return without(CACHE)

    def date_failed(_night: date, error: PipelineError) -> None:
        failed.append(error)

    sweeper = Sweeper(
        engine=racer.rig.engine,
        store=store,
        calendar=CALENDAR,
        clock=racer.clock,
        repair=repair_of(racer.rig),
        probe=probe,
        date_failed=date_failed,
    )
    racer.clock.instant = last_deadline(lane)
    racer.ran.swept = sweeper.run_once()
    return racer.finish()


def last_deadline(lane: Lane) -> datetime:
    """An instant at which every date of the lane is due."""
    return CALENDAR.at(lane.nights[-1], CALENDAR.deadline)


def claim(lane: Lane, generations: int) -> Ran:
    """Claim each date at the instant at which the opponent does; the winner has it replayed for the next round."""
    racer = Racer(lane)
    for generation in range(1, generations + 1):
        for night in lane.nights:
            meet()
            won = racer.apply(night, BuildClaimed(worker=lane.worker)).reason is Reason.CLAIMED
            meet()
            if won and generation < generations:
                racer.apply(night, ReplayRequested(actor=lane.worker, reason="next round", take_over=True))
    return racer.finish()
