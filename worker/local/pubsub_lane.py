"""Deliveries of one subscription, and the order among those that share an ordering key.

A lane is one ordering key. Messages wait in it in the order of their publication and are in flight from their delivery
until they and every earlier message of the key are acknowledged. When one in flight is given back, it and every later
one go back to waiting, acknowledged or not: the key is replayed from there, as the real service does.
"""

import heapq
from dataclasses import dataclass
from enum import Enum, auto

from worker.local.pubsub_model import Consumer, Message


class Phase(Enum):
    """Where one message stands in one subscription."""

    READY = auto()
    """May be delivered now (in a lane: once it is the first that waits)."""
    DELAYED = auto()
    """Given back; its backoff has not passed."""
    LEASED = auto()
    """Delivered; the lease has not ended."""
    ACKED = auto()
    """Acknowledged. Kept only behind an earlier message of its lane, or for a seek."""
    GONE = auto()
    """No longer in the backlog; whoever still refers to it must drop it."""


@dataclass(slots=True, eq=False)
class Entry:
    """One message in one subscription.

    Attributes:
        attempt: Deliveries so far.
        serial: Names the present lease or delay; 0 means neither.
        until_at: When the present lease or delay ends.
        timer_at: When the earliest timer set for *serial* fires.
        consumer: Who holds the lease.
        lane: The ordering key it belongs to, if order is kept.
    """

    message: Message
    lane: "Lane | None" = None
    phase: Phase = Phase.READY
    attempt: int = 0
    serial: int = 0
    until_at: float = 0.0
    timer_at: float = 0.0
    consumer: Consumer | None = None


class Lane:
    """The messages of one ordering key in one subscription."""

    __slots__ = ("_flight", "_holder", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Entry]] = []
        self._flight: dict[int, Entry] = {}
        self._holder = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._flight and self.head() is None

    def wait(self, entry: Entry) -> None:
        """Put *entry* among those that wait, in the order of publication."""
        heapq.heappush(self._waiting, (entry.message.number, entry))

    def head(self) -> Entry | None:
        """Give the first message that waits."""
        while self._waiting and self._waiting[0][1].phase not in {Phase.READY, Phase.DELAYED}:
            heapq.heappop(self._waiting)
        return self._waiting[0][1] if self._waiting else None

    def is_open_to(self, consumer: Consumer) -> bool:
        """Whether *consumer* may take the head: nobody else holds a message of this key."""
        return not self._flight or self._holder == consumer.name

    def depart(self, entry: Entry, consumer: Consumer) -> None:
        """Move the head into flight, held by *consumer*."""
        heapq.heappop(self._waiting)
        self._flight[entry.message.number] = entry
        self._holder = consumer.name

    def settle(self) -> list[Entry]:
        """Take out of flight, and give, the acknowledged messages that no earlier one holds up any more."""
        settled = []
        for entry in self._flight.values():
            if entry.phase is not Phase.ACKED:
                break
            settled.append(entry)
        for entry in settled:
            del self._flight[entry.message.number]
        return settled

    def replay_from(self, entry: Entry) -> list[Entry]:
        """Take *entry* and all later messages out of flight and give them, in order."""
        return [self._flight.pop(number) for number in sorted(self._flight) if number >= entry.message.number]

    def recall(self) -> list[Entry]:
        """Give everything in flight, in order; the lane itself is being given up."""
        return list(self._flight.values())

    def forget(self, entry: Entry) -> None:
        """Take *entry* out, wherever it is; its phase must say that it neither waits nor is in flight."""
        self._flight.pop(entry.message.number, None)
