"""Dead letters: parks refused messages in the dead-letter topic and redrives messages from this topic.

Parking publishes a message that can never become a completion to the dead-letter topic, keeps a copy in the state store
and then acknowledges the message. While the topic accepts no message, a refused message goes back to the bus and delays
no other message; after a failed publish the topic gets no message for `PAUSE_S`. A crash between the publish and the
copy publishes the message a second time.

Redriving leases messages of the dead-letter subscription and publishes the chosen messages to the source topic. A
message is removed only after the bus has confirmed the publication. Every other message goes back to the subscription,
after a crash when the lease ends. A crash between the confirmation and the removal publishes a message twice; the copy
carries the first message id, so that intake counts a single completion.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from schemas.completion import Delivery, Refusal
from schemas.dead_letter import DATA_BYTES_MAX, DeadLetter, parked_attributes, without_senders
from worker.errors import PipelineError, PublishRefused, Unavailable
from worker.observing.observer import DeadLetterTopicChecked, MessageParked, Observer
from worker.ports import Clock, OutgoingMessage, ParkedMessage, Publisher, StateStore

log = structlog.get_logger(__name__)

# Parking. The state store keeps the beginning of a body, enough for a person to recognise the sender.
COPY_BYTES_MAX = 2048
# A confirmed publish takes milliseconds. A thread stops waiting for the turn of another thread after this time, so that
# an intake thread stays free for good messages.
TURN_MAX_S = 0.25
# After a refused message, the topic gets no message for this time. Pub/Sub delivers again after a similar time.
PAUSE_S = 5.0

# Redriving. After five redrives the sender has not repaired the message; a person decides.
REDRIVES_MAX = 5
TAKE_MAX = 500
# The longest lease of Pub/Sub: a person may need the time to read a plan.
LEASE_S = 600
# Limit of the memory for leased messages.
HELD_BYTES_MAX = 100_000_000
# Size of a publish request. Pub/Sub accepts 1,000 messages and 10 MB of the same ordering key; with a smaller batch a
# failed request delays few messages.
BATCH_MAX = 100
BATCH_BYTES_MAX = 9_100_000


class NotParked(PipelineError):
    """The dead-letter topic accepts no message now. The refused message goes back to the bus and delays no other."""


class Parking:
    """Publisher to the dead-letter topic. Thread-safe."""

    def __init__(
        self,
        *,
        store: StateStore,
        bus: Publisher,
        topic: str,
        clock: Clock,
        observer: Observer,
        stopwatch: Callable[[], float],
    ) -> None:
        self._store = store
        self._bus = bus
        self._topic = topic
        self._clock = clock
        self._observer = observer
        self._stopwatch = stopwatch
        self._turn = threading.Lock()
        self._closed_until: float | None = None

    def park(self, delivery: Delivery, refusal: Refusal) -> None:
        """Publish the message to the dead-letter topic, then store a copy for people.

        Raises:
            NotParked: The topic accepted no message.
            Unavailable: The state store does not answer. The dead-letter topic has the message.
        """
        message = OutgoingMessage(
            event_id=f"refused:{delivery.message_id}",
            topic=self._topic,
            data=delivery.data[:DATA_BYTES_MAX],
            attributes=parked_attributes(delivery, refusal),
        )
        self._publish_in_turn(message)
        self._keep_copy(delivery, refusal, message)
        log.warning("message_parked", message_id=delivery.message_id, reason=refusal.reason, detail=refusal.detail)
        self._observer.note(MessageParked(reason=refusal.reason.value, detail=refusal.detail))

    def _publish_in_turn(self, message: OutgoingMessage) -> None:
        if self._closed_until is not None and self._stopwatch() < self._closed_until:
            raise NotParked(f"{self._topic} took no message a moment ago")
        if not self._turn.acquire(timeout=TURN_MAX_S):
            # Without the pause, each further message of this thread would wait as long. A confirmation ends the pause.
            self._closed_until = self._stopwatch() + PAUSE_S
            raise NotParked(f"{self._topic} is slow: another message waits for its confirmation")
        try:
            self._publish(message)
        except Unavailable as exc:
            self._closed_until = self._stopwatch() + PAUSE_S
            next_step = "create the topic or grant roles/pubsub.publisher; the message comes again"
            log.error("dead_letter_topic_refuses", topic=self._topic, error=str(exc), next_step=next_step)
            self._observer.note(DeadLetterTopicChecked(topic=self._topic, fault=str(exc)))
            raise NotParked(str(exc)) from exc
        else:
            self._closed_until = None
            self._observer.note(DeadLetterTopicChecked(topic=self._topic, fault=None))
        finally:
            self._turn.release()

    def _publish(self, message: OutgoingMessage) -> None:
        """Publish the copy; without the sender's attributes if the bus refuses these attributes."""
        try:
            self._bus.publish(message)
        except PublishRefused:
            ours = without_senders(message.attributes)
            if ours == message.attributes:
                raise
            self._bus.publish(replace(message, attributes=ours))

    def _keep_copy(self, delivery: Delivery, refusal: Refusal, message: OutgoingMessage) -> None:
        copy = ParkedMessage(
            reason=refusal.reason.value,
            detail=refusal.detail,
            message_id=delivery.message_id,
            received_at=self._clock.now(),
            data=delivery.data[:COPY_BYTES_MAX],
            attributes=message.attributes,
        )
        try:
            self._store.park(copy)
        except Unavailable:
            raise
        except PipelineError as exc:
            # The store refuses only this key. The dead-letter topic has the message, so the bus need not deliver again.
            log.error("parked_copy_not_kept", message_id=delivery.message_id, error=str(exc))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLetter:
    """A leased dead letter; *handle* names the lease."""

    letter: DeadLetter
    handle: str


