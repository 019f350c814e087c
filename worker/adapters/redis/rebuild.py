"""Wake index and list of dates, made anew from the records.

A record says everything that both hold about its date. Each date is entered by itself; where a commit changes the date
meanwhile, the commit enters it. A crash in between leaves the request for a rebuild in the wake index.
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

# Names of keys that the server looks at in one step.
SCAN_COUNT = 1000


def rebuild(client: redis.Redis, tag: str) -> None:
    """Enter every date that has a record into both indexes.

    Args:
        client: Connected.
        tag: The pipeline's hash tag.

    Raises:
        Unavailable: The server does not serve; repeating is safe.
    """
    wake, dates = f"{tag}:wake", f"{tag}:dates"
    with translated(client):
        for day in _recorded(client, tag):
            record_key, name = f"{tag}:date:{day}", day.isoformat()
            with suppress(redis.WatchError), client.pipeline(transaction=True) as pipe:
                pipe.watch(record_key)
                place = _place_of(day, _answer(pipe, record_key))
                pipe.multi()
                pipe.zadd(dates, {name: day.toordinal()})
                if place is None:
                    pipe.zrem(wake, name)
                else:
                    pipe.zadd(wake, {name: place})
                pipe.execute()
        client.zrem(wake, REBUILD)


def misplaced(client: redis.Redis, tag: str) -> Sequence[str]:
    """Name the dates whose record is unreadable, or is kept in the indexes otherwise than it says.

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
    """Return the date's score in the wake index; a damaged record is due at once, so that a sweep replaces it."""
    try:
        record = _record(day, stored)
    except CorruptRecord:
        return 0
    return None if record is None or record.wake_at is None else millis_reached(record.wake_at)


def _answer(pipe: Any, key: str) -> Any:  # noqa: ANN401 - the client is untyped
    """Read a record within a transaction that watches it."""
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
    """Find every date that has a record, by the names of the keys."""
    prefix = f"{tag}:date:"
    # Braces are no wildcards, and a pipeline's name has none either.
    for key in client.scan_iter(match=f"{prefix}*", count=SCAN_COUNT):
        with suppress(ValueError):
            yield date.fromisoformat(key.decode().removeprefix(prefix))
