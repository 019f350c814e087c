"""Remembers requests in Redis, beside the state: every replica sees the same, and each entry expires by itself."""

import json
from datetime import timedelta
from typing import cast

import redis

from worker.errors import Unavailable
from worker.ports import Remembered


class RedisRequests:
    """The `RequestLog` port on a Redis-compatible server."""

    def __init__(self, client: redis.Redis, pipeline: str) -> None:
        """Use a connected client, made by `redis_store.connect`."""
        self._client = client
        self._tag = f"{{mlfs:{pipeline}}}"

    def _key(self, key: str) -> str:
        return f"{self._tag}:request:{key}"

    def begin(self, key: str, fingerprint: str, keep: timedelta) -> Remembered | None:
        """Set the key where it is free, and read it where it is not, in one command."""
        entry = json.dumps({"fingerprint": fingerprint, "answer": None})
        try:
            found = cast("bytes | None", self._client.set(self._key(key), entry, nx=True, get=True, px=keep))
        except redis.RedisError as exc:
            raise Unavailable(f"the state store does not serve: {type(exc).__name__}: {exc}") from exc
        return None if found is None else Remembered(**json.loads(found))

    def finish(self, key: str, fingerprint: str, answer: str, keep: timedelta) -> None:
        """Replace the entry by one with the answer."""
        entry = json.dumps({"fingerprint": fingerprint, "answer": answer})
        try:
            self._client.set(self._key(key), entry, px=keep)
        except redis.RedisError as exc:
            raise Unavailable(f"the state store does not serve: {type(exc).__name__}: {exc}") from exc

    def forget(self, key: str) -> None:
        """Delete the entry."""
        try:
            self._client.delete(self._key(key))
        except redis.RedisError as exc:
            raise Unavailable(f"the state store does not serve: {type(exc).__name__}: {exc}") from exc
