"""Notes beside the records in Redis: what the bus answered to an outcome, and the audit rows that commands ask for.

Both are hashes that expire by themselves, because a command or a worker that dies leaves its note behind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import cast

import redis

from worker.adapters.redis_client import repeating, translated
from worker.ports import WRITTEN, OutboxEntry

# Refusals are noted again each second while they last.
REFUSED_KEPT = timedelta(days=1)
# Longer than a command waits for the worker to write its audit row.
AUDIT_KEPT = timedelta(minutes=2)


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

    def ask_audit(self, request_id: str, row: bytes) -> None:
        """Write into the hash of rows that wait; what a killed command leaves behind goes by itself."""
        self._note_audit(request_id, row)

    def confirm_audit(self, request_id: str) -> None:
        """Overwrite the row in that hash."""
        self._note_audit(request_id, WRITTEN)

    def _note_audit(self, request_id: str, note: bytes) -> None:
        key = self._key("audits")
        with translated(self._client), self._client.pipeline(transaction=True) as pipe:
            pipe.hset(key, request_id, note)
            pipe.pexpire(key, AUDIT_KEPT)
            pipe.execute()

    def audits_asked(self) -> Mapping[str, bytes]:
        """Read that hash."""
        rows = repeating(self._client, lambda: cast("dict[bytes, bytes]", self._client.hgetall(self._key("audits"))))
        return {name.decode(): row for name, row in rows.items()}

    def settle_audit(self, request_id: str) -> None:
        """Delete one row of that hash."""
        with translated(self._client):
            self._client.hdel(self._key("audits"), request_id)
