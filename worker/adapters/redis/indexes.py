"""Keys that all analysis dates share in Redis: wake index, list of dates, marks, outbox, refused messages; histories.

A reader skips an unreadable member, reports the member to `Damage` and returns the other members, so an unreadable
member stops no other analysis date. A key of another type is set aside and starts again empty.

Beside the outbox lies a hash with the last error of the bus for each entry. A worker that dies leaves the hash behind,
so the hash expires a day after the last error. Where the hash is lost, outcomes are shown without the error.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar, cast

import redis

from statemachine.invariants import YEARS
from worker.adapters.redis.client import is_wrong_type, key_tag, repeating, translated
from worker.adapters.redis.damage import REBUILD, Damage
from worker.adapters.redis.fields import (
    UNREADABLE,
    change_from,
    entry_from,
    millis_begun,
    parked_fields,
    parked_from,
)
from worker.adapters.redis.rebuild import SCAN_COUNT, rebuild
from worker.ports import HistoryEntry, OutboxEntry, ParkedMessage

PARKED_LENGTH_MAX = 1000
# The relay stores the error again each second while the bus refuses the message.
REFUSED_KEPT = timedelta(days=1)
# Number of heads of the wake index read to find a readable head; a sweep moves unreadable heads out of the way.
HEADS_MAX = 10
# Number of stream entries read by an examination. A longer outbox has another cause.
EXAMINED_MAX = 10_000
# A sorted set holds whole numbers up to this number exactly; no version reaches the number.
MARK_MAX = 2**53
# Number of extra members read, so that a few unreadable members among the newest dates hide no readable date.
SPARE = 32

_Stored = tuple[bytes, Mapping[bytes, bytes]]
_T = TypeVar("_T")


class RedisIndexes:
    """Part of the `StateStore` port for keys shared by several records."""

    def __init__(self, client: redis.Redis, pipeline: str, damage: Damage, part: str = "") -> None:
        self._client = client
        self._pipeline = pipeline
        self._tag = key_tag(pipeline, part)
        self._damage = damage

    def _key(self, *parts: str) -> str:
        return ":".join((self._tag, *parts))

    def _read(self, name: str, call: Callable[[], Sequence[_T]]) -> Sequence[_T]:
        """Read members of a key; return no members where the key has another type."""
        try:
            return repeating(self._client, call)
        except redis.ResponseError:
            self._damage.key(name)
            return []

    def _write(self, name: str, call: Callable[[], _T]) -> _T:
        """Run a call that writes to a key; set a value of another type aside and run the call again.

        Raises:
            Unavailable: The server does not serve, or this process may not set the value aside.
        """
        with translated(self._client):
            try:
                return call()
            except redis.ResponseError as exc:
                if not is_wrong_type(exc):
                    raise
            self._damage.key(name)
            return call()

    def damage_counts(self) -> Mapping[str, int]:
        """Return the counts of `Damage`."""
        return self._damage.counts()

    def due(self, now: datetime, limit: int, skip: int = 0) -> Sequence[date]:
        """Read the wake index up to *now*; rebuild the wake index where a rebuild is requested."""
        key = self._key("wake")
        members = self._read(
            "wake",
            lambda: cast(
                "list[bytes]", self._client.zrangebyscore(key, "-inf", millis_begun(now), start=skip, num=limit)
            ),
        )
        if REBUILD in members:
            rebuild(self._client, self._tag)
        return list(self._dates("wake", members))

    def next_wake(self, after: datetime | None = None) -> datetime | None:
        """Read the head of the wake index, or the first instant after *after*."""
        low = "-inf" if after is None else f"({millis_begun(after)}"
        key = self._key("wake")
        heads = self._read(
            "wake",
            lambda: cast(
                "list[tuple[bytes, float]]",
                self._client.zrangebyscore(key, low, "+inf", start=0, num=HEADS_MAX, withscores=True),
            ),
        )
        for member, score in heads:
            if next(self._dates("wake", [member]), None) is not None and (instant := _instant(score)) is not None:
                return instant
        return None

    def dates(self, limit: int) -> Sequence[date]:
        """Read the newest analysis dates."""
        key = self._key("dates")
        members = self._read("dates", lambda: cast("list[bytes]", self._client.zrevrange(key, 0, limit + SPARE - 1)))
        return list(self._dates("dates", members))[:limit]

    def _dates(self, name: str, members: Sequence[bytes]) -> Iterator[date]:
        for member in members:
            if member == REBUILD:
                continue
            try:
                day = _date(member)
            except ValueError as exc:
                self._damage.member(name, member, str(exc), ("ZREM", self._key(name), member))
            else:
                yield day

    def history(self, analysis_date: date) -> Sequence[HistoryEntry]:
        """Read the list of the changes of an analysis date."""
        name = f"changes:{analysis_date.isoformat()}"
        listed = self._read(name, lambda: cast("list[bytes]", self._client.lrange(self._key(name), 0, -1)))
        return list(self._readable(name, listed, change_from, "LREM"))

    def unwritten_arrivals(self, limit: int, skip: int = 0) -> Mapping[date, int]:
        """Read the marks of unwritten arrivals."""
        key = self._key("arrivals")
        marked = self._read(
            "arrivals",
            lambda: cast(
                "list[tuple[bytes, float]]",
                self._client.zrangebyscore(key, 0, MARK_MAX, start=skip, num=limit, withscores=True),
            ),
        )
        return {day: int(mark) for member, mark in marked for day in self._dates("arrivals", [member])}

    def outbox(self, limit: int, after: str = "") -> Sequence[OutboxEntry]:
        """Read the outbox stream from the head, or from the entry after *after*; with the errors of the bus."""
        first = f"({after}" if after else "-"
        key = self._key("outbox")
        stored = self._read("outbox", lambda: cast("list[_Stored]", self._client.xrange(key, min=first, count=limit)))
        entries = list(self._readable("outbox", stored, entry_from, "XDEL"))
        errors = self._errors([entry.entry_id for entry in entries]) if entries else []
        return [
            replace(entry, error=error.decode(errors="replace")) if error else entry
            for entry, error in zip(entries, errors or [None] * len(entries), strict=True)
        ]

    def _errors(self, entry_ids: Sequence[str]) -> Sequence[bytes | None]:
        """Read the errors of the entries; return an empty list where the key has another type."""
        key = self._key("refused")
        return self._read("refused", lambda: cast("list[bytes | None]", self._client.hmget(key, entry_ids)))

    def remove_from_outbox(self, entry_id: str) -> None:
        """Delete an entry of the outbox stream together with the error of the entry."""

        def remove() -> list[Any]:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.xdel(self._key("outbox"), entry_id)
                pipe.hdel(self._key("refused"), entry_id)
                return _answers(pipe)

        for name, answer in zip(("outbox", "refused"), repeating(self._client, remove), strict=True):
            if isinstance(answer, redis.RedisError):
                self._damage.key(name)

    def note_refused(self, entry_id: str, error: str) -> None:
        """Store the error of an entry; the whole hash expires a day after the last error.

        Another worker may have published and removed the entry meanwhile: the error then stays until the hash expires.
        """
        for _ in range(2):
            with translated(self._client), self._client.pipeline(transaction=True) as pipe:
                pipe.hset(self._key("refused"), entry_id, error)
                pipe.pexpire(self._key("refused"), REFUSED_KEPT)
                noted, _expires = _answers(pipe)
            if not isinstance(noted, redis.RedisError):
                return
            self._damage.key("refused")

    def outbox_size(self) -> int:
        """Read the length of the outbox stream."""
        sizes: Sequence[int] = self._read("outbox", lambda: [self._client.xlen(self._key("outbox"))])
        return sum(sizes)

    def park(self, parked: ParkedMessage) -> None:
        """Append to the stream of refused messages."""
        key, fields = self._key("parked"), parked_fields(parked)
        self._write("parked", lambda: self._client.xadd(key, fields, maxlen=PARKED_LENGTH_MAX, approximate=True))

    def parked(self, limit: int) -> Sequence[ParkedMessage]:
        """Read the stream of refused messages backwards."""
        key = self._key("parked")
        entries = self._read("parked", lambda: cast("list[_Stored]", self._client.xrevrange(key, count=limit)))
        return list(self._readable("parked", entries, parked_from, "XDEL"))

    def last_opened(self) -> date | None:
        """Read the last analysis date opened by the calendar; a mark beyond all dates reads as the last date."""
        key = self._key("calendar")
        for ordinal in self._read("calendar", lambda: [self._client.zscore(key, "last_opened")]):
            if ordinal is not None and ordinal > date.max.toordinal():
                return date.max
            try:
                return None if ordinal is None else date.fromordinal(int(ordinal))
            except (ValueError, OverflowError) as exc:
                self._damage.member("calendar", str(ordinal).encode(), str(exc), ("ZREM", key, "last_opened"))
        return None

    def set_last_opened(self, analysis_date: date) -> None:
        """Raise the calendar's mark; with GT of a sorted set the lower of two racing writers loses."""
        mark = {"last_opened": analysis_date.toordinal()}
        self._read("calendar", lambda: [self._client.zadd(self._key("calendar"), mark, gt=True)])

    def lower_last_opened(self, *, ceiling: date, to: date) -> bool:
        """Replace a mark above *ceiling* in a single transaction; return True in the worker that removed the mark."""
        key = self._key("calendar")

        def lower() -> list[int]:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.zremrangebyscore(key, f"({ceiling.toordinal()}", "+inf")
                pipe.zadd(key, {"last_opened": to.toordinal()}, gt=True)
                return pipe.execute()

        return any(self._read("calendar", lower)[:1])

    def _readable(self, name: str, stored: Sequence[Any], read: Callable[[Any], _T], removal: str) -> Iterator[_T]:
        """Yield the value of each stored entry; report unreadable entries and skip them.

        Args:
            name: Key of the entries.
            stored: Elements of a list, or (id, fields) of a stream.
            read: Converts an entry into a value.
            removal: The command that removes an entry: LREM or XDEL.
        """
        key = self._key(name)
        for entry in stored:
            try:
                value = read(entry)
            except UNREADABLE as exc:
                in_list = removal == "LREM"
                member: bytes = entry if in_list else repr(entry).encode()
                command = (removal, key, 1, entry) if in_list else (removal, key, entry[0])
                self._damage.member(name, member, f"{type(exc).__name__}: {exc}", command)
            else:
                yield value

    def _members(self, name: str) -> Sequence[bytes]:
        key = self._key(name)
        return self._read(name, lambda: cast("list[bytes]", self._client.zrangebyscore(key, "-inf", "+inf")))

    def read_everything(self) -> None:
        """Read every shared key and every history, so that `Damage` records all unreadable members."""
        for name in ("wake", "dates", "arrivals"):
            list(self._dates(name, self._members(name)))
        self.outbox(EXAMINED_MAX)
        self.parked(EXAMINED_MAX)
        self.last_opened()
        self._errors([""])
        prefix = self._key("changes", "")
        with translated(self._client):
            names = [
                key.decode(errors="replace") for key in self._client.scan_iter(match=f"{prefix}*", count=SCAN_COUNT)
            ]
        for name in names:
            with suppress(ValueError):
                self.history(date.fromisoformat(name.removeprefix(prefix)))


def _date(member: bytes) -> date:
    day = date.fromisoformat(member.decode("ascii"))
    if day.isoformat().encode() != member:
        raise ValueError(f"an analysis date is written {day}")
    if not YEARS[0] <= day.year <= YEARS[1]:
        raise ValueError(f"no league plays in {day.year}")
    return day


def _instant(milliseconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _answers(pipe: Any) -> list[Any]:  # noqa: ANN401 - the client is untyped
    """Run a transaction; return the answers and the errors about keys of another type, raise any other error."""
    answers: list[Any] = pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, redis.RedisError) and not is_wrong_type(answer):
            raise answer
    return answers
