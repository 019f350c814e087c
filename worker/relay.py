"""Publishes what the outbox holds, at least once, in order, and forgets a message only when the bus has confirmed it.

A crash between the confirmation and the removal publishes again under the same event id; consumers drop the repeat.
"""

from collections import Counter
from dataclasses import dataclass

import structlog

from worker.observing.observer import Observer, OutcomeRelayed
from worker.observing.tracing import NO_TRACING, Tracing
from worker.ports import OutboxEntry, Publisher, StateStore

log = structlog.get_logger(__name__)

BATCH_MAX = 100
# A topic that refuses so often is left alone until the next pass: each refusal may take a time-out.
REFUSALS_MAX = 3
# Pages and commands show what the bus answered.
ERROR_CHARS_MAX = 500


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
            # A whole batch that cannot be published must not hide what stands behind it.
            after = entries[-1].entry_id

    def _relay(self, entry: OutboxEntry, blocked: set[str], refusals: Counter[str]) -> bool:
        message = entry.message
        if message.ordering_key in blocked or refusals[message.topic] >= REFUSALS_MAX:
            return False
        try:
            with self._tracing.publishing(message) as traced:
                message_id = self._publisher.publish(traced)
        except Exception as exc:  # noqa: BLE001 - logged, and tried again at the next pass
            # Whatever an outcome does to the publisher, the outcomes of other dates are still told.
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
