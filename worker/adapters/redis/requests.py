"""Log of idempotent requests in Redis: every replica sees the same entries, and each entry expires.

Setting a free key and reading a taken key are a single command, so only one caller starts a request. A crash after
`begin` leaves an entry without an answer until the entry expires.
"""

import json
from datetime import timedelta
from typing import cast

import redis

from worker.adapters.redis.client import is_wrong_type, key_tag, repeating, translated
from worker.adapters.redis.damage import Damage
from worker.adapters.redis.fields import UNREADABLE
from worker.errors import Refused
from worker.ports import Remembered


class RedisRequests:
    """The `RequestLog` port on a Redis-compatible server."""

    def __init__(self, client: redis.Redis, pipeline: str, damage: Damage | None = None) -> None:
        """Store *client*, made by `client.connect`; report unreadable entries to *damage*."""
        self._client = client
        self._damage = damage or Damage()
        self._tag = key_tag(pipeline)

    def _key(self, key: str) -> str:
        return f"{self._tag}:request:{key}"

    def begin(self, key: str, fingerprint: str, keep: timedelta) -> Remembered | None:
        """Set a free key, or read the entry of a taken key, in a single command."""
        entry = json.dumps({"fingerprint": fingerprint, "answer": None})
        with translated(self._client):
            try:
                found = cast("bytes | None", self._client.set(self._key(key), entry, nx=True, get=True, px=keep))
            except redis.ResponseError as exc:
                if not is_wrong_type(exc):
                    raise
                found = b""
        return None if found is None else self._remembered(found)

    def _remembered(self, stored: bytes) -> Remembered:
        """Read an entry.

        Raises:
            Refused: The entry is unreadable, so the outcome of the request is unknown. Other keys are unaffected.
        """
        try:
            remembered = Remembered(**json.loads(stored))
            if not isinstance(remembered.fingerprint, str) or not isinstance(remembered.answer, str | None):
                raise TypeError("fingerprint and answer are texts")
        except UNREADABLE as exc:
            self._damage.member("request", stored, f"{type(exc).__name__}: {exc}")
            raise Refused(
                "the stored entry of an earlier request under this idempotency key is unreadable; see with "
                "mlfs history DATE whether the request took effect, and repeat the request under a new key"
            ) from exc
        return remembered

    def finish(self, key: str, fingerprint: str, answer: str, keep: timedelta) -> None:
        """Replace the entry by an entry with the answer."""
        entry = json.dumps({"fingerprint": fingerprint, "answer": answer})
        repeating(self._client, lambda: self._client.set(self._key(key), entry, px=keep))

    def forget(self, key: str) -> None:
        """Delete the entry."""
        repeating(self._client, lambda: self._client.delete(self._key(key)))
