"""Notes beside the records in Redis: what the bus answered to an outcome.

The hash of notes expires by itself, because a worker that dies leaves its note behind.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import cast

import redis

from worker.adapters.redis_client import repeating, translated
from worker.ports import OutboxEntry

# Refusals are noted again each second while they last.
REFUSED_KEPT = timedelta(days=1)


class RedisNotes:
    """The part of the `StateStore` port about notes; `RedisStore` brings the client and the names of its keys."""

    _client: redis.Redis
    _tag: str

    def _key(self, *parts: str) -> str:
        return ":".join((self._tag, *parts))

    def note_refused(self, entry_id: str, error: str) -> None:
        """Write into the hash of errors; the whole hash goes a day after the last one.

        Another worker may have published and removed the entry meanwhile: what is noted then goes with the hash.
        """
        key = self._key("refused")
        with translated(self._client), self._client.pipeline(transaction=True) as pipe:
            pipe.hset(key, entry_id, error)
            pipe.pexpire(key, REFUSED_KEPT)
            pipe.execute()

    def with_errors(self, entries: list[OutboxEntry]) -> Sequence[OutboxEntry]:
        """Return the entries with what was noted of them."""
        if not entries:
            return entries
        names = [entry.entry_id for entry in entries]
        errors = repeating(
            self._client, lambda: cast("list[bytes | None]", self._client.hmget(self._key("refused"), names))
        )
        return [
            replace(entry, error=error.decode(errors="replace")) if error else entry
            for entry, error in zip(entries, errors, strict=True)
        ]
