"""The only module that reads the machine's clock."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Now = Callable[[], datetime]


class SystemClock:
    """The machine's own time, UTC."""

    def now(self) -> datetime:
        """Give the present instant."""
        return datetime.now(UTC)

    def follow(self) -> None:
        """Nothing: it follows nobody."""


class SharedClock:
    """The state store's time, so that all replicas measure leases and deadlines by one clock.

    Between two looks at the store the monotonic clock carries it on: this machine's wall clock may be wrong, and may
    step, and nothing is due early or late. Before the first look it is this machine's time.
    """

    def __init__(
        self,
        skew_of: Callable[[Now], timedelta],
        begin: datetime | None = None,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with this machine's time.

        Args:
            skew_of: Says how far the store's clock is ahead of the one given, zero where the way there explains it.
            begin: The present by this machine; read from it by default, once.
            stopwatch: Seconds, never stepping.
        """
        self._skew_of = skew_of
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._zero = (begin or datetime.now(UTC)) - timedelta(seconds=stopwatch())

    def now(self) -> datetime:
        """Give the present instant."""
        return self._zero + timedelta(seconds=self._stopwatch())

    def follow(self) -> None:
        """Look at the store's clock and go on from there.

        Raises:
            Unavailable: The store does not answer; time goes on as before.
        """
        # One look at a time: two that correct the same difference would correct it twice.
        with self._lock:
            self._zero += self._skew_of(self.now)


class OffsetClock:
    """The machine's time plus an offset that only grows: how the demo plays a night in seconds.

    Between two jumps it runs at normal speed, so leases and time-outs mean what they say.
    """

    def __init__(self, start: datetime) -> None:
        self._lock = threading.Lock()
        self._offset = start - datetime.now(UTC)

    def now(self) -> datetime:
        """Give the present instant of the played night."""
        with self._lock:
            return datetime.now(UTC) + self._offset

    def follow(self) -> None:
        """Nothing: it follows nobody."""

    def jump_to(self, instant: datetime) -> None:
        """Move forward to *instant*; an instant already passed changes nothing."""
        with self._lock:
            ahead = instant - (datetime.now(UTC) + self._offset)
            self._offset += max(ahead, timedelta(0))