class DeadLetterQueue(Protocol):
    """The dead-letter subscription. Every method may raise `Unavailable` or `Fatal`."""

    def take(self, limit: int) -> Sequence[HeldLetter]:
        """Lease some waiting messages; return an empty sequence if no message is waiting."""

    def give_back(self, held: Collection[HeldLetter]) -> None:
        """End the leases: the subscription delivers the messages again at once."""

    def send_again(self, letters: Sequence[DeadLetter]) -> None:
        """Publish all letters to the source topic, or none; return after the confirmation."""

    def remove(self, held: Collection[HeldLetter]) -> None:
        """Acknowledge the messages, so that the subscription deletes the messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedDeadLetters:
    """Leased messages, oldest copy first; with *more* there may be messages beyond the limit."""

    held: Sequence[HeldLetter]
    more: bool


@contextmanager
def looking(queue: DeadLetterQueue, limit: int) -> Iterator[LeasedDeadLetters]:
    """Lease up to *limit* messages for the duration of the block; then give back every message not removed."""
    held: dict[str, HeldLetter] = {}
    try:
        more = _take_all(queue, limit, held)
        yield LeasedDeadLetters(held=sorted(held.values(), key=_age), more=more)
    finally:
        # For a removed message the lease has ended, so giving back changes no message.
        queue.give_back(held.values())


def _take_all(queue: DeadLetterQueue, limit: int, held: dict[str, HeldLetter]) -> bool:
    size = 0
    while len(held) < limit and size < HELD_BYTES_MAX:
        known = len(held)
        for leased in queue.take(min(TAKE_MAX, limit - known)):
            size += len(leased.letter.data)
            # A message delivered again has lost the earlier lease: only the newest lease counts.
            held[leased.letter.message_id] = leased
        if len(held) == known:
            return False
    return True


def _age(held: HeldLetter) -> tuple[object, str]:
    return held.letter.published_at, held.letter.message_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Selection of messages: by reason, by id of the copy or of the first message; empty sets select all."""

    reasons: frozenset[str] = frozenset()
    message_ids: frozenset[str] = frozenset()

    def takes(self, letter: DeadLetter) -> bool:
        """Whether *letter* is selected."""
        by_reason = not self.reasons or letter.reason in self.reasons
        by_id = not self.message_ids or bool(self.message_ids & {letter.message_id, letter.original_message_id})
        return by_reason and by_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Messages to publish again, and selected messages that stay, each with the reason."""

    chosen: Sequence[HeldLetter]
    left: Sequence[tuple[DeadLetter, str]]


def plan_redrive(look: LeasedDeadLetters, selection: Selection, *, count_max: int, subscription: str) -> Plan:
    """Return the messages to publish again.

    Args:
        look: Leased messages.
        selection: Messages asked for.
        count_max: Limit of messages.
        subscription: Short name of the worker's subscription: a message forwarded from another subscription stays.
    """
    chosen: list[HeldLetter] = []
    left: list[tuple[DeadLetter, str]] = []
    for held in look.held:
        if not selection.takes(held.letter):
            continue
        why = _obstacle(held.letter, subscription) or ("beyond --max" if len(chosen) >= count_max else None)
        if why is None:
            chosen.append(held)
        else:
            left.append((held.letter, why))
    return Plan(chosen=chosen, left=left)


def _obstacle(letter: DeadLetter, subscription: str) -> str | None:
    if letter.redriven >= REDRIVES_MAX:
        return f"sent again {letter.redriven} times already, {REDRIVES_MAX} is the most"
    if letter.truncated:
        return "only the beginning of its body was kept"
    if letter.source_subscription not in {None, subscription}:
        return f"it belongs to the subscription {letter.source_subscription}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """Result of a redrive.

    Attributes:
        sent: Messages published again and confirmed, in order.
        removed: Number of sent messages that were also removed from the dead letters.
        error: The error that stopped the redrive, None without an error.
    """

    sent: Sequence[DeadLetter]
    removed: int
    error: PipelineError | None


def redrive(
    queue: DeadLetterQueue, chosen: Sequence[HeldLetter], progress: Callable[[int], None] = lambda _count: None
) -> Redriven:
    """Publish *chosen* batch by batch and remove each batch after the confirmation; stop at the first error."""
    sent: list[DeadLetter] = []
    removed = 0
    try:
        for batch in _batches(chosen):
            letters = [held.letter for held in batch]
            queue.send_again(letters)
            sent += letters
            queue.remove(batch)
            removed += len(batch)
            progress(removed)
    except PipelineError as exc:
        return Redriven(sent=sent, removed=removed, error=exc)
    return Redriven(sent=sent, removed=removed, error=None)


def _batches(chosen: Sequence[HeldLetter]) -> Iterator[list[HeldLetter]]:
    batch: list[HeldLetter] = []
    size = 0
    for held in chosen:
        length = len(held.letter.data)
        full = len(batch) == BATCH_MAX or size + length > BATCH_BYTES_MAX
        if batch and (full or batch[0].letter.ordering_key != held.letter.ordering_key):
            yield batch
            batch, size = [], 0
        batch.append(held)
        size += length
    if batch:
        yield batch
