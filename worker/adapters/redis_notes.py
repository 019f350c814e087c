"""Notes beside the records in Redis: what the bus answered to an outcome, and the audit rows that commands ask for.

Both are hashes that expire by themselves, because a command or a worker that dies leaves its note behind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from worker.adapters.redis_indexes import RedisIndexes
from worker.ports import OutboxEntry

# Refusals are noted again each second while they last.
REFUSED_KEPT = timedelta(days=1)
# Longer than a command waits for the worker to write its audit row.
AUDIT_KEPT = timedelta(minutes=2)


class RedisNotes(RedisIndexes):
    """The part of the `StateStore` port about notes."""

    def note_refused(self, entry_id: str, error: str) -> None:
        """Write into the hash of errors; the whole hash goes a day after the last one.

        Another worker may have published and removed the entry meanwhile: what is noted then goes with the hash.
        """
        self._note("refused", entry_id, error, REFUSED_KEPT)

    def _note(self, name: str, field: str, value: str | bytes, kept: timedelta) -> None:
        key = self._key(name)

        def write() -> list[Any]:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.hset(key, field, value)
                pipe.pexpire(key, kept)
                return pipe.execute()

        self._write(name, write)

    def with_errors(self, entries: list[OutboxEntry]) -> Sequence[OutboxEntry]:
        """Return the entries with what was noted of them."""
        if not entries:
            return entries
        names = [entry.entry_id for entry in entries]
        errors = self._read(
            "refused", lambda: cast("list[bytes | None]", self._client.hmget(self._key("refused"), names))
        )
        return [
            replace(entry, error=error.decode(errors="replace")) if error else entry
            for entry, error in zip(entries, errors or [None] * len(entries), strict=True)
        ]

    def ask_audit(self, request_id: str, row: bytes) -> None:
        """Write into the hash of rows that wait; what a killed command leaves behind goes by itself."""
        self._note("audits", request_id, row, AUDIT_KEPT)

    def audits_asked(self) -> Mapping[str, bytes]:
        """Read that hash."""
        key = self._key("audits")
        rows = self._read("audits", lambda: list(cast("dict[bytes, bytes]", self._client.hgetall(key)).items()))
        asked: dict[str, bytes] = {}
        for name, row in rows:
            try:
                asked[name.decode()] = row
            except UnicodeDecodeError as exc:
                self._damage.member("audits", name, str(exc), ("HDEL", key, name))
        return asked

    def settle_audit(self, request_id: str) -> bool:
        """Delete one row of that hash."""
        return any(self._read("audits", lambda: [self._client.hdel(self._key("audits"), request_id)]))
