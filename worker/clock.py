"""Clocks of the shell; the only module that reads the machine's clock.

The state machine gets instants as arguments. A worker measures leases and deadlines by `SharedClock`, the time of the
state store, so replicas agree although the machines' clocks differ. No clock stores state: after a crash the next
process reads the state store's time again.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Now = Callable[[], datetime]


def pause(seconds: float) -> None:
    """Block the calling thread for *seconds*."""
    threading.Event().wait(seconds)


class SystemClock:
    """Time of this machine, UTC."""

    def now(self) -> datetime:
        """Return the present instant."""
        return datetime.now(UTC)

    def follow(self) -> None:
        """Return at once: the machine's clock needs no correction here."""


class SharedClock:
    """Time of the state store.

    Between two reads of the store's time the monotonic clock counts on, so a wrong or stepping wall clock of this
    machine makes no timer early or late. Before the first read `now` returns this machine's time.
    """

    def __init__(
        self,
        skew_of: Callable[[Now], timedelta],
        begin: datetime | None = None,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with this machine's time.

        Args:
            skew_of: Returns store time minus local time; zero if the difference lies within the round-trip time.
            begin: The present instant by this machine; read from the machine by default.
            stopwatch: Monotonic seconds.
        """
        self._skew_of = skew_of
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._zero = (begin or datetime.now(UTC)) - timedelta(seconds=stopwatch())

    def now(self) -> datetime:
        """Return the present instant."""
        return self._zero + timedelta(seconds=self._stopwatch())

    def follow(self) -> None:
        """Read the store's time and count on from there.

        Raises:
            Unavailable: The store does not answer; the clock counts on without a correction.
        """
        # One read at a time: two threads that read the same difference would add the difference twice.
        with self._lock:
            self._zero += self._skew_of(self.now)


class OffsetClock:
    """Machine time plus an offset that only grows: the demo plays a night within seconds.

    Between two jumps the clock runs at normal speed, so leases and timeouts keep their length.
    """

    def __init__(self, start: datetime) -> None:
        self._lock = threading.Lock()
        self._offset = start - datetime.now(UTC)

    def now(self) -> datetime:
        """Return the present instant of the played night."""
        with self._lock:
            return datetime.now(UTC) + self._offset

    def follow(self) -> None:
        """Return at once: the demo alone moves the clock."""

    def jump_to(self, instant: datetime) -> None:
        """Move the clock forward to *instant*; ignore an instant in the past."""
        with self._lock:
            ahead = instant - (datetime.now(UTC) + self._offset)
            self._offset += max(ahead, timedelta(0))
