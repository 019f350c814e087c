"""The relay: publishes the outbox and removes a message after the bus has confirmed the message.

Guarantees: every message is published at least once, and the messages of an analysis date in order.

A crash before the confirmation leaves the message in the outbox. After a crash between the confirmation and the
removal, the next pass publishes the message again under the same event id; consumers drop the repeat.
"""

from collections import Counter
from dataclasses import dataclass

import structlog
from opentelemetry.trace import Tracer

from worker.observing.observer import Observer, OutcomeRelayed
from worker.observing.tracing import NO_SPANS, publishing
from worker.ports import OutboxEntry, Publisher, StateStore

log = structlog.get_logger(__name__)

BATCH_MAX = 100
# After so many refusals by a topic, a pass publishes no more messages to the topic: each refusal may take a time-out.
REFUSALS_MAX = 3
# Length of the stored error of the bus; pages and commands show the error.
ERROR_CHARS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayed:
    """Figures of one pass."""

    published: int
    left: int


class Relay:
    """Moves outcome messages from the store to the bus."""

    def __init__(
        self, *, store: StateStore, publisher: Publisher, observer: Observer, tracer: Tracer = NO_SPANS
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._observer = observer
        self._tracer = tracer

    def run_once(self) -> Relayed:
        """Publish the waiting messages; a failure delays later messages of the same ordering key to the next pass."""
        published = left = 0
        blocked: set[str] = set()
        refusals: Counter[str] = Counter()
        after = ""
        while True:
            entries = self._store.outbox(BATCH_MAX, after)
            done = sum(self._relay(entry, blocked, refusals) for entry in entries)
            published += done
            left += len(entries) - done
            if done or len(entries) < BATCH_MAX:
                return Relayed(published=published, left=left)
            # No message of this batch was published. Read on, so that the batch hides no message behind the batch.
            after = entries[-1].entry_id

    def _relay(self, entry: OutboxEntry, blocked: set[str], refusals: Counter[str]) -> bool:
        message = entry.message
        if message.ordering_key in blocked or refusals[message.topic] >= REFUSALS_MAX:
            return False
        try:
            with publishing(self._tracer, message) as traced:
                message_id = self._publisher.publish(traced)
        except Exception as exc:  # noqa: BLE001 - logged; the next pass publishes again
            # Catch every exception: an outcome that breaks the publisher holds back no other analysis date.
            blocked.add(message.ordering_key)
            refusals[message.topic] += 1
            self._store.note_refused(entry.entry_id, str(exc)[:ERROR_CHARS_MAX] or type(exc).__name__)
            log.warning("outcome_not_published", event_id=message.event_id, kind=type(exc).__name__, error=str(exc))
            self._observer.note(OutcomeRelayed(message=message, confirmed=False))
            return False
        self._store.remove_from_outbox(entry.entry_id)
        log.info("outcome_published", event_id=message.event_id, topic=message.topic, message_id=message_id)
        self._observer.note(OutcomeRelayed(message=message, confirmed=True))
        return True
