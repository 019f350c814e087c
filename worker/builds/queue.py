"""Queue of analysis dates for the builds of a process, and the two drivers for the queued analysis dates.

`BackgroundBuilds` builds on threads that live as long as the process: `mlfs run`, and `mlfs serve` with loops.
`RequestBuilds` builds on threads that end with the request or the tick: for a service whose processor is taken away
between requests. Both drivers take the newest analysis date first, so a replayed range does not delay tonight.

An analysis date is queued or built at most once in a process. A crash loses the queue; the next sweep reads the same
analysis dates from the wake index. A crash during a build leaves the lease, and the expired lease leads to the next
attempt.
"""

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import structlog

from statemachine.decide import Decision
from worker.errors import PipelineError

log = structlog.get_logger(__name__)

# Sorts before every analysis date.
_STOP_FIRST = -(10**9)


class BuildQueue:
    """Analysis dates for the build threads of a process, the newest first; any thread may use the queue."""

    def __init__(self) -> None:
        self._dates: queue.PriorityQueue[tuple[int, date | None]] = queue.PriorityQueue()
        self._known: set[date] = set()
        self._lock = threading.Lock()

    def put(self, analysis_date: date) -> None:
        """Queue an analysis date, unless the analysis date is queued or in a build already."""
        with self._lock:
            if analysis_date in self._known:
                return
            self._known.add(analysis_date)
        self._dates.put((-analysis_date.toordinal(), analysis_date))

    def get(self) -> date | None:
        """Wait for the next analysis date; return None for a thread that must stop."""
        return self._dates.get()[1]

    def get_now(self) -> date | None:
        """Return the next analysis date; None if the queue is empty."""
        try:
            return self._dates.get_nowait()[1]
        except queue.Empty:
            return None

    def __len__(self) -> int:
        return self._dates.qsize()

    def finished(self, analysis_date: date) -> None:
        """Accept the analysis date again: the build has ended."""
        with self._lock:
            self._known.discard(analysis_date)

    def stop(self, threads: int) -> None:
        """Stop *threads* waiting threads before the threads take a further analysis date."""
        for _ in range(threads):
            self._dates.put((_STOP_FIRST, None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """End of a build."""

    analysis_date: date
    state: str
    generation: int
    reason: str


@dataclass
class Builds(ABC):
    """Driver of the build queue.

    Attributes:
        queue: Queue of analysis dates.
        build: Builds an analysis date; returns the decision on the end of the build, None without a claim.
        failed: Called with the exception of a build that reported no end.
    """

    queue: BuildQueue
    build: Callable[[date], Decision | None]
    failed: Callable[[Exception], None]

    def put(self, analysis_date: date) -> None:
        """Queue an analysis date for a build."""
        self.queue.put(analysis_date)

    @abstractmethod
    def advance(self, until: float) -> list[Built]:
        """Build queued analysis dates on threads of the caller, if any; return the builds that ended by *until*."""

    def _run(self, day: date) -> Decision | None:
        """Build an analysis date taken from the queue.

        A failed build ends no thread: the thread builds the other analysis dates, and the expired lease leads to the
        next attempt of this analysis date.
        """
        try:
            return self.build(day)
        except PipelineError as exc:
            log.warning("build_not_reported", analysis_date=day, kind=type(exc).__name__, error=str(exc))
            self.failed(exc)
        except Exception as exc:
            log.exception("build_failed_unexpectedly", analysis_date=day)
            self.failed(exc)
        finally:
            self.queue.finished(day)
        return None


class BackgroundBuilds(Builds):
    """Driver on threads that live as long as the process; each thread repeats `build_next`."""

    def advance(self, until: float) -> list[Built]:  # noqa: ARG002 - the driver's shape
        """Return no build: the build threads build without the caller."""
        return []

    def build_next(self) -> bool:
        """Wait for an analysis date and build the analysis date; return False if the thread must stop."""
        day = self.queue.get()
        if day is not None:
            self._run(day)
        return day is not None


@dataclass
class RequestBuilds(Builds):
    """Driver on threads that end with the call of `advance`; at most `threads` run, for all callers together."""

    threads: int
    stopwatch: Callable[[], float]
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _active: int = field(default=0, init=False)

    def advance(self, until: float) -> list[Built]:
        """Build until the queue is empty or the time is up; a running build goes on under the lease."""
        ended: list[Built] = []
        workers: list[threading.Thread] = []
        with self._lock:
            while self._active < self.threads and len(workers) < len(self.queue):
                self._active += 1
                workers.append(threading.Thread(target=self._work, args=(until, ended), name="build", daemon=True))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(max(0.0, until - self.stopwatch()))
        return list(ended)

    def _work(self, until: float, ended: list[Built]) -> None:
        while (day := self._take(until)) is not None:
            decision = self._run(day)
            if decision is not None:
                ended.append(_built(decision))

    def _take(self, until: float) -> date | None:
        """Return the next analysis date; None ends the thread.

        The same lock covers the queue and the count: between the empty queue and the end of the thread no `advance`
        counts the thread.
        """
        with self._lock:
            day = self.queue.get_now() if self.stopwatch() < until else None
            if day is None:
                self._active -= 1
            return day


def _built(decision: Decision) -> Built:
    record = decision.record
    return Built(
        analysis_date=record.analysis_date,
        state=record.state.value,
        generation=record.generation,
        reason=decision.reason.value,
    )
