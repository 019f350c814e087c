"""What an account of the state store must be allowed to do. Each command is tried on scratch keys, removed again.

`ACL DRYRUN` would say it without trying, and is itself a right that a worker does not need.
"""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from worker.adapters.redis_client import translated

# Asked for at the start and in `mlfs doctor`; without them only those checks are left out.
OPTIONAL = ("INFO",)
# Should the worker die between the commands, what they made is gone after this.
SCRATCH_KEPT_MS = 60_000


def trials(key: str, *, replicas: int) -> Iterator[tuple[Any, ...]]:
    """Make one harmless call of every command that the product sends or that its script calls.

    Args:
        key: Beginning of the names of the keys that may be made.
        replicas: With one or more, WAIT is needed, too.
    """
    text, fields, ordered, listed, stream, copied = (f"{key}:{kind}" for kind in ("s", "h", "z", "l", "x", "c"))
    yield from (
        ("TIME",),
        ("SET", text, "1", "PX", SCRATCH_KEPT_MS),
        ("EXISTS", text),
        ("TYPE", text),
        ("HSET", fields, "v", "1"),
        ("HMGET", fields, "v"),
        ("HGETALL", fields),
        ("HDEL", fields, "w"),
        ("PEXPIRE", fields, SCRATCH_KEPT_MS),
        ("ZADD", ordered, "1", "m"),
        ("PEXPIRE", ordered, SCRATCH_KEPT_MS),
        ("ZSCORE", ordered, "m"),
        ("ZRANGEBYSCORE", ordered, "-inf", "+inf"),
        ("ZREVRANGE", ordered, "0", "0"),
        ("ZREM", ordered, "m"),
        ("ZREMRANGEBYSCORE", ordered, "2", "+inf"),
        ("RPUSH", listed, "m"),
        ("PEXPIRE", listed, SCRATCH_KEPT_MS),
        ("LTRIM", listed, "-1", "-1"),
        ("LRANGE", listed, "0", "-1"),
        ("LREM", listed, "1", "m"),
        ("XADD", stream, "1-1", "f", "v"),
        ("PEXPIRE", stream, SCRATCH_KEPT_MS),
        ("XLEN", stream),
        ("XRANGE", stream, "-", "+"),
        ("XREVRANGE", stream, "+", "-"),
        ("XDEL", stream, "1-1"),
        ("COPY", text, copied, "REPLACE"),
        ("RENAME", copied, f"{copied}:2"),
        ("PERSIST", copied),
        ("SCAN", "0", "COUNT", "1"),
        ("SCRIPT", "LOAD", "return 1"),
        ("EVALSHA", "0" * 40, "0"),
        ("WATCH", text),
        ("UNWATCH",),
        ("MULTI",),
        ("EXEC",),
        ("INFO", "memory"),
    )
    if replicas:
        yield ("WAIT", "0", "1")
    yield ("DEL", text, fields, ordered, listed, stream, copied, f"{copied}:2")


def missing_rights(client: redis.Redis, tag: str, *, replicas: int) -> Sequence[str]:
    """Name the commands that the account may not run, and the pattern of keys where it may not use those.

    Raises:
        Unavailable: The server does not serve.
    """
    denied: list[str] = []
    # One connection for all of them: WATCH and MULTI are of a connection.
    with translated(client), client.client() as one:
        for call in trials(f"{tag}:rights:{uuid.uuid4().hex}", replicas=replicas):
            try:
                one.execute_command(*call)
            except redis.ResponseError as exc:
                # Any other refusal has another reason: a full or read-only server, no such key, no such script.
                if isinstance(exc, redis.exceptions.NoPermissionError) or "NOPERM" in str(exc):
                    denied.append(_right(call, str(exc), tag))
    return [right for right in dict.fromkeys(denied) if right]


def _right(call: Sequence[Any], answer: str, tag: str) -> str:
    command = f"{call[0]} {call[1]}" if call[0] == "SCRIPT" else str(call[0])
    if "key" in answer.lower():
        return f"this account of the state store may not use its keys: ~{tag}:*"
    if command in OPTIONAL:
        return ""
    return f"this account of the state store may not run {command}: +{command.lower().replace(' ', '|')}"
