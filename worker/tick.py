"""Tick: sweep, builds, relay and arrivals once, within a request or a command.

A scheduler that calls the tick every minute replaces the loops of a worker. Ticks may overlap, also on several
processes: the version of the commit decides a sweep, the claim decides a build, and an outcome published twice has the
same event id. After a crash at any step the next tick continues: due analysis dates stay in the wake index, unpublished
outcomes in the outbox, and an interrupted build is claimed again after the lease has expired.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

import structlog
from pydantic import Field

from worker.builds.queue import Builds, Built
from worker.errors import PipelineError
from worker.ports import Clock
from worker.relay import Relay
from worker.sweep import Sweeper

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Result of a tick."""

    opened: Annotated[int, Field(description="Analysis dates opened by the calendar.")]
    due: Annotated[int, Field(description="Analysis dates with a due timer.")]
    failed: Annotated[int, Field(description="Analysis dates that the sweep could not handle; the dates stay due.")]
    built: tuple[Built, ...]
    published: Annotated[int, Field(description="Outcomes confirmed by the bus.")]
    left: Annotated[int, Field(description="Outcomes refused by the bus; the next tick publishes the outcomes again.")]


@dataclass(slots=True, kw_only=True)
class Ticker:
    """Sweep, builds, relay and arrivals of a process; several threads may use the same ticker.

    Attributes:
        ticked: Called with the instant of each sweep.
        write_arrivals: Writes the arrivals of settled analysis dates.
    """

    sweeper: Sweeper
    builds: Builds
    relay: Relay
    clock: Clock
    stopwatch: Callable[[], float]
    ticked: Callable[[datetime], None]
    write_arrivals: Callable[[], object]
    _relaying: threading.Lock = field(default_factory=threading.Lock, init=False)

    def run_once(self, wait_s: float) -> Ticked:
        """Sweep, build and publish outcomes within *wait_s* seconds.

        Raises:
            Unavailable: The state store does not answer; due analysis dates stay due.
        """
        until = self.stopwatch() + wait_s
        # Publish the outcomes of earlier requests first: an outcome must not wait for a build.
        published, _left = self.publish(until)
        swept = self.sweeper.run_once()
        self.ticked(self.clock.now())
        built = self.builds.advance(until)
        more, left = self.publish(until)
        if self.stopwatch() < until:
            self._write_arrivals()
        return Ticked(
            opened=swept.opened,
            due=swept.due,
            failed=swept.failed,
            built=tuple(built),
            published=published + more,
            left=left,
        )

    def _write_arrivals(self) -> None:
        try:
            self.write_arrivals()
        except PipelineError as exc:
            # Sweep, builds and outcomes of this tick are done; the next tick writes the arrivals.
            log.warning("arrivals_left_to_next_tick", kind=type(exc).__name__, error=str(exc))

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
            while self.stopwatch() < until:
                relayed = self.relay.run_once()
                published, left = published + relayed.published, relayed.left
                if not relayed.published:
                    break
        finally:
            self._relaying.release()
        return published, left
