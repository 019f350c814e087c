"""Bounds of health pages, scrapes and listeners.

Model: a read of the store runs on a separate thread. Every caller waits for the answer until a bound after the start of
the read; all callers share the answer. Guarantees: a hanging read occupies one thread, and a later caller does not
wait. A listener holds a bounded number of connections, by the number of files of the process. A crash leaves no state.
"""

import resource
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from worker.errors import Unavailable

# Prometheus waits ten seconds, probes of Kubernetes wait five seconds; a page with two reads stays within both limits.
PATIENCE_S = 1.8

T = TypeVar("T")


class NotYet(Unavailable):
    """A read that goes on: the answer was not there in time."""


class _Answer(Generic[T]):
    """A run of the read."""

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
        except Exception as exc:  # noqa: BLE001 - raised again in the thread of the caller
            self.error = exc
        finally:
            self.ended.set()


class Bounded(Generic[T]):
    """A read with a bounded wait: a single read runs at a time. Thread-safe."""

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

    def __call__(self, patience_s: float | None = None) -> T:
        """Return the answer of the running read, else of a new read.

        Args:
            patience_s: Seconds from the start of the read, in place of the usual bound.

        Raises:
            NotYet: The read does not answer in time.
            Exception: The exception of the read.
        """
        bound_s = self._patience_s if patience_s is None else patience_s
        now = self._stopwatch()
        with self._lock:
            if self._running is None or self._running.ended.is_set():
                self._running = _Answer(self._read, self._name, now)
            answer = self._running
        if not answer.ended.wait(max(0.0, answer.begun + bound_s - now)):
            raise NotYet(f"{self._name} has not answered for {self._stopwatch() - answer.begun:.0f} s")
        if answer.error is not None:
            raise answer.error
        return answer.value  # type: ignore[return-value] # set unless the read raised


CONNECTIONS_MAX = 1000
# Two HTTP listeners and the local bus take at most three quarters. Store, warehouse and logs share the remaining files.
SHARE_OF_FILES = 4


def connections_max() -> int:
    """Return the greatest number of connections of a listener."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(files // SHARE_OF_FILES, 1))
