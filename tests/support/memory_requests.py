"""Remembers requests in one process: for tests. It passes the same contract suite as the one on Redis."""

import threading
from datetime import datetime, timedelta

from worker.ports import Clock, Remembered


class MemoryRequests:
    """The `RequestLog` port in memory; entries expire by the clock it is given."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[datetime, Remembered]] = {}

    def begin(self, key: str, fingerprint: str, keep: timedelta) -> Remembered | None:
        """Take the key where it is free or has expired."""
        now = self._clock.now()
        with self._lock:
            held = self._entries.get(key)
            if held is not None and now < held[0]:
                return held[1]
            self._entries[key] = (now + keep, Remembered(fingerprint=fingerprint, answer=None))
        return None

    def finish(self, key: str, fingerprint: str, answer: str, keep: timedelta) -> None:
        """Keep the answer."""
        with self._lock:
            self._entries[key] = (self._clock.now() + keep, Remembered(fingerprint=fingerprint, answer=answer))

    def forget(self, key: str) -> None:
        """Drop the entry."""
        with self._lock:
            self._entries.pop(key, None)
