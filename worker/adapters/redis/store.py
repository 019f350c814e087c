"""State store on Redis or Valkey.

Model: a hash per analysis date holds record, version and revision. A commit is the script `commit.lua`: the script
compares version and revision, then writes record, wake index, outbox, history and the mark of unwritten arrivals. A
renewal of a lease is the script `renew.lua`: the script compares version and revision, then writes revision, end of the
lease and wake index. The script `unmark.lua` removes marks of arrivals. All keys of a pipeline share a hash tag, so the
scripts also run on a cluster.

Guarantees: a script is stored whole or not at all. Scripts are sent without the retries of the client and carry an
operation id, so a script sent again after a lost reply is recognised.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from importlib.resources import files
from typing import Any, cast

import redis

from schemas.record import encode_record
from statemachine.model import DateRecord
from worker.adapters.redis.client import (
    is_wrong_type,
    key_tag,
    outage,
    repeating,
    speaks_of_the_server,
    translated,
)
from worker.adapters.redis.damage import TYPES, Damage, SettingAside, log_damage
from worker.adapters.redis.fields import FIELDS, change_bytes, millis_reached, record_from
from worker.adapters.redis.indexes import RedisIndexes
from worker.adapters.redis.rebuild import misplaced, rebuild
from worker.adapters.redis.rights import missing_rights
from worker.adapters.redis.server import check_server, clock_skew, server_faults
from worker.errors import CommitRefused, CorruptRecord, Denied, Fatal, Unavailable
from worker.ports import Commit

# An analysis date has about ten changes; two hundred keep the history of a bad night within bounds.
HISTORY_LENGTH_MAX = 200
# A client gives up on a lost reply within seconds; ten minutes are longer than any repeated sending.
OPERATION_REMEMBERED_MS = 10 * 60 * 1000
# After a lost reply the script is sent again. A second loss is an outage: the caller retries.
COMMIT_SENDS_MAX = 2
# Replicas in the same network answer within two milliseconds; a slower replica counts as lost.
REPLICATION_TIMEOUT_MS = 500


class RedisStore(RedisIndexes):
    """`StateStore` port on a Redis-compatible server of version 7.0 or newer."""

    def __init__(
        self, client: redis.Redis, pipeline: str, *, replicas: int = 0, damage: Damage | None = None, part: str = ""
    ) -> None:
        """Register the commit script with a connected client.

        Args:
            client: Made by `client.connect`.
            pipeline: Name in the hash tag of every key.
            replicas: Number of replicas that must confirm a commit; 0 for a single server.
            damage: Handles unreadable members; the default sets unreadable members aside.
            part: Further part of the name of every key; empty for the analysis dates.
        """
        super().__init__(client, pipeline, damage or SettingAside(client, key_tag(pipeline, part), log_damage), part)
        self._replicas = replicas
        self._was_denied = False
        self._commit_script, self._renew_script, self._unmark_script = self._scripts = [
            client.register_script(files("worker.adapters.redis").joinpath(name).read_text(encoding="utf-8"))
            for name in ("commit.lua", "renew.lua", "unmark.lua")
        ]

    def apart(self, name: str) -> "RedisStore":
        """Return a store on the same connections whose keys, all below *name*, no reader of this store meets."""
        return RedisStore(self._client, self._pipeline, replicas=self._replicas, part=name)

    def load(self, analysis_date: date) -> DateRecord | None:
        """Read the record of the analysis date; return None without a record."""
        key = f"{self._tag}:date:{analysis_date}"
        try:
            stored = repeating(self._client, lambda: cast("list[bytes | None]", self._client.hmget(key, FIELDS)))
        except redis.ResponseError as exc:
            raise CorruptRecord(analysis_date, str(exc)) from exc
        return record_from(analysis_date, stored)

    def load_all(self, analysis_dates: Sequence[date]) -> Mapping[date, DateRecord | None]:
        """Read the records of several analysis dates in a single round trip."""

        def read() -> list[Any]:
            with self._client.pipeline(transaction=False) as pipe:
                for day in analysis_dates:
                    pipe.hmget(f"{self._tag}:date:{day}", FIELDS)
                return pipe.execute(raise_on_error=False)

        found: dict[date, DateRecord | None] = {}
        for day, stored in zip(analysis_dates, repeating(self._client, read), strict=True):
            if is_wrong_type(stored):
                continue
            if isinstance(stored, redis.RedisError):
                raise outage(self._client, stored)
            with suppress(CorruptRecord):
                found[day] = record_from(day, stored)
        return found

    def commit(self, commit: Commit) -> bool:
        """Run the commit script; send the script once more after a lost reply."""
        return self._store_one(commit.record.analysis_date, self._call(commit))

    def renew(self, held: DateRecord, until_at: datetime, operation_id: str) -> bool:
        """Run the renewal script; send the script once more after a lost reply."""
        day = held.analysis_date.isoformat()
        keys = [f"{self._tag}:date:{day}", f"{self._tag}:wake"]
        renewal = f"{operation_id} {until_at.isoformat()}"
        arguments = [held.version, held.revision, operation_id, renewal, day, millis_reached(until_at)]
        return self._store_one(held.analysis_date, [self._renew_script.sha, len(keys), *keys, *arguments])

    def arrivals_written(self, marks: Mapping[date, int]) -> None:
        """Run the script that removes marks; a mark that a lost script left is removed after the next pass."""
        arguments = [part for day, mark in marks.items() for part in (day.isoformat(), mark)]
        if arguments:
            (answer,) = self._store([[self._unmark_script.sha, 1, self._key("arrivals"), *arguments]])
            if isinstance(answer, redis.RedisError):
                raise Unavailable(f"marks of written arrivals remain: {answer}") from answer

    def _store_one(self, analysis_date: date, call: list[Any]) -> bool:
        (answer,) = self._store([call])
        if isinstance(answer, redis.RedisError):
            raise CommitRefused(analysis_date, str(answer)) from answer
        return bool(answer != b"conflict")

    def commit_all(self, commits: Sequence[Commit]) -> Sequence[bool]:
        """Run the commit scripts in a single round trip; the server answers after a single fsync for all commits."""
        if not commits:
            return []
        answers = self._store([self._call(commit) for commit in commits])
        return [isinstance(answer, bytes) and answer != b"conflict" for answer in answers]

    def _store(self, calls: Sequence[list[Any]]) -> list[Any]:
        """Run the scripts; if a key has a wrong type, set the key aside and run the scripts again."""
        answers = self._send(calls)
        refused = [call for call, answer in zip(calls, answers, strict=True) if is_wrong_type(answer)]
        if not refused:
            return answers
        for key in dict.fromkeys(key for _sha, count, *rest in refused for key in rest[:count]):
            name = key.removeprefix(self._key(""))
            if name.partition(":")[0] in TYPES and self._has_wrong_type(name):
                self._damage.key(name)
        # The script recognises commits stored by the first run by the operation id.
        return self._send(calls)

    def _has_wrong_type(self, name: str) -> bool:
        with translated(self._client):
            found = self._client.execute_command("TYPE", self._key(name))
        return found not in {b"none", TYPES[name.partition(":")[0]].encode()}

    def _call(self, commit: Commit) -> list[Any]:
        """Return the arguments of EVALSHA for one commit: the script, the number of keys, keys, arguments."""
        record = commit.record
        day = record.analysis_date.isoformat()
        tag = self._tag
        keys = [
            f"{tag}:date:{day}",
            f"{tag}:wake",
            f"{tag}:dates",
            f"{tag}:outbox",
            f"{tag}:changes:{day}",
            f"{tag}:arrivals",
            f"{tag}:op:{commit.operation_id}",
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
            1 if commit.history is not None and commit.history.reports else "",
        ]
        for message in commit.messages:
            attributes = json.dumps(dict(message.attributes))
            arguments += [message.event_id, message.topic, message.data, attributes, message.ordering_key]
        return [self._commit_script.sha, len(keys), *keys, *arguments]

    def _send(self, calls: Sequence[list[Any]]) -> list[Any]:
        """Run scripts in a single round trip; repeat after a lost reply, or where the server refused all commands.

        Returns:
            For each script the answer as bytes, or the error of this script alone.
        """
        for send in range(1, COMMIT_SENDS_MAX + 1):
            try:
                answers = self._run(calls)
                lasting = next((answer for answer in answers if speaks_of_the_server(answer)), None)
                if lasting is None:
                    return answers
                raise lasting
            except redis.RedisError as exc:
                # A new connection follows the address to a new primary; the operation id prevents a second commit.
                fault = outage(self._client, exc)
                self._was_denied |= isinstance(fault, Denied)
                if send == COMMIT_SENDS_MAX:
                    raise fault from exc
        raise AssertionError("the loop returns or raises")

    def _run(self, calls: Sequence[list[Any]]) -> list[Any]:
        answers = self._run_once(calls)
        if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
            # A restarted server or a new primary does not know the scripts. The operation id prevents a second commit
            # by a call that took effect before.
            for script in self._scripts:
                self._client.script_load(script.script)
            answers = self._run_once(calls)
        return answers

    def _run_once(self, calls: Sequence[list[Any]]) -> list[Any]:
        """Run the scripts and wait for the replicas on the same connection; WAIT covers a connection's own writes."""
        if len(calls) == 1 and not self._replicas:
            try:
                return [self._client.execute_command("EVALSHA", *calls[0])]
            except redis.ResponseError as exc:
                return [exc]
        with self._client.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.execute_command("EVALSHA", *call)
            if self._replicas:
                pipe.execute_command("WAIT", self._replicas, REPLICATION_TIMEOUT_MS)
            answers = pipe.execute(raise_on_error=False)
        if self._replicas:
            reached = answers.pop()
            if any(isinstance(answer, bytes) and answer != b"conflict" for answer in answers):
                self._check_replicas(reached)
        return answers

    def _check_replicas(self, reached: object) -> None:
        """Refuse a write that too few replicas confirmed: a failover could lose the write."""
        if not isinstance(reached, int) or reached < self._replicas:
            raise Unavailable(f"stored, but only {reached} of {self._replicas} replicas confirmed it in time")

    def barrier(self) -> None:
        """Write a mark and wait for the replicas; afterwards the replicas hold every earlier write."""
        if self._replicas:
            self._write_mark()

    def check_writable(self) -> None:
        """Write a mark as durable as a commit, because a server that answers PING may refuse writes.

        After a commit was denied a right, the check fails until the account has every right again.
        """
        self._write_mark()
        if self._was_denied:
            self._check_rights()
            self._was_denied = False

    def _check_rights(self) -> None:
        denied = self.missing_rights()
        if denied:
            raise Denied(f"{'; '.join(denied)}. The rights that a worker needs are in docs/deploy.md")

    def _write_mark(self) -> None:
        def write() -> list[Any]:
            with self._client.pipeline(transaction=False) as pipe:
                pipe.set(self._key("barrier"), 1)
                if self._replicas:
                    pipe.execute_command("WAIT", self._replicas, REPLICATION_TIMEOUT_MS)
                return pipe.execute()

        _set, *reached = repeating(self._client, write)
        if reached:
            self._check_replicas(reached[0])

    def quarantine(self, analysis_date: date) -> None:
        """Rename the key of an unreadable record, unless another worker has replaced the record meanwhile."""
        day = analysis_date.isoformat()
        record_key = self._key("date", day)
        with translated(self._client), self._client.pipeline(transaction=True) as pipe, suppress(redis.WatchError):
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
        """Refuse a server or an account that would make a worker lose state.

        Raises:
            Fatal: The server evicts keys when the memory is full, or is a read-only replica, or the account lacks a
                right. An operator must repair the cause.
            Unavailable: The server does not serve, or does not let the account in.
        """
        if missing := self.missing_rights():
            raise Fatal(f"{'; '.join(missing)}. The rights that a worker needs are in docs/deploy.md")
        check_server(self._client)

    def missing_rights(self) -> Sequence[str]:
        """Return a sentence for each command and key that a worker needs and that this account is denied."""
        return missing_rights(self._client, self._tag, replicas=self._replicas)

    def server_faults(self) -> Sequence[str]:
        """Return a sentence for each fault of the server; only the faults of `check_server` stop a worker."""
        return server_faults(self._client, replicas=self._replicas)

    def clock_skew(self, now: Callable[[], datetime]) -> timedelta:
        """Return server time minus local time; zero if the difference lies within the round-trip time."""
        return repeating(self._client, lambda: clock_skew(self._client, now))

    def faults(self) -> Sequence[str]:
        """Return a sentence for each unreadable member and each index that contradicts a record; change no key."""
        noted = Damage()
        RedisIndexes(self._client, self._pipeline, noted).read_everything()
        return [*noted.faults(), *misplaced(self._client, self._tag)]

    def mend(self) -> None:
        """Set unreadable members aside, and rebuild the indexes from the records."""
        self.read_everything()
        rebuild(self._client, self._tag)

    def ping(self) -> None:
        """Send PING, for commands that only read; `check_writable` is the check for workers."""
        with translated(self._client):
            self._client.ping()

    def close(self) -> None:
        """Close the connection pool."""
        self._client.close()
