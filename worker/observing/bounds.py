"""A read that may hang, for callers that must not: health pages and scrapes.

The read runs on a thread. Every caller waits for it until a bound after its beginning and shares its answer. A read
that hangs takes no second thread, and no time of a later caller.

How many connections a listener of this process may hold, by the number of files that the process may open.
"""

import resource
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from worker.errors import Unavailable

# Prometheus gives up after ten seconds and Kubernetes' probes after five; two reads of one page stay within both.
PATIENCE_S = 1.8

T = TypeVar("T")


class _Answer(Generic[T]):
    """One run of the read."""

    def __init__(self, read: Callable[[], T], name: str, begun: float) -> None:
        self._read = read
        self.begun = begun
        self.ended = threading.Event()
        self.value: T | None = None
        self.error: Exception | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self.value = self._read()
        except Exception as exc:  # noqa: BLE001 - raised again where a caller waits
            self.error = exc
        finally:
            self.ended.set()


class Bounded(Generic[T]):
    """Runs at most one read at a time; any thread may ask."""

    def __init__(
        self,
        read: Callable[[], T],
        name: str,
        *,
        patience_s: float = PATIENCE_S,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._name = name
        self._patience_s = patience_s
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._running: _Answer[T] | None = None

    def __call__(self) -> T:
        """Return the answer of the read that runs, else of a new one.

        Raises:
            Unavailable: There is no answer in time.
            Exception: What the read raised.
        """
        now = self._stopwatch()
        with self._lock:
            if self._running is None or self._running.ended.is_set():
                self._running = _Answer(self._read, self._name, now)
            answer = self._running
        if not answer.ended.wait(max(0.0, answer.begun + self._patience_s - now)):
            raise Unavailable(f"{self._name} has not answered for {self._stopwatch() - answer.begun:.0f} s")
        if answer.error is not None:
            raise answer.error
        return answer.value  # type: ignore[return-value] # set where no error is


CONNECTIONS_MAX = 1000
# Two HTTP listeners and the local bus take three quarters at most; the rest is for the store, the warehouse and logs.
SHARE_OF_FILES = 4


def connections_max() -> int:
    """Return the limit of one listener."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(files // SHARE_OF_FILES, 1))
