"""The simulated bus: at least once, in any order, late; what is acknowledged stays in a log and can be sought back."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from schemas.completion import Delivery
from tests.simulation.boundary import Boundary
from tests.simulation.plan import SECOND, Intensity
from worker.ports import OutgoingMessage

if TYPE_CHECKING:
    from tests.simulation.checker import Checker
    from tests.simulation.process import Process

# What the subscription waits before it delivers again.
ACK_DEADLINE_S = (10, 60)


@dataclass(slots=True, kw_only=True, eq=False)
class Message:
    """One message of the subscription; `holder` has it and has not answered."""

    number: int
    body: bytes
    published_at: datetime
    available_at: datetime
    holder: "Process | None" = None
    acked: bool = False

    @property
    def delivery(self) -> Delivery:
        return Delivery(data=self.body, attributes={}, message_id=f"m{self.number}", published_at=self.published_at)


class Bus:
    """The subscription and the outgoing topics of one run."""

    def __init__(self, rng: Random, intensity: Intensity, checker: "Checker") -> None:
        self._rng = rng
        self._intensity = intensity
        self._checker = checker
        self.messages: list[Message] = []
        self.outcomes: list[OutgoingMessage] = []

    def send(self, body: bytes, now: datetime) -> None:
        """A processor publishes; now and then its client does so twice."""
        copies = 2 if self._rng.random() < self._intensity.duplicate else 1
        for _ in range(copies):
            delay = self._intensity.delay_max * self._rng.random()
            self.messages.append(
                Message(number=len(self.messages) + 1, body=body, published_at=now, available_at=now + delay)
            )

    def available(self, now: datetime) -> list[Message]:
        return [one for one in self.messages if not one.acked and one.holder is None and one.available_at <= now]

    def next_at(self) -> datetime | None:
        return min((one.available_at for one in self.messages if not one.acked and one.holder is None), default=None)

    def ack(self, message: Message, now: datetime) -> None:
        message.holder = None
        lost = self._rng.random() < self._intensity.ack_lost
        message.acked = not lost
        message.available_at = now + self._wait()
        if message.acked and self._rng.random() < self._intensity.duplicate / 4:
            message.acked = False  # delivered once more although acknowledged

    def nack(self, message: Message, now: datetime) -> None:
        message.holder = None
        message.available_at = now + self._wait()

    def drop_leases(self, holder: "Process", now: datetime) -> None:
        """What a dead process held comes again."""
        for message in self.messages:
            if message.holder is holder:
                self.nack(message, now)

    def seek(self, since: datetime, now: datetime) -> None:
        """Everything published since then is delivered again."""
        for message in self.messages:
            if message.published_at >= since and message.holder is None:
                message.acked = False
                message.available_at = max(message.available_at, now + SECOND * self._rng.random() * 5)

    @property
    def unacked(self) -> int:
        return sum(1 for one in self.messages if not one.acked)

    def publish(self, message: OutgoingMessage) -> str:
        self.outcomes.append(message)
        self._checker.published(message)
        return f"o{len(self.outcomes)}"

    def _wait(self) -> timedelta:
        return timedelta(seconds=self._rng.uniform(*ACK_DEADLINE_S))


class SimulatedPublisher:
    """The `Publisher` port as one process sees it."""

    def __init__(self, bus: Bus, boundary: Boundary, process: "Process") -> None:
        self._bus = bus
        self._boundary = boundary
        self._process = process

    def publish(self, message: OutgoingMessage) -> str:
        return self._boundary.call(self._process, "bus", "publish", lambda: self._bus.publish(message))

    def close(self) -> None:
        """Nothing to flush."""
