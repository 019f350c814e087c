"""Client of the state store, with bounded waits and with the error families of `worker.errors`.

A pooled connection leads to the server behind the address at the time of connecting. After a failover moves the
address, the old server still answers PING and refuses each write. Therefore each error about the whole server, not
about a single key, closes the idle connections: the next call resolves the address again and signs in again.

The module keeps no state: a crash loses only open connections.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

from worker.clock import pause
from worker.errors import Denied, Unavailable

CALL_TIMEOUT_S = 2.0
# Number of tries of a call that may run twice. A try starts only within TRIES_WITHIN_S of the first try, so a server
# that does not answer costs a single time-out instead of four.
TRIES_MAX = 4
TRIES_WITHIN_S = 1.0
# First words of errors about a single key. Every other word (READONLY, LOADING, OOM ...) concerns the whole server.
_KEY_ERRORS = frozenset({"WRONGTYPE", "ERR"})
_WRONG_TYPE = re.compile(r"(Command # .* of pipeline caused error: )?WRONGTYPE ", re.DOTALL)
_BACKOFF = ExponentialWithJitterBackoff(base=0.05, cap=0.5)

_T = TypeVar("_T")


def connect(url: str) -> redis.Redis:
    """Return a client that waits at most two seconds for a call and never sends a command again by default."""
    return redis.Redis.from_url(
        url,
        socket_timeout=CALL_TIMEOUT_S,
        socket_connect_timeout=CALL_TIMEOUT_S,
        health_check_interval=15,
        client_name="mlfs",
        retry=Retry(NoBackoff(), 0),
    )


def key_tag(pipeline: str, part: str = "") -> str:
    """Return the start of every key of a pipeline, or of a part; the shared hash tag lets a script use all keys."""
    return f"{{mlfs:{pipeline}}}:{part}" if part else f"{{mlfs:{pipeline}}}"


def speaks_of_the_server(error: object) -> bool:
    """Return whether an answer is an error that every other call would get, too."""
    if isinstance(error, redis.ResponseError):
        word = getattr(error, "status_code", None) or str(error).partition(" ")[0]
        return word.isupper() and word not in _KEY_ERRORS
    return isinstance(error, redis.RedisError)


def is_wrong_type(error: object) -> bool:
    """Return whether an answer reports a key of another type; a pipeline puts the command before the error text."""
    return isinstance(error, redis.ResponseError) and _WRONG_TYPE.match(str(error)) is not None


def outage(client: redis.Redis, error: redis.RedisError) -> Unavailable:
    """Close the idle connections and return *error* as an error of `worker.errors`."""
    client.connection_pool.disconnect(inuse_connections=False)
    if isinstance(error, redis.AuthenticationError):
        return Denied(
            f"the state store does not let this account in ({error}); correct user and password in MLFS_REDIS_URL"
        )
    if isinstance(error, redis.exceptions.NoPermissionError):
        return Denied(
            f"the state store refuses this account a right ({error}); the rights that a worker needs are in "
            "docs/deploy.md, and mlfs doctor names the missing ones"
        )
    return Unavailable(f"the state store does not serve: {type(error).__name__}: {error}")


@contextmanager
def translated(client: redis.Redis) -> Iterator[None]:
    """Raise errors of the client as errors of `worker.errors`."""
    try:
        yield
    except redis.RedisError as exc:
        raise outage(client, exc) from exc


def repeating(client: redis.Redis, call: Callable[[], _T]) -> _T:
    """Run a call that may run twice. Try again after a short wait, on new connections where the server refused.

    Raises:
        Unavailable: The server does not serve.
        redis.ResponseError: A key holds a value of another type.
    """
    begun = time.monotonic()
    for tried in range(1, TRIES_MAX + 1):
        try:
            return call()
        except redis.RedisError as exc:
            if is_wrong_type(exc):
                raise
            fault = outage(client, exc)
            if tried == TRIES_MAX or isinstance(fault, Denied) or time.monotonic() - begun >= TRIES_WITHIN_S:
                raise fault from exc
        pause(_BACKOFF.compute(tried))
    raise AssertionError("the loop returns or raises")
