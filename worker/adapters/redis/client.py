"""The client of the state store: bounded waits, errors as our families, no connection kept to a server that refuses.

A pooled connection leads to the server that the address named when the connection was made. After a failover that moves
the address, the old server still answers PING and refuses each write. So each error that speaks of the server, and not
of one key, closes the idle connections: the next call looks the address up again, signs in again and follows.
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
# A call that may run twice is tried so often, while the first try began less than this ago: a server that stands still
# costs one time-out and not four.
TRIES_MAX = 4
TRIES_WITHIN_S = 1.0
# The server's words for a fault of one key. Every other word (READONLY, LOADING, OOM ...) speaks of the server.
_OF_ONE_KEY = frozenset({"WRONGTYPE", "ERR"})
_WRONG_TYPE = re.compile(r"(Command # .* of pipeline caused error: )?WRONGTYPE ", re.DOTALL)
_BACKOFF = ExponentialWithJitterBackoff(base=0.05, cap=0.5)

_T = TypeVar("_T")


def connect(url: str) -> redis.Redis:
    """Make a client with bounded waits: two seconds a call, no re-sending of what may have run."""
    return redis.Redis.from_url(
        url,
        socket_timeout=CALL_TIMEOUT_S,
        socket_connect_timeout=CALL_TIMEOUT_S,
        health_check_interval=15,
        client_name="mlfs",
        retry=Retry(NoBackoff(), 0),
    )


def key_tag(pipeline: str) -> str:
    """Return the hash tag with which every key of a pipeline begins, so that one script may touch all of them."""
    return f"{{mlfs:{pipeline}}}"


def speaks_of_the_server(error: object) -> bool:
    """Return whether an answer is an error that every other call would meet, too."""
    if isinstance(error, redis.ResponseError):
        word = getattr(error, "status_code", None) or str(error).partition(" ")[0]
        return word.isupper() and word not in _OF_ONE_KEY
    return isinstance(error, redis.RedisError)


def is_wrong_type(error: object) -> bool:
    """Return whether an answer says that a key holds a value of another type; a pipeline puts its command before it."""
    return isinstance(error, redis.ResponseError) and _WRONG_TYPE.match(str(error)) is not None


def outage(client: redis.Redis, error: redis.RedisError) -> Unavailable:
    """Close the idle connections and return the error of our families that *error* means."""
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
    """Turn the client's errors into our families."""
    try:
        yield
    except redis.RedisError as exc:
        raise outage(client, exc) from exc


def repeating(client: redis.Redis, call: Callable[[], _T]) -> _T:
    """Run a call that may run twice; try again shortly, on new connections where the server refused.

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
