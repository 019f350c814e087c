"""Publishes what the outbox holds, at least once, in order, and forgets a message only when the bus has confirmed it.

A crash between the confirmation and the removal publishes again under the same event id; consumers drop the repeat.
"""

from dataclasses import dataclass

import structlog

from worker.errors import Unavailable
from worker.observer import Observer
from worker.ports import Publisher, StateStore
from worker.tracing import NO_TRACING, Tracing

log = structlog.get_logger(__name__)

BATCH_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayed:
    """What one pass did."""

    published: int
    left: int


class Relay:
    """Moves outcomes from the store to the bus."""

    def __init__(
        self, *, store: StateStore, publisher: Publisher, observer: Observer, tracing: Tracing = NO_TRACING
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._observer = observer
        self._tracing = tracing

    def run_once(self) -> Relayed:
        """Publish what is waiting; after a date's message fails, that date's later ones wait for the next pass."""
        entries = self._store.outbox(BATCH_MAX)
        published = 0
        blocked: set[str] = set()
        for entry in entries:
            message = entry.message
            if message.ordering_key in blocked:
                continue
            try:
                with self._tracing.publishing(message) as traced:
                    message_id = self._publisher.publish(traced)
            except Unavailable as exc:
                blocked.add(message.ordering_key)
                log.warning("outcome_not_published", event_id=message.event_id, error=str(exc))
                self._observer.relay_failed(message, str(exc))
                continue
            self._store.remove_from_outbox(entry.entry_id)
            published += 1
            log.info("outcome_published", event_id=message.event_id, topic=message.topic, message_id=message_id)
            self._observer.relayed(message, message_id)
        return Relayed(published=published, left=len(entries) - published)
