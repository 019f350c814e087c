"""Tick: sweep, builds and relay once, within one request or one command.

A scheduler that calls the tick every minute replaces the loops of a worker. Ticks may overlap, also on several
processes: the version of the commit decides a sweep, the claim decides a build, and an outcome published twice has the
same event id. After a crash at any step the next tick continues: due analysis dates stay in the wake index, unpublished
outcomes in the outbox, and an interrupted build is claimed again after the lease has expired.
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
    """Result of one tick.

    Attributes:
        opened: Analysis dates opened by the calendar.
        due: Analysis dates with a due timer.
        failed: Analysis dates that the sweep could not handle.
        built: Builds that ended.
        published: Outcomes confirmed by the bus.
        left: Outcomes refused by the bus; the next tick publishes the outcomes again.
    """

    opened: int
    due: int
    failed: int
    built: tuple[Built, ...]
    published: int
    left: int


class Ticker:
    """Sweep, builds and relay of one process; several threads may use one ticker."""

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
        """Sweep, build and publish outcomes within *wait_s* seconds.

        Raises:
            Unavailable: The state store does not answer; due analysis dates stay due.
        """
        until = self._stopwatch() + wait_s
        # Publish the outcomes of earlier requests first: an outcome must not wait for a build.
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
        """Publish the outbox, unless another request of this process is publishing.

        Args:
            until: Time on the stopwatch at which publishing stops.

        Returns:
            Number of published outcomes, and number of outcomes refused by the bus.

        Raises:
            Unavailable: The state store does not answer.
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
