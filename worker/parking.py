"""Parking: a message that can never become a completion goes to the dead-letter topic, and a copy into the state store.

A parked message is acknowledged. A message that cannot be parked goes back to the bus, alone: no other message waits
for the dead-letter topic. After a failed publish, the topic is left alone for `PAUSE_S`; meanwhile each bad message
goes back at once. After a crash between the publish and the copy, the message comes again and is published to the
dead-letter topic a second time.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import structlog

from schemas.completion import Delivery, Refusal
from schemas.dead_letter import DATA_BYTES_MAX, parked_attributes, without_senders
from worker.errors import PipelineError, PublishRefused, Unavailable
from worker.observer import Observer
from worker.ports import Clock, OutgoingMessage, ParkedMessage, Publisher, StateStore

log = structlog.get_logger(__name__)

# The state store keeps the beginning of a body, enough for a person to recognise the sender.
COPY_BYTES_MAX = 2048
# A confirmed publish takes milliseconds. A thread that waits longer behind another thread's publish gives up, so that
# one of the two intake threads is always free for good messages.
TURN_MAX_S = 0.25
# So long a topic that took no message is left alone. Pub/Sub delivers again after about as long.
PAUSE_S = 5.0
# An exception that is raised for one message so often is a property of the message, not of the moment.
RAISES_MAX = 3
# Message ids are short: ten thousand of them take about two megabytes.
RAISES_KEPT_MAX = 10_000


class NotParked(PipelineError):
    """The dead-letter topic takes no message now. The message goes back to the bus; no other message is held."""


class Parking:
    """The way to the dead-letter topic. Thread-safe."""

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
        """Publish the message to the dead-letter topic, then keep a copy for people.

        Raises:
            NotParked: The topic took no message.
            Unavailable: The state store is away. The dead-letter topic has the message.
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
        self._observer.refused(refusal.reason.value, refusal.detail)

    def _publish_in_turn(self, message: OutgoingMessage) -> None:
        if self._closed_until is not None and self._stopwatch() < self._closed_until:
            raise NotParked(f"{self._topic} took no message a moment ago")
        if not self._turn.acquire(timeout=TURN_MAX_S):
            # Each further message of this thread's group would wait as long. A confirmation ends the pause.
            self._closed_until = self._stopwatch() + PAUSE_S
            raise NotParked(f"{self._topic} is slow: another message waits for its confirmation")
        try:
            self._publish(message)
        except Unavailable as exc:
            self._closed_until = self._stopwatch() + PAUSE_S
            next_step = "create the topic or grant roles/pubsub.publisher; the message comes again"
            log.error("dead_letter_topic_refuses", topic=self._topic, error=str(exc), next_step=next_step)
            self._observer.dead_letter_topic(self._topic, str(exc))
            raise NotParked(str(exc)) from exc
        else:
            self._closed_until = None
            self._observer.dead_letter_topic(self._topic, None)
        finally:
            self._turn.release()

    def _publish(self, message: OutgoingMessage) -> None:
        """Publish the copy; without the sender's attributes where the bus refuses the copy with them."""
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
            # The store refuses this one key. The dead-letter topic has the message, so the message need not come again.
            log.error("parked_copy_not_kept", message_id=delivery.message_id, error=str(exc))


class Raises:
    """How often an exception was raised for each message, in this process. Bounded and thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, int] = OrderedDict()

    def count(self, message_id: str) -> int:
        """Count one more exception; return how many there are."""
        with self._lock:
            count = self._counts.pop(message_id, 0) + 1
            self._counts[message_id] = count
            if len(self._counts) > RAISES_KEPT_MAX:
                self._counts.popitem(last=False)
        return count

    def forget(self, message_id: str) -> None:
        """Forget the message: it is stored or parked."""
        # Nearly always empty, so that a good message costs one comparison and no lock.
        if self._counts:
            with self._lock:
                self._counts.pop(message_id, None)
