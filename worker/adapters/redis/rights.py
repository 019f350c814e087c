"""Rights that a worker's account needs in the state store, tried command by command on scratch keys.

`ACL DRYRUN` would answer without a trial, but needs a right that a worker does not need otherwise. A crash between the
calls leaves scratch keys, which expire after a minute.
"""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from worker.adapters.redis.client import translated

# Commands used at the start and by `mlfs doctor` only. Without the right, only the checks with these commands are left
# out.
OPTIONAL = ("INFO",)
# A harmless call of every command that the product or the script sends, on scratch keys {key}:….
TRIALS = """
    TIME
    SET {key}:s 1 PX 60000
    EXISTS {key}:s
    TYPE {key}:s
    HSET {key}:h v 1
    PEXPIRE {key}:h 60000
    HMGET {key}:h v
    HGETALL {key}:h
    HDEL {key}:h w
    ZADD {key}:z 1 m
    PEXPIRE {key}:z 60000
    ZSCORE {key}:z m
    ZRANGEBYSCORE {key}:z -inf +inf
    ZREVRANGE {key}:z 0 0
    ZREM {key}:z m
    ZREMRANGEBYSCORE {key}:z 2 +inf
    RPUSH {key}:l m
    PEXPIRE {key}:l 60000
    LTRIM {key}:l -1 -1
    LRANGE {key}:l 0 -1
    LREM {key}:l 1 m
    XADD {key}:x 1-1 f v
    PEXPIRE {key}:x 60000
    XLEN {key}:x
    XRANGE {key}:x - +
    XREVRANGE {key}:x + -
    XDEL {key}:x 1-1
    COPY {key}:s {key}:c REPLACE
    RENAME {key}:c {key}:d
    PERSIST {key}:d
    SCAN 0 COUNT 1
    SCRIPT LOAD return
    EVALSHA 0000000000000000000000000000000000000000 0
    WATCH {key}:s
    UNWATCH
    MULTI
    EXEC
    INFO memory
"""
REPLICA_TRIALS = "WAIT 0 1"
CLEAN_UP = "DEL {key}:s {key}:h {key}:z {key}:l {key}:x {key}:c {key}:d"


def trials(key: str, *, replicas: int) -> Iterator[Sequence[str]]:
    """Return the calls that try the rights of an account.

    Args:
        key: Beginning of the names of the scratch keys.
        replicas: Above 0, WAIT is needed, too.
    """
    calls = [*TRIALS.strip().splitlines(), *([REPLICA_TRIALS] if replicas else []), CLEAN_UP]
    return (call.format(key=key).split() for call in calls)


def missing_rights(client: redis.Redis, tag: str, *, replicas: int) -> Sequence[str]:
    """Return a sentence for each command, and for the key pattern, denied to the account.

    Raises:
        Unavailable: The server does not serve.
    """
    denied: list[str] = []
    # A single connection for all calls: WATCH and MULTI belong to a connection.
    with translated(client), client.client() as connection:
        for call in trials(f"{tag}:rights:{uuid.uuid4().hex}", replicas=replicas):
            try:
                connection.execute_command(*call)
            except redis.ResponseError as exc:
                # Any other error has another reason: a full or read-only server, no such key, no such script.
                if isinstance(exc, redis.exceptions.NoPermissionError) or "NOPERM" in str(exc):
                    denied.append(_right(call, str(exc), tag))
                elif "unknown command" in str(exc).lower() and call[0] not in OPTIONAL:
                    denied.append(
                        f"the state store's server has renamed or switched off {call[0]}; the worker needs it"
                    )
    return [right for right in dict.fromkeys(denied) if right]


def _right(call: Sequence[Any], answer: str, tag: str) -> str:
    command = f"{call[0]} {call[1]}" if call[0] == "SCRIPT" else str(call[0])
    if "key" in answer.lower():
        return f"this account of the state store may not use its keys: ~{tag}:*"
    if command in OPTIONAL:
        return ""
    return f"this account of the state store may not run {command}: +{command.lower().replace(' ', '|')}"
