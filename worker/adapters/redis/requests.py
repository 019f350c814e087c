"""Remembers requests in Redis, beside the state: every replica sees the same, and each entry expires by itself."""

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
        """Use a connected client, made by `client.connect`; an unreadable entry is told to *damage*."""
        self._client = client
        self._damage = damage or Damage()
        self._tag = key_tag(pipeline)

    def _key(self, key: str) -> str:
        return f"{self._tag}:request:{key}"

    def begin(self, key: str, fingerprint: str, keep: timedelta) -> Remembered | None:
        """Set the key where it is free, and read it where it is not, in one command."""
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
            Refused: It is unreadable, so nothing says whether the request took effect. Only its own key suffers.
        """
        try:
            remembered = Remembered(**json.loads(stored))
            if not isinstance(remembered.fingerprint, str) or not isinstance(remembered.answer, str | None):
                raise TypeError("fingerprint and answer are texts")
        except UNREADABLE as exc:
            self._damage.member("request", stored, f"{type(exc).__name__}: {exc}")
            raise Refused(
                "what is remembered of an earlier request under this idempotency key is unreadable; see by "
                "mlfs history DATE whether the request took effect, and repeat it under a new key"
            ) from exc
        return remembered

    def finish(self, key: str, fingerprint: str, answer: str, keep: timedelta) -> None:
        """Replace the entry by one with the answer."""
        entry = json.dumps({"fingerprint": fingerprint, "answer": answer})
        repeating(self._client, lambda: self._client.set(self._key(key), entry, px=keep))

    def forget(self, key: str) -> None:
        """Delete the entry."""
        repeating(self._client, lambda: self._client.delete(self._key(key)))
