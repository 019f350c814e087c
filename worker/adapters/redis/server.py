"""Checks of the configuration of a Redis-compatible server. No check changes the server.

A worker refuses to start on a server that may discard state; `mlfs doctor` names every fault.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from worker.adapters.redis.client import repeating
from worker.errors import Denied, Fatal

VERSION_MIN = (7, 0)
# Leases, deadlines and retry delays are instants of the workers' clocks; none needs more precision than a second.
CLOCK_SKEW_MAX = timedelta(seconds=2)


def server_faults(client: redis.Redis, *, replicas: int) -> list[str]:
    """Return a sentence for each fault of the server: role, memory policy, version, persistence.

    Args:
        client: Connected.
        replicas: Replicas that must hold a commit; above 0, the server need not write to disk.

    Raises:
        Unavailable: The server does not answer.
    """
    info: dict[str, Any] = {
        key: value
        for section in ("server", "memory", "replication", "persistence")
        for key, value in _info(client, section).items()
    }
    return list(_faults(info, replicas))


def check_server(client: redis.Redis) -> None:
    """Refuse a server that may discard state; log a warning where the account may not run INFO.

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


def _faults(info: Mapping[str, Any], replicas: int) -> Iterator[str]:
    """Yield the faults; a value that a managed service hides is no fault."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield f"maxmemory-policy is {policy}, so dates could vanish when memory is full; set it to noeviction"
    role = info.get("role", "master")
    if role != "master":
        yield f"the server is a {role}; name the primary in MLFS_REDIS_URL"
    # Valkey answers redis_version with the compatible version of Redis.
    version = str(info.get("redis_version", ""))
    if version and _version(version) < VERSION_MIN:
        yield f"version {version} is too old, {VERSION_MIN[0]}.{VERSION_MIN[1]} is needed"
    if str(info.get("aof_enabled", "1")) == "0" and not replicas:
        yield (
            "appendonly is off, so a crash of the server loses what was committed since the last snapshot; set "
            "appendonly yes, or name replicas in MLFS_REDIS_REPLICAS"
        )
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        if info.get(name, "ok") != "ok":
            yield f"{name} is {info[name]}: the server cannot write to its disk"
    connected = int(info.get("connected_slaves", replicas))
    if connected < replicas:
        yield f"{connected} replicas are connected, MLFS_REDIS_REPLICAS asks for {replicas}: no commit would count"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def clock_skew(client: redis.Redis, now: Callable[[], datetime]) -> timedelta:
    """Return server time minus local time; zero where the round trip explains the difference.

    Raises:
        redis.RedisError: The server does not answer.
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
