"""Backlog of a subscription: the leases of messages, the next delivery, and the order for an ordering key.

A message is READY, then LEASED to a consumer, then acknowledged or returned (refused, or the lease ended). A returned
message is READY again after the delay of the retry policy, or goes to the dead-letter topic after the last attempt. A
single heap of timers holds every future instant; `next_due_at` returns the earliest instant, and the owner calls
`advance` then. No loop polls.

An ack id is `<message number>-<lease serial>`. Without exactly-once delivery an acknowledgement after the end of the
lease still counts if the message was not acknowledged before, even across a restart. With exactly-once delivery, or
with an ordering key, only the present lease counts.

The messages of an ordering key wait in the order of publication in a queue, the lane. A message is in flight from the
delivery until the message and all earlier messages of the key are acknowledged. If a message in flight is returned,
this message and all later messages wait again, acknowledged or not: the key is replayed from there, as in the real
service.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from worker.local.pubsub.model import (
    CallRefused,
    Consumer,
    Keeper,
    LeasedMessage,
    Message,
    RefusalCode,
    SubscriptionSpec,
)


class Phase(Enum):
    """State of a message in a subscription."""

    READY = auto()
    """May be delivered now (in a lane: as soon as the message is the first waiting message)."""
    DELAYED = auto()
    """Returned; the backoff has not passed."""
    LEASED = auto()
    """Delivered; the lease has not ended."""
    ACKED = auto()
    """Acknowledged. Kept only behind an earlier message of the lane, or for a seek."""
    GONE = auto()
    """No longer in the backlog; every holder of a reference must drop the reference."""


@dataclass(slots=True, eq=False)
class Entry:
    """Message in a subscription.

    Attributes:
        attempt: Number of deliveries so far.
        serial: Number of the present lease or delay; 0 without lease and delay.
        until_at: End of the present lease or delay.
        timer_at: Instant of the earliest timer for *serial*.
        consumer: Holder of the lease.
        lane: Queue of the ordering key, if order is kept.
    """

    message: Message
    lane: "OrderingKeyQueue | None" = None
    phase: Phase = Phase.READY
    attempt: int = 0
    serial: int = 0
    until_at: float = 0.0
    timer_at: float = 0.0
    consumer: Consumer | None = None


class OrderingKeyQueue:
    """Lane: the messages of an ordering key in a subscription."""

    __slots__ = ("_flight", "_holder", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Entry]] = []
        self._flight: dict[int, Entry] = {}
        self._holder = ""

    @property
    def is_empty(self) -> bool:
        """Whether no message waits and no message is in flight."""
        return not self._flight and self.head() is None

    def wait(self, entry: Entry) -> None:
        """Add *entry* to the waiting messages, in the order of publication."""
        heapq.heappush(self._waiting, (entry.message.number, entry))

    def head(self) -> Entry | None:
        """Return the first waiting message."""
        while self._waiting and self._waiting[0][1].phase not in {Phase.READY, Phase.DELAYED}:
            heapq.heappop(self._waiting)
        return self._waiting[0][1] if self._waiting else None

    def is_open_to(self, consumer: Consumer) -> bool:
        """Whether *consumer* may take the head: no other consumer holds a message of this key."""
        return not self._flight or self._holder == consumer.name

    def depart(self, entry: Entry, consumer: Consumer) -> None:
        """Move the head into flight, held by *consumer*."""
        heapq.heappop(self._waiting)
        self._flight[entry.message.number] = entry
        self._holder = consumer.name

    def settle(self) -> list[Entry]:
        """Remove and return the acknowledged messages in flight that have no unacknowledged predecessor."""
        settled = []
        for entry in self._flight.values():
            if entry.phase is not Phase.ACKED:
                break
            settled.append(entry)
        for entry in settled:
            del self._flight[entry.message.number]
        return settled

    def replay_from(self, entry: Entry) -> list[Entry]:
        """Remove and return *entry* and all later messages in flight, in order."""
        return [self._flight.pop(number) for number in sorted(self._flight) if number >= entry.message.number]

    def recall(self) -> list[Entry]:
        """Return all messages in flight, in order, before the lane is dropped."""
        return list(self._flight.values())

    def forget(self, entry: Entry) -> None:
        """Remove *entry*; the phase must say that the entry neither waits nor is in flight."""
        self._flight.pop(entry.message.number, None)


STALE_ACK_ID = "PERMANENT_FAILURE_INVALID_ACK_ID"
"""Text by which the real client recognises a stale ack id (`streaming_pull_manager._process_requests`)."""

# A response has at most a few hundred typical messages: large enough to hide the fixed cost of a response, small enough
# that several streams of a subscription share a backlog.
DELIVERIES_MAX = 250
DELIVERY_BYTES_MAX = 4_000_000

# Timers of leases that ended early stay in the heap until they fire. With more stale timers for each live entry, the
# heap is rebuilt.
STALE_TIMERS_PER_LIVE_MAX = 4
TIMERS_KEPT_MIN = 1024


def _parse(ack_id: str) -> tuple[str, int, int]:
    number, _, serial = ack_id.partition("-")
    if not (number.isdecimal() and serial.isdecimal()):
        raise CallRefused(RefusalCode.INVALID_ARGUMENT, f"Invalid ack id (ack_id={ack_id})")
    return ack_id, int(number), int(serial)


class Backlog:
    """Messages of a subscription."""

    def __init__(self, spec: SubscriptionSpec, keeper: Keeper, serials: Iterator[int]) -> None:
        self.spec = spec
        self._keeper = keeper
        self._serials = serials
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._ready: list[int] = []
        self._timers: list[tuple[float, int, int]] = []
        self._lanes: dict[str, OrderingKeyQueue] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def unacknowledged(self) -> int:
        """Count the messages that are neither acknowledged nor gone."""
        return sum(entry.phase is not Phase.ACKED for entry in self._entries.values())

    def admit(self, message: Message) -> None:
        """Add a newly published *message* with a higher number than all earlier messages."""
        self._add(message, Phase.READY)

    def restore(self, message: Message, phase: Phase) -> None:
        """Add a *message* from the journal, READY or ACKED."""
        self._add(message, phase)

    def take(self, consumer: Consumer, now: float, limit: int = DELIVERIES_MAX) -> list[LeasedMessage]:
        """Lease messages to *consumer*, oldest first: at most *limit* messages, 4 MB, and the room of the consumer."""
        taken: list[LeasedMessage] = []
        aside: list[int] = []
        size = 0
        limit = min(limit, DELIVERIES_MAX)
        while self._ready and len(taken) < limit and size < DELIVERY_BYTES_MAX and consumer.has_room:
            number = heapq.heappop(self._ready)
            entry = self._entries.get(number)
            if entry is None or entry.phase is not Phase.READY:
                continue
            if entry.lane is not None and not self._depart(entry, entry.lane, consumer, aside):
                continue
            taken.append(self._lease(entry, consumer, now))
            size += entry.message.size
        for number in aside:
            heapq.heappush(self._ready, number)
        self._drop_stale_timers()
        return taken

    def acknowledge(self, ack_ids: Iterable[str], now: float) -> dict[str, str]:
        """Acknowledge deliveries; return the stale ack ids of a subscription with exactly-once delivery.

        Raises:
            CallRefused: `INVALID_ARGUMENT`, an ack id was not made by this server.
        """
        failures: dict[str, str] = {}
        for ack_id, entry, is_held in self._resolve(ack_ids, now):
            if is_held and entry is not None:
                self._acknowledge(entry)
            elif self.spec.exactly_once:
                failures[ack_id] = STALE_ACK_ID
            elif entry is not None and entry.lane is None and entry.phase is not Phase.ACKED:
                self._acknowledge(entry)
        self._announce()
        return failures

    def modify(self, ack_ids: Iterable[str], seconds: float, now: float) -> dict[str, str]:
        """Move the end of leases to *seconds* from now, 0 to 600; 0 returns the messages. Return stale ack ids.

        Raises:
            CallRefused: `INVALID_ARGUMENT`, an ack id was not made by this server.
        """
        failures: dict[str, str] = {}
        for ack_id, entry, is_held in self._resolve(ack_ids, now):
            if entry is None or not is_held:
                if self.spec.exactly_once:
                    failures[ack_id] = STALE_ACK_ID
            elif seconds > 0:
                self._extend(entry, now + seconds)
            else:
                self._give_back(entry, now)
        self._announce()
        return failures

    def next_due_at(self) -> float | None:
        """Return the next instant for `advance`; sometimes no lease or delay has ended then."""
        due_at = self._timers[0][0] if self._timers else None
        if self._entries:
            oldest = next(iter(self._entries.values()))
            expires_at = oldest.message.published_at + self.spec.retention_s
            return expires_at if due_at is None else min(due_at, expires_at)
        return due_at

    def advance(self, now: float) -> None:
        """End expired leases and delays, and drop messages past the retention."""
        while self._timers and self._timers[0][0] <= now:
            _, number, serial = heapq.heappop(self._timers)
            entry = self._entries.get(number)
            if entry is not None and entry.serial == serial:
                self._fire(entry, now)
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if oldest.message.published_at + self.spec.retention_s > now:
                break
            self._remove(oldest)
        self._announce()

    def seek(self, at: float) -> None:
        """Mark messages published before *at* as acknowledged, and kept messages published later as unacknowledged."""
        for lane in self._lanes.values():
            for entry in lane.recall():
                self._end_lease(entry, Phase.READY)
        self._lanes.clear()
        for entry in list(self._entries.values()):
            self._seek_entry(entry, at)
        self._announce()

    def clear(self) -> None:
        """Drop all messages before the subscription is deleted."""
        for entry in list(self._entries.values()):
            self._remove(entry)

    # Entering and being taken

    def _add(self, message: Message, phase: Phase) -> None:
        entry = Entry(message, phase=phase)
        self._entries[message.number] = entry
        if phase is Phase.READY:
            self._line_up(entry)
            self._announce()

    def _line_up(self, entry: Entry) -> None:
        """Queue a READY entry for `take`."""
        key = entry.message.ordering_key
        if not (key and self.spec.ordered):
            heapq.heappush(self._ready, entry.message.number)
            return
        lane = entry.lane = self._lanes.setdefault(key, OrderingKeyQueue())
        lane.wait(entry)
        self._offer(lane)

    def _offer(self, lane: OrderingKeyQueue) -> None:
        head = lane.head()
        if head is not None and head.phase is Phase.READY:
            heapq.heappush(self._ready, head.message.number)

    def _depart(self, entry: Entry, lane: OrderingKeyQueue, consumer: Consumer, aside: list[int]) -> bool:
        """Move the entry into flight if the entry is the head of the lane and the lane is open to the consumer."""
        if lane.head() is not entry:
            return False
        if not lane.is_open_to(consumer):
            aside.append(entry.message.number)
            return False
        lane.depart(entry, consumer)
        self._offer(lane)
        return True

    # Leases

    def _lease(self, entry: Entry, consumer: Consumer, now: float) -> LeasedMessage:
        message = entry.message
        entry.phase = Phase.LEASED
        entry.attempt += 1
        entry.serial = next(self._serials)
        entry.consumer = consumer
        consumer.messages_held += 1
        consumer.bytes_held += message.size
        self._set_timer(entry, now + consumer.ack_deadline_s)
        return LeasedMessage(
            f"{message.number}-{entry.serial}", message, entry.attempt if self.spec.dead_letter is not None else 0
        )

    def _set_timer(self, entry: Entry, at: float) -> None:
        entry.until_at = entry.timer_at = at
        heapq.heappush(self._timers, (at, entry.message.number, entry.serial))

    def _extend(self, entry: Entry, until_at: float) -> None:
        """Move the end of a lease. A timer that fires early is set again; only an earlier end needs another timer."""
        entry.until_at = until_at
        if until_at < entry.timer_at:
            self._set_timer(entry, until_at)

    def _end_lease(self, entry: Entry, phase: Phase) -> None:
        if entry.consumer is not None:
            entry.consumer.messages_held -= 1
            entry.consumer.bytes_held -= entry.message.size
            entry.consumer = None
        entry.serial = 0
        entry.phase = phase

    def _fire(self, entry: Entry, now: float) -> None:
        if entry.until_at > now:
            self._set_timer(entry, entry.until_at)
        elif entry.phase is Phase.LEASED:
            self._give_back(entry, now)
        elif entry.phase is Phase.DELAYED:
            self._end_lease(entry, Phase.READY)
            if entry.lane is None:
                heapq.heappush(self._ready, entry.message.number)
            else:
                self._offer(entry.lane)

    def _give_back(self, entry: Entry, now: float) -> None:
        """Handle a failed delivery: dead-letter the message, delay the message, or make the message ready at once."""
        policy = self.spec.dead_letter
        is_exhausted = policy is not None and entry.attempt >= policy.attempts_max
        if is_exhausted and self._keeper.on_exhausted(entry.message, entry.attempt, now):
            self._acknowledge(entry)
            return
        lane = entry.lane
        again = [entry] if lane is None else lane.replay_from(entry)
        for other in again:
            self._end_lease(other, Phase.READY)
        if self.spec.retry is not None and (delay_s := self.spec.retry.backoff_s(entry.attempt)) > 0:
            entry.phase = Phase.DELAYED
            entry.serial = next(self._serials)
            self._set_timer(entry, now + delay_s)
        for other in again:
            if lane is not None:
                lane.wait(other)
            elif other.phase is Phase.READY:
                heapq.heappush(self._ready, other.message.number)
        if lane is not None:
            self._offer(lane)

    # Leaving

    def _acknowledge(self, entry: Entry) -> None:
        self._end_lease(entry, Phase.ACKED)
        if entry.lane is None:
            self._settle(entry)
            return
        lane = entry.lane
        for settled in lane.settle():
            settled.lane = None
            self._settle(settled)
        self._prune(entry.message.ordering_key, lane)

    def _settle(self, entry: Entry) -> None:
        if self.spec.retain_acked:
            self._keeper.on_acked(entry.message)
        else:
            self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        lane = entry.lane
        self._end_lease(entry, Phase.GONE)
        del self._entries[entry.message.number]
        self._keeper.on_gone(entry.message)
        if lane is not None:
            lane.forget(entry)
            for settled in lane.settle():
                settled.lane = None
                self._settle(settled)
            self._offer(lane)
            self._prune(entry.message.ordering_key, lane)

    def _prune(self, key: str, lane: OrderingKeyQueue) -> None:
        if lane.is_empty and self._lanes.get(key) is lane:
            del self._lanes[key]

    def _seek_entry(self, entry: Entry, at: float) -> None:
        entry.lane = None
        if entry.message.published_at < at:
            if entry.phase is not Phase.ACKED:
                self._end_lease(entry, Phase.ACKED)
                self._settle(entry)
        elif entry.phase is Phase.ACKED:
            entry.phase = Phase.READY
            entry.attempt = 0
            self._keeper.on_unacked(entry.message)
            self._line_up(entry)
        elif self.spec.ordered and entry.message.ordering_key:
            self._end_lease(entry, Phase.READY)
            self._line_up(entry)

    def _resolve(self, ack_ids: Iterable[str], now: float) -> Iterator[tuple[str, Entry | None, bool]]:
        """Yield each ack id with the entry, if present, and whether the named lease still holds."""
        for ack_id, number, serial in [_parse(ack_id) for ack_id in ack_ids]:
            entry = self._entries.get(number)
            is_held = (
                entry is not None and entry.phase is Phase.LEASED and entry.serial == serial and entry.until_at > now
            )
            yield ack_id, entry, is_held

    def _announce(self) -> None:
        if self._ready:
            self._keeper.on_ready()

    def _drop_stale_timers(self) -> None:
        live = len(self._entries)
        if len(self._timers) > max(TIMERS_KEPT_MIN, STALE_TIMERS_PER_LIVE_MAX * live):
            self._timers = [
                (entry.timer_at, number, entry.serial) for number, entry in self._entries.items() if entry.serial
            ]
            heapq.heapify(self._timers)
