"""The dates that wait for a build thread of this process."""

import queue
import threading
from datetime import date

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
