"""The state store on Redis or Valkey.

One hash per date holds the record, its version and its revision. A commit is one Lua script, `lua/commit.lua`: it
compares both, then writes record, wake index, outbox and history. All keys of a pipeline share one hash tag, so the
script also runs on a cluster. Scripts are sent without the client's own retries and carry an operation id: a script
whose reply was lost is sent again by `commit` and recognised.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any, TypeVar, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

from schemas.record import encode_record
from statemachine.model import DateRecord
from worker.adapters.redis_fields import (
    change_bytes,
    changes_from,
    entry_from,
    millis_begun,
    millis_reached,
    parked_fields,
    parked_from,
    record_from,
)
from worker.adapters.redis_server import clock_skew, refuse_unsafe, server_faults
from worker.errors import CorruptRecord, Unavailable
from worker.ports import Commit, HistoryEntry, OutboxEntry, ParkedMessage

# A date sees about ten changes; two hundred keep the story of a bad night without unbounded growth.
HISTORY_LENGTH_MAX = 200
PARKED_LENGTH_MAX = 1000
# A client gives up on a lost reply within seconds; ten minutes outlast any re-sending.
OPERATION_REMEMBERED_MS = 10 * 60 * 1000
# One lost reply is cured by sending the script once more; a second loss is an outage, and the caller's to retry.
COMMIT_SENDS_MAX = 2
# Replicas on one network answer within a millisecond or two; one that needs longer is as good as away.
REPLICATION_TIMEOUT_MS = 500

_T = TypeVar("_T")


def connect(url: str) -> redis.Redis:
    """Make a client with bounded waits: two seconds a call, no re-sending of what may have run."""
    return redis.Redis.from_url(
        url,
        socket_timeout=2.0,
        socket_connect_timeout=2.0,
        health_check_interval=15,
        client_name="mlfs",
        retry=Retry(NoBackoff(), 0),
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the client's errors into our families."""
    try:
        yield
    except redis.RedisError as exc:
        raise Unavailable(f"the state store does not serve: {type(exc).__name__}: {exc}") from exc


def _reading(call: Callable[[], _T]) -> _T:
    """Run a read with a few quick retries: reading twice is harmless."""
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 3)
    with _translated():
        return retry.call_with_retry(call, lambda _error: None)


