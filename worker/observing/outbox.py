"""Outcomes in the outbox without a confirmation of the bus.

An entry leaves the outbox only after the bus has confirmed the message. Therefore Phase 5 has got every outcome of an
analysis date without an entry in the outbox. Every replica and every command reads the same outbox. Reading changes no
state.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated

from pydantic import Field, PlainSerializer

from worker.ports import OutboxEntry, StateStore

PAGE = 500
# Enough for an outage of the bus during a month of backfills. Later entries are not read.
PAGES_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """The newest outcome of an analysis date in the outbox.

    Attributes:
        event_id: Id of the outcome message.
        topic: Topic of the message.
        generation: Generation of the outcome.
        since: Instant of the commit; None if the store keeps no time. UTC.
    """

    event_id: str
    topic: str
    state: Annotated[str, Field(description="`done`, `degraded` or `failed`")]
    generation: int
    since: Annotated[datetime | None, PlainSerializer(lambda at: at and at.isoformat(), return_type=str | None)]
    error: Annotated[str, Field(description="Error of the last publish to the topic; empty without an error.")]


def untold_by_date(store: StateStore) -> Mapping[date, Untold]:
    """Return the newest outcome in the outbox by analysis date.

    Raises:
        Unavailable: The store does not answer.
    """
    found: dict[date, Untold] = {}
    errors: dict[str, str] = {}
    for entry in _waiting(store):
        message = entry.message
        errors[message.topic] = entry.error or errors.get(message.topic, "")
        try:
            day = date.fromisoformat(message.ordering_key)
            generation = int(message.attributes["generation"])
        except (KeyError, ValueError):  # the message is no outcome of an analysis date
            continue
        found[day] = Untold(
            event_id=message.event_id,
            topic=message.topic,
            state=message.attributes.get("state", "unknown"),
            generation=generation,
            since=entry.queued_at,
            # The relay does not publish a message behind a refused message.
            error=entry.error or errors[message.topic],
        )
    return found


def _waiting(store: StateStore) -> Iterator[OutboxEntry]:
    after = ""
    for _ in range(PAGES_MAX):
        entries = store.outbox(PAGE, after)
        yield from entries
        if len(entries) < PAGE:
            return
        after = entries[-1].entry_id
