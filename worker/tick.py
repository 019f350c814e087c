"""One tick: everything the loops of a worker do, once, within one request.

A scheduler that calls this every minute makes a service without background work fire its deadlines, build what is
due and tell the outcomes. Ticks may overlap, on one process or on several: a sweep is decided by the commit's version,
a build by its claim, and an outcome published twice carries the same event id.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from worker.builds.queue import Builds, Built
from worker.ports import Clock
from worker.relay import Relay
from worker.sweep import Sweeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """What one tick did.

    Attributes:
        opened: Dates that the calendar opened.
        due: Dates at which something was due.
        failed: Dates whose own fault kept the sweep from handling them.
        built: Builds that ended.
        published: Outcomes that the bus confirmed.
        left: Outcomes that the bus did not take; the next tick tries again.
    """

    opened: int
    due: int
    failed: int
    built: tuple[Built, ...]
    published: int
    left: int


class Ticker:
    """Sweeps, builds, relays."""

    def __init__(
        self,
        *,
        sweeper: Sweeper,
        builds: Builds,
        relay: Relay,
        clock: Clock,
        stopwatch: Callable[[], float],
        ticked: Callable[..., None],
    ) -> None:
        self._sweeper = sweeper
        self._builds = builds
        self._relay = relay
        self._clock = clock
        self._stopwatch = stopwatch
        self._ticked = ticked
        self._relaying = threading.Lock()

    def run_once(self, wait_s: float) -> Ticked:
        """Do what is due now, within *wait_s* seconds.

        Raises:
            Unavailable: The store does not answer; what was due stays due.
        """
        until = self._stopwatch() + wait_s
        # First what an earlier request left: an outcome must not wait for a build.
        published, _left = self.publish(until)
        swept = self._sweeper.run_once()
        self._ticked(self._clock.now())
        built = self._builds.advance(until)
        more, left = self.publish(until)
        return Ticked(
            opened=swept.opened,
            due=swept.due,
            failed=swept.failed,
            built=tuple(built),
            published=published + more,
            left=left,
        )

    def publish(self, until: float) -> tuple[int, int]:
        """Empty the outbox; where another request of this process is at it, leave it to that one.

        Args:
            until: Stop then, on the stopwatch.

        Returns:
            How many outcomes were published, and how many the bus did not take.

        Raises:
            Unavailable: The store does not answer.
        """
        published = left = 0
        if not self._relaying.acquire(blocking=False):
            return published, left
        try:
            while self._stopwatch() < until:
                relayed = self._relay.run_once()
                published, left = published + relayed.published, relayed.left
                if not relayed.published:
                    break
        finally:
            self._relaying.release()
        return published, left