class RedisStore:
    """The `StateStore` port on a Redis-compatible server of version 7.0 or newer."""

    def __init__(self, client: redis.Redis, pipeline: str, *, replicas: int = 0) -> None:
        """Use a connected client.

        Args:
            client: Made by `connect`.
            pipeline: Name in the hash tag of every key.
            replicas: Replicas that must hold a commit before it counts; 0 on a single server.
        """
        self._client = client
        self._replicas = replicas
        self._tag = f"{{mlfs:{pipeline}}}"
        source = files("worker.adapters").joinpath("lua/commit.lua").read_text(encoding="utf-8")
        self._commit_script = client.register_script(source)

    def _key(self, *parts: str) -> str:
        return ":".join((self._tag, *parts))

    def load(self, analysis_date: date) -> DateRecord | None:
        """Read the record of the date."""
        key = self._key("date", analysis_date.isoformat())
        return record_from(
            analysis_date, _reading(lambda: cast("list[bytes | None]", self._client.hmget(key, ["r", "n"])))
        )

    def load_all(self, analysis_dates: Sequence[date]) -> Mapping[date, DateRecord | None]:
        """Read the records of several dates in one trip."""

        def read() -> list[list[bytes | None]]:
            with self._client.pipeline(transaction=False) as pipe:
                for day in analysis_dates:
                    pipe.hmget(self._key("date", day.isoformat()), ["r", "n"])
                return cast("list[list[bytes | None]]", pipe.execute())

        found: dict[date, DateRecord | None] = {}
        for day, stored in zip(analysis_dates, _reading(read), strict=True):
            with suppress(CorruptRecord):
                found[day] = record_from(day, stored)
        return found

    def commit(self, commit: Commit) -> bool:
        """Run the commit script; send it once more where the reply was lost."""
        (answer,) = self._send([self._call(commit)])
        if isinstance(answer, redis.RedisError):
            raise Unavailable(f"the state store refused a commit: {type(answer).__name__}: {answer}") from answer
        return bool(answer != b"conflict")

    def commit_all(self, commits: Sequence[Commit]) -> Sequence[bool]:
        """Run the commit scripts in one trip; the server makes one fsync of them, and answers after it."""
        if not commits:
            return []
        answers = self._send([self._call(commit) for commit in commits])
        return [isinstance(answer, bytes) and answer != b"conflict" for answer in answers]

    def _call(self, commit: Commit) -> list[Any]:
        """Give the arguments of one run of the script: the number of keys, keys, arguments."""
        record = commit.record
        day = record.analysis_date.isoformat()
        keys = [
            self._key("date", day),
            self._key("wake"),
            self._key("dates"),
            self._key("outbox"),
            self._key("changes", day),
            self._key("op", commit.operation_id),
        ]
        arguments: list[Any] = [
            record.version - 1,
            record.version,
            encode_record(record),
            day,
            "" if record.wake_at is None else millis_reached(record.wake_at),
            record.analysis_date.toordinal(),
            "" if commit.history is None else change_bytes(commit.history),
            HISTORY_LENGTH_MAX,
            OPERATION_REMEMBERED_MS,
            (commit.expires_after_s or 0) * 1000,
            record.revision,
            commit.operation_id,
        ]
        for message in commit.messages:
            attributes = json.dumps(dict(message.attributes))
            arguments += [message.event_id, message.topic, message.data, attributes, message.ordering_key]
        return [len(keys), *keys, *arguments]

    def _send(self, calls: Sequence[list[Any]]) -> list[Any]:
        """Run scripts in one trip, again where the reply was lost; each answer is bytes, or the error of that run."""
        for send in range(1, COMMIT_SENDS_MAX + 1):
            try:
                return self._run(calls)
            except (redis.ConnectionError, redis.TimeoutError) as exc:
                if send == COMMIT_SENDS_MAX:
                    raise Unavailable(f"the state store does not serve: {type(exc).__name__}: {exc}") from exc
            except redis.RedisError as exc:
                raise Unavailable(f"the state store refused a commit: {type(exc).__name__}: {exc}") from exc
        raise AssertionError("the loop returns or raises")

    def _run(self, calls: Sequence[list[Any]]) -> list[Any]:
        answers = self._run_once(calls)
        if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
            # A server that was restarted or is new; what had run before it knew the script is recognised.
            self._client.script_load(self._commit_script.script)
            answers = self._run_once(calls)
        return answers

    def _run_once(self, calls: Sequence[list[Any]]) -> list[Any]:
        """Run the scripts; wait for the replicas on the same connection, WAIT speaks of that one's writes."""
        if len(calls) == 1 and not self._replicas:
            try:
                return [self._client.execute_command("EVALSHA", self._commit_script.sha, *calls[0])]
            except redis.ResponseError as exc:
                return [exc]
        with self._client.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.execute_command("EVALSHA", self._commit_script.sha, *call)
            if self._replicas:
                pipe.execute_command("WAIT", self._replicas, REPLICATION_TIMEOUT_MS)
            answers = pipe.execute(raise_on_error=False)
        if self._replicas:
            reached = answers.pop()
            if any(isinstance(answer, bytes) and answer != b"conflict" for answer in answers):
                self._check_replicas(reached)
        return answers

    def _check_replicas(self, reached: object) -> None:
        """A write that too few replicas hold may be lost in a failover: it does not count, and is to be repeated."""
        if not isinstance(reached, int) or reached < self._replicas:
            raise Unavailable(f"stored, but only {reached} of {self._replicas} replicas confirmed it in time")

    def barrier(self) -> None:
        """Write a mark and wait for the replicas, which then hold everything before it."""
        if not self._replicas:
            return
        with _translated(), self._client.pipeline(transaction=False) as pipe:
            pipe.set(self._key("barrier"), 1)
            pipe.execute_command("WAIT", self._replicas, REPLICATION_TIMEOUT_MS)
            _set, reached = pipe.execute()
        self._check_replicas(reached)

    def quarantine(self, analysis_date: date) -> None:
        """Rename the record's key, unless another worker has begun the date anew since it was found unreadable."""
        day = analysis_date.isoformat()
        record_key = self._key("date", day)
        with _translated(), self._client.pipeline(transaction=True) as pipe, suppress(redis.WatchError):
            pipe.watch(record_key)
            try:
                self.load(analysis_date)
            except CorruptRecord:
                pipe.multi()
                pipe.copy(record_key, self._key("corrupt", day), replace=True)
                pipe.delete(record_key)
                pipe.zadd(self._key("wake"), {day: 0})
                pipe.execute()

    def check_server(self) -> None:
        """Refuse a server that may throw state away.

        Raises:
            Fatal: The server evicts keys when its memory is full, or is a read-only replica. The operator's to repair.
        """
        memory = _reading(lambda: self._client.info("memory"))
        refuse_unsafe(memory, _reading(lambda: self._client.info("replication")))

    def server_faults(self) -> Sequence[str]:
        """Name everything that is wrong with the server, for people; `check_server` is what a worker insists on."""
        return server_faults(self._client, replicas=self._replicas)

    def clock_skew(self, now: Callable[[], datetime]) -> timedelta:
        """Give how far the server's clock is ahead of the one given."""
        return _reading(lambda: clock_skew(self._client, now))

    def due(self, now: datetime, limit: int, skip: int = 0) -> Sequence[date]:
        """Read the wake index up to *now*."""
        members = _reading(
            lambda: cast(
                "list[bytes]",
                self._client.zrangebyscore(self._key("wake"), "-inf", millis_begun(now), start=skip, num=limit),
            )
        )
        return [date.fromisoformat(member.decode()) for member in members]

    def next_wake(self, after: datetime | None = None) -> datetime | None:
        """Read the head of the wake index, or of what comes in it after an instant."""
        low = "-inf" if after is None else f"({millis_begun(after)}"
        key = self._key("wake")
        head = _reading(
            lambda: cast(
                "list[tuple[bytes, float]]",
                self._client.zrangebyscore(key, low, "+inf", start=0, num=1, withscores=True),
            )
        )
        return datetime.fromtimestamp(head[0][1] / 1000, UTC) if head else None

    def dates(self, limit: int) -> Sequence[date]:
        """Read the newest dates."""
        members = _reading(lambda: cast("list[bytes]", self._client.zrevrange(self._key("dates"), 0, limit - 1)))
        return [date.fromisoformat(member.decode()) for member in members]

    def history(self, analysis_date: date) -> Sequence[HistoryEntry]:
        """Read the list of the date's changes, and the stream in which a worker from before ADR 0020 notes its own."""
        day = analysis_date.isoformat()

        def read() -> list[Any]:
            with self._client.pipeline(transaction=False) as pipe:
                pipe.lrange(self._key("changes", day), 0, -1)
                pipe.xrange(self._key("history", day))
                return pipe.execute()

        return changes_from(*_reading(read))

    def outbox(self, limit: int, after: str = "") -> Sequence[OutboxEntry]:
        """Read the outbox stream from its head, or from behind an entry."""
        first = f"({after}" if after else "-"
        entries = _reading(
            lambda: cast(
                "list[tuple[bytes, dict[bytes, bytes]]]",
                self._client.xrange(self._key("outbox"), min=first, count=limit),
            )
        )
        return [entry_from(entry_id, fields) for entry_id, fields in entries]

    def remove_from_outbox(self, entry_id: str) -> None:
        """Delete one entry of the outbox stream."""
        with _translated():
            self._client.xdel(self._key("outbox"), entry_id)

    def outbox_size(self) -> int:
        """Read the length of the outbox stream."""
        return _reading(lambda: self._client.xlen(self._key("outbox")))

    def park(self, parked: ParkedMessage) -> None:
        """Append to the stream of refused messages."""
        with _translated():
            self._client.xadd(self._key("parked"), parked_fields(parked), maxlen=PARKED_LENGTH_MAX, approximate=True)

    def parked(self, limit: int) -> Sequence[ParkedMessage]:
        """Read the stream of refused messages backwards."""
        entries = _reading(
            lambda: cast(
                "list[tuple[bytes, dict[bytes, bytes]]]", self._client.xrevrange(self._key("parked"), count=limit)
            )
        )
        return [parked_from(fields) for _entry_id, fields in entries]

    def last_opened(self) -> date | None:
        """Read how far the calendar has come."""
        ordinal = _reading(lambda: self._client.zscore(self._key("calendar"), "last_opened"))
        # A damaged mark counts as the last date there is, which is ahead of any clock.
        return None if ordinal is None else date.fromordinal(int(min(max(ordinal, 1), date.max.toordinal())))

    def set_last_opened(self, analysis_date: date) -> None:
        """Raise the calendar's mark; a sorted set's GT makes the lower of two racing writers lose."""
        with _translated():
            self._client.zadd(self._key("calendar"), {"last_opened": analysis_date.toordinal()}, gt=True)

    def lower_last_opened(self, *, ceiling: date, to: date) -> bool:
        """Replace a mark that is too high, in one transaction; of several workers one removes it."""
        key = self._key("calendar")
        with _translated(), self._client.pipeline() as pipe:
            pipe.zremrangebyscore(key, f"({ceiling.toordinal()}", "+inf")
            pipe.zadd(key, {"last_opened": to.toordinal()}, gt=True)
            return bool(pipe.execute()[0])

    def ping(self) -> None:
        """Ask the server for a sign of life."""
        with _translated():
            self._client.ping()

    def close(self) -> None:
        """Close the connection pool."""
        self._client.close()
