"""What a Redis-compatible server tells of itself that could cost a night: for `mlfs doctor`. Changes nothing."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from worker.adapters.redis.client import repeating
from worker.errors import Denied, Fatal

VERSION_MIN = (7, 0)
# Leases, deadlines and retry delays are instants of the workers' clocks; a second more or less harms none of them.
CLOCK_SKEW_MAX = timedelta(seconds=2)


def server_faults(client: redis.Redis, *, replicas: int) -> list[str]:
    """Name what is wrong with the server: role, memory policy, version, persistence.

    Args:
        client: Connected.
        replicas: Replicas that must hold a commit; with one or more, a server need not write to disk itself.

    Raises:
        Unavailable: It does not answer.
    """
    told: dict[str, Any] = {
        key: value
        for section in ("server", "memory", "replication", "persistence")
        for key, value in _info(client, section).items()
    }
    return list(_faults(told, replicas))


def check_server(client: redis.Redis) -> None:
    """Refuse a server that may throw state away; say so where the account may not ask.

    Raises:
        Fatal: The server evicts keys when its memory is full, or is a read-only replica.
        Unavailable: The server does not serve.
    """
    try:
        policy = _info(client, "memory").get("maxmemory_policy", "noeviction")
        role = _info(client, "replication").get("role", "master")
    except Denied as exc:
        _log().warning("store_not_checked", unchecked="memory policy, role", error=str(exc))
        return
    if policy != "noeviction":
        raise Fatal(
            f"the state store evicts keys when its memory is full (maxmemory-policy {policy}), so dates could "
            "vanish without an error; set maxmemory-policy to noeviction"
        )
    if role != "master":
        raise Fatal(f"the state store at this address is a {role}; name the primary in MLFS_REDIS_URL")


def _info(client: redis.Redis, section: str) -> Mapping[str, Any]:
    return repeating(client, lambda: client.info(section))


def _faults(told: Mapping[str, Any], replicas: int) -> Iterator[str]:
    """What a managed service does not tell is no fault."""
    policy = told.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield f"maxmemory-policy is {policy}, so dates could vanish when memory is full; set it to noeviction"
    role = told.get("role", "master")
    if role != "master":
        yield f"the server is a {role}; name the primary in MLFS_REDIS_URL"
    # Valkey answers redis_version with the version of Redis that it is compatible with.
    version = str(told.get("redis_version", ""))
    if version and _version(version) < VERSION_MIN:
        yield f"version {version} is too old, {VERSION_MIN[0]}.{VERSION_MIN[1]} is needed"
    if str(told.get("aof_enabled", "1")) == "0" and not replicas:
        yield (
            "appendonly is off, so a crash of the server loses what was committed since the last snapshot; set "
            "appendonly yes, or name replicas in MLFS_REDIS_REPLICAS"
        )
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        if told.get(name, "ok") != "ok":
            yield f"{name} is {told[name]}: the server cannot write to its disk"
    connected = int(told.get("connected_slaves", replicas))
    if connected < replicas:
        yield f"{connected} replicas are connected, MLFS_REDIS_REPLICAS asks for {replicas}: no commit would count"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def clock_skew(client: redis.Redis, now: Callable[[], datetime]) -> timedelta:
    """Give how far the server's clock is ahead of ours, less what the way there can explain.

    Raises:
        redis.RedisError: It does not answer.
    """
    before = now()
    seconds, microseconds = client.time()
    after = now()
    theirs = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)
    if before <= theirs <= after:
        return timedelta(0)
    return theirs - (after if theirs > after else before)


def _log() -> Any:  # noqa: ANN401 - structlog's own type is decided when first used
    """Return the logger of this module; structlog is not imported for a command that logs nothing."""
    import structlog  # noqa: PLC0415

    return structlog.get_logger(__name__)
