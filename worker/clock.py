"""The only module that reads the machine's clock."""

import threading
from datetime import UTC, datetime, timedelta


class SystemClock:
    """The machine's own time, UTC."""

    def now(self) -> datetime:
        """Give the present instant."""
        return datetime.now(UTC)


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

    def jump_to(self, instant: datetime) -> None:
        """Move forward to *instant*; an instant already passed changes nothing."""
        with self._lock:
            ahead = instant - (datetime.now(UTC) + self._offset)
            self._offset += max(ahead, timedelta(0))
