"""Notes beside the records in Redis: what the bus answered to an outcome.

The hash of notes expires by itself, because a worker that dies leaves its note behind. A key of another type in its
place is set aside: outcomes are told without what was noted of them.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import redis

from worker.adapters.redis_client import is_wrong_type, repeating, translated
from worker.adapters.redis_indexes import RedisIndexes
from worker.ports import OutboxEntry

# Refusals are noted again each second while they last.
REFUSED_KEPT = timedelta(days=1)


class RedisNotes(RedisIndexes):
    """The part of the `StateStore` port about notes, and the outbox with them."""

    def outbox(self, limit: int, after: str = "") -> Sequence[OutboxEntry]:
        """Read the outbox stream, each entry with the note about its refusal."""
        entries = super().outbox(limit, after)
        if not entries:
            return entries
        errors = self._errors([entry.entry_id for entry in entries])
        return [
            replace(entry, error=error.decode(errors="replace")) if error else entry
            for entry, error in zip(entries, errors or [None] * len(entries), strict=True)
        ]

    def _errors(self, entry_ids: Sequence[str]) -> Sequence[bytes | None]:
        """Read what was noted of the entries; nothing where the key holds a value of another type."""
        key = self._key("refused")
        return self._read("refused", lambda: cast("list[bytes | None]", self._client.hmget(key, entry_ids)))

    def remove_from_outbox(self, entry_id: str) -> None:
        """Delete one entry of the outbox stream, and in the same step the note about its refusal."""

        def remove() -> list[Any]:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.xdel(self._key("outbox"), entry_id)
                pipe.hdel(self._key("refused"), entry_id)
                return _answers(pipe)

        for name, answer in zip(("outbox", "refused"), repeating(self._client, remove), strict=True):
            if isinstance(answer, redis.RedisError):
                self._damage.key(name)

    def read_everything(self) -> None:
        """Read the notes, too."""
        super().read_everything()
        self._errors([""])

    def note_refused(self, entry_id: str, error: str) -> None:
        """Write into the hash of errors; the whole hash goes a day after the last one.

        Another worker may have published and removed the entry meanwhile: what is noted then goes with the hash.
        """
        for _ in range(2):
            with translated(self._client), self._client.pipeline(transaction=True) as pipe:
                pipe.hset(self._key("refused"), entry_id, error)
                pipe.pexpire(self._key("refused"), REFUSED_KEPT)
                noted, _expires = _answers(pipe)
            if not isinstance(noted, redis.RedisError):
                return
            self._damage.key("refused")


def _answers(pipe: Any) -> list[Any]:  # noqa: ANN401 - the client is untyped
    """Run a transaction; return its answers, an error about a key of another type among them, and raise any other."""
    answers: list[Any] = pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, redis.RedisError) and not is_wrong_type(answer):
            raise answer
    return answers
