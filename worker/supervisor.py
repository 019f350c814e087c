"""Threads of one worker: loops and build threads, started one by one and stopped together.

A loop repeats a pass and waits between two passes. A failed pass is logged and counted, and the loop goes on: the state
store may be away for minutes. The threads are daemons without state of their own, so a crash ends the threads at any
step, and the next start repeats the pass.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from worker.errors import PipelineError

log = structlog.get_logger(__name__)

# So many failed passes in a row make `/readyz` fail; a single failed pass needs no attention.
FAILURES_MAX = 3

# Seconds after a failed pass: short enough for a quick recovery, long enough to keep the log short.
PAUSE_AFTER_FAILURE_S = 1.0
# Seconds for all threads together. A running build takes longer and is left to the lease.
JOIN_TIMEOUT_S = 1.5


class Passes:
    """Number of failed passes in a row for each loop; any thread may note a pass."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, str]] = {}

    def note(self, loop: str, error: Exception | None) -> None:
        """Note a pass; a pass without *error* ends the row of failures."""
        with self._lock:
            times, _last = self._failures.pop(loop, (0, ""))
            if error is not None:
                self._failures[loop] = (times + 1, f"{type(error).__name__}: {error}")

    def faults(self) -> list[str]:
        """Return the loops with at least `FAILURES_MAX` failed passes in a row, each with the latest error."""
        with self._lock:
            failing = sorted(self._failures.items())
        return [
            f"{loop} failed {times} times in a row, last with {error}"
            for loop, (times, error) in failing
            if times >= FAILURES_MAX
        ]


@dataclass(slots=True)
class Loop:
    """Repeated pass.

    Attributes:
        name: Name of the thread, also in log and metric.
        run_once: The pass; returns the seconds until the next pass.
        wake: Set to run the next pass at once.
    """

    name: str
    run_once: Callable[[], float]
    wake: threading.Event = field(default_factory=threading.Event)


class Supervisor:
    """Threads of one worker."""

    def __init__(self, loop_failed: Callable[[str, Exception], None], passes: Passes) -> None:
        self._loop_failed = loop_failed
        self._passes = passes
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._loops: list[Loop] = []

    @property
    def stopping(self) -> bool:
        """True after `stop` was called."""
        return self._stopping.is_set()

    def run_loop(self, loop: Loop) -> None:
        """Start a loop on a new thread."""
        self._loops.append(loop)
        self.run_thread(loop.name, lambda: self._repeat(loop))

    def run_thread(self, name: str, target: Callable[[], None]) -> None:
        """Start a function on a new thread."""
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> list[str]:
        """Stop every loop and wait for the threads; return the names of the threads that still run."""
        self._stopping.set()
        for loop in self._loops:
            loop.wake.set()
        give_up_at = time.monotonic() + JOIN_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _repeat(self, loop: Loop) -> None:
        while not self._stopping.is_set():
            loop.wake.clear()
            pause_s = self._pass(loop)
            loop.wake.wait(pause_s)

    def _pass(self, loop: Loop) -> float:
        try:
            pause_s = loop.run_once()
        except PipelineError as exc:
            log.warning("loop_pass_failed", loop=loop.name, kind=type(exc).__name__, error=str(exc))
            self._note_failure(loop, exc)
        except Exception as exc:
            log.exception("loop_pass_failed_unexpectedly", loop=loop.name)
            self._note_failure(loop, exc)
        else:
            self._passes.note(loop.name, None)
            return pause_s
        return PAUSE_AFTER_FAILURE_S

    def _note_failure(self, loop: Loop, error: Exception) -> None:
        self._passes.note(loop.name, error)
        self._loop_failed(loop.name, error)
