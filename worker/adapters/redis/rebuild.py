"""Rebuild of the wake index, the list of dates and the marks of unwritten arrivals from the records.

A record holds everything that the indexes hold about the analysis date. Every analysis date gets a mark of unwritten
arrivals: the table of arrivals takes each arrival once. A transaction for each analysis date enters
the date; where a commit changes the record meanwhile, the commit itself enters the date. A crash during the rebuild
leaves the request for a rebuild in the wake index.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from typing import Any

import redis

from statemachine.model import DateRecord
from worker.adapters.redis.client import speaks_of_the_server, translated
from worker.adapters.redis.damage import REBUILD
from worker.adapters.redis.fields import FIELDS, millis_reached, record_from
from worker.errors import CorruptRecord

# Number of key names that the server examines in a step of SCAN.
SCAN_COUNT = 1000


def rebuild(client: redis.Redis, tag: str) -> None:
    """Enter every analysis date with a record into the indexes.

    Args:
        client: Connected.
        tag: The pipeline's hash tag.

    Raises:
        Unavailable: The server does not serve; repeating is safe.
    """
    wake, dates, arrivals = f"{tag}:wake", f"{tag}:dates", f"{tag}:arrivals"
    with translated(client):
        for day in _recorded(client, tag):
            record_key, name = f"{tag}:date:{day}", day.isoformat()
            with suppress(redis.WatchError), client.pipeline(transaction=True) as pipe:
                pipe.watch(record_key)
                place = _place_of(day, _answer(pipe, record_key))
                pipe.multi()
                pipe.zadd(dates, {name: day.toordinal()})
                # Version 0 is below every version, so the mark of a commit stays.
                pipe.zadd(arrivals, {name: 0}, nx=True)
                if place is None:
                    pipe.zrem(wake, name)
                else:
                    pipe.zadd(wake, {name: place})
                pipe.execute()
        client.zrem(wake, REBUILD)


def misplaced(client: redis.Redis, tag: str) -> Sequence[str]:
    """Return a sentence for each analysis date whose record is unreadable or contradicts an index.

    Raises:
        Unavailable: The server does not serve.
    """
    with translated(client):
        return [fault for day in _recorded(client, tag) for fault in _misplaced(client, tag, day)]


def _misplaced(client: redis.Redis, tag: str, day: date) -> Iterator[str]:
    with client.pipeline(transaction=True) as pipe:
        pipe.hmget(f"{tag}:date:{day}", FIELDS)
        pipe.zscore(f"{tag}:wake", day.isoformat())
        pipe.zscore(f"{tag}:dates", day.isoformat())
        stored, wake, listed = pipe.execute(raise_on_error=False)
    try:
        record = _record(day, stored)
    except CorruptRecord as exc:
        yield str(exc)
        return
    if record is None:
        return
    wanted = None if record.wake_at is None else millis_reached(record.wake_at)
    if wake != wanted:
        yield f"{day} is due at {wanted} by its record and at {wake} by the wake index (milliseconds since 1970)"
    if listed != day.toordinal():
        yield f"{day} has a record and is not in the list of dates"


def _place_of(day: date, stored: Any) -> int | None:  # noqa: ANN401 - the client is untyped
    """Return the date's score in the wake index; a damaged record is due at once and replaced by a sweep."""
    try:
        record = _record(day, stored)
    except CorruptRecord:
        return 0
    return None if record is None or record.wake_at is None else millis_reached(record.wake_at)


def _answer(pipe: Any, key: str) -> Any:  # noqa: ANN401 - the client is untyped
    """Read a record within a transaction that watches the record."""
    try:
        return pipe.hmget(key, FIELDS)
    except redis.ResponseError as exc:
        return exc


def _record(day: date, stored: Any) -> DateRecord | None:  # noqa: ANN401 - the client is untyped
    if isinstance(stored, redis.RedisError):
        if speaks_of_the_server(stored):
            raise stored
        raise CorruptRecord(day, str(stored))
    return record_from(day, stored)


def _recorded(client: redis.Redis, tag: str) -> Iterator[date]:
    """Yield every analysis date with a record, read from the names of the keys."""
    prefix = f"{tag}:date:"
    # Braces are no wildcards, and the name of a pipeline has no wildcards either.
    for key in client.scan_iter(match=f"{prefix}*", count=SCAN_COUNT):
        with suppress(ValueError):
            yield date.fromisoformat(key.decode().removeprefix(prefix))
