"""The dates that wait for a build thread of this process.

Builds that run only while a request waits for them: for a service whose processor is taken away between requests.

Dates that became ready are remembered here as a hint; the wake index remembers them for good, so a process that ends
loses nothing.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import structlog

from statemachine.decide import Decision
from worker.errors import PipelineError

# Sorts before every date.
_STOP_FIRST = -(10**9)


class BuildQueue:
    """Dates waiting for a build thread, each at most once, the newest first: a backfill does not keep tonight waiting.

    A hint only: the wake index remembers what is due.
    """

    def __init__(self) -> None:
        self._dates: queue.PriorityQueue[tuple[int, date | None]] = queue.PriorityQueue()
        self._known: set[date] = set()
        self._lock = threading.Lock()

    def put(self, analysis_date: date) -> None:
        """Add a date; one that waits or is being built already is not added twice."""
        with self._lock:
            if analysis_date in self._known:
                return
            self._known.add(analysis_date)
        self._dates.put((-analysis_date.toordinal(), analysis_date))

    def get(self) -> date | None:
        """Wait for the next date; None means stop."""
        return self._dates.get()[1]

    def finished(self, analysis_date: date) -> None:
        """Let the date be added again."""
        with self._lock:
            self._known.discard(analysis_date)

    def stop(self, threads: int) -> None:
        """Tell that many waiting threads to stop."""
        for _ in range(threads):
            self._dates.put((_STOP_FIRST, None))


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """How one build ended."""

    analysis_date: date
    state: str
    generation: int
    reason: str


class Builds(Protocol):
    """Where dates that are ready go."""

    def put(self, analysis_date: date) -> None:
        """Remember a date that can be built; twice is once."""

    def advance(self, until: float) -> list[Built]:
        """Build what waits, where that is the caller's to do; give what ended by *until* on the stopwatch."""


class RequestBuilds:
    """Builds on threads that live no longer than the work: at most *threads* at once, whoever waits for them."""

    def __init__(
        self,
        *,
        build: Callable[[date], Decision | None],
        threads: int,
        stopwatch: Callable[[], float],
        failed: Callable[[Exception], None],
    ) -> None:
        self._build = build
        self._threads = threads
        self._stopwatch = stopwatch
        self._failed = failed
        self._lock = threading.Lock()
        self._waiting: dict[date, None] = {}
        self._active = 0

    def put(self, analysis_date: date) -> None:
        """Remember a date."""
        with self._lock:
            self._waiting[analysis_date] = None

    def advance(self, until: float) -> list[Built]:
        """Build until nothing waits or the time is up; a build that runs then goes on, and its lease protects it."""
        ended: list[Built] = []
        workers: list[threading.Thread] = []
        with self._lock:
            while self._active < self._threads and len(workers) < len(self._waiting):
                self._active += 1
                workers.append(threading.Thread(target=self._work, args=(until, ended), name="build", daemon=True))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(max(0.0, until - self._stopwatch()))
        return list(ended)

    def _work(self, until: float, ended: list[Built]) -> None:
        while (day := self._take(until)) is not None:
            try:
                decision = self._build(day)
            except PipelineError as exc:
                log.warning("build_not_reported", analysis_date=day, kind=type(exc).__name__, error=str(exc))
                self._failed(exc)
            except Exception as exc:
                log.exception("build_failed_unexpectedly", analysis_date=day)
                self._failed(exc)
            else:
                if decision is not None:
                    ended.append(_built(decision))

    def _take(self, until: float) -> date | None:
        """Take the next date, or leave: then the thread no longer counts."""
        with self._lock:
            if self._waiting and self._stopwatch() < until:
                day = next(iter(self._waiting))
                del self._waiting[day]
                return day
            self._active -= 1
            return None


def _built(decision: Decision) -> Built:
    record = decision.record
    return Built(
        analysis_date=record.analysis_date,
        state=record.state.value,
        generation=record.generation,
        reason=decision.reason.value,
    )


class BackgroundBuilds:
    """Builds that threads of their own take on: a waiting request has nothing to do but to look."""

    def __init__(self, put: Callable[[date], None]) -> None:
        self._put = put

    def put(self, analysis_date: date) -> None:
        """Queue a date."""
        self._put(analysis_date)

    def advance(self, until: float) -> list[Built]:  # noqa: ARG002 - the protocol's shape
        """Leave it to the threads."""
        return []
