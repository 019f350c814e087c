"""Outcomes that nobody has been told yet, as the outbox holds them.

"Phase 5 was told" is true of a date whose outcomes have all left the outbox: an entry leaves the outbox only after the
bus has confirmed the message. Every replica and every command reads the same outbox.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from worker.ports import OutboxEntry, StateStore

PAGE = 500
# The outbox of a bus that was away for a month of backfills; what lies further back is not looked at.
PAGES_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """The newest outcome of a date that waits in the outbox.

    Attributes:
        event_id: Of the outcome message.
        topic: Where it goes.
        state: What it says of the date: done, degraded or failed.
        generation: Of which generation.
        since: Since when it waits; None where the store keeps no time. UTC.
        error: What the last try to publish it met, or to publish another outcome to its topic; empty before the first.
    """

    event_id: str
    topic: str
    state: str
    generation: int
    since: datetime | None
    error: str

    def facts(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"since": None if self.since is None else self.since.isoformat()}


def untold_by_date(store: StateStore) -> Mapping[date, Untold]:
    """Return the newest waiting outcome of each date that has one.

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
        except (KeyError, ValueError):  # no outcome of a date
            continue
        found[day] = Untold(
            event_id=message.event_id,
            topic=message.topic,
            state=message.attributes.get("state", "unknown"),
            generation=generation,
            since=entry.queued_at,
            # A message behind one that was refused is not tried itself.
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
