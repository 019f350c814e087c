"""The SQLite journal of the local Pub/Sub server: what survives its end, orderly or not.

Model: one row per topic, subscription and publish call, and one row per acknowledgement of a message whose batch is
still held by someone. Changes collect in memory and `commit` writes them in one transaction.

Guarantees: what was committed before the process died is there afterwards. The write-ahead log with
`synchronous=NORMAL` survives the death of the process, including `kill -9`; a power cut may take the last commits, but
never damages the file. A commit that fails (disk full) keeps its changes and writes them with the next one.

A crash before a commit loses the messages of publish calls that were not yet confirmed, and forgets acknowledgements
of the last moments, so that their messages come again.

Batches and acknowledgements are written by one statement each, with a list as its argument: sqlite3 gives up Python's
interpreter lock once per row it steps through, and with busy threads around every such row could cost milliseconds.
"""

import json
import sqlite3
from pathlib import Path
from typing import Final

from google.pubsub_v1 import types

from worker.errors import Refused
from worker.local.pubsub_model import Batch, Message, StoredSubscription, TopicSpec
from worker.local.pubsub_resources import (
    subscription_from_proto,
    subscription_to_proto,
    topic_from_proto,
    topic_to_proto,
)
from worker.local.pubsub_shelf import Stored
from worker.local.pubsub_wire import message_from_proto, message_to_proto

FORMAT: Final = 1
"""Rises with every change of the tables that an older server could not read."""

_TABLES = """
CREATE TABLE IF NOT EXISTS topic (name TEXT PRIMARY KEY, spec BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subscription (
    number INTEGER PRIMARY KEY, spec BLOB NOT NULL, source_topic TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER);
CREATE TABLE IF NOT EXISTS batch (number INTEGER PRIMARY KEY, topic TEXT NOT NULL, messages BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS acked (
    batch INTEGER NOT NULL, message INTEGER NOT NULL, subscription INTEGER NOT NULL,
    PRIMARY KEY (batch, message, subscription)) WITHOUT ROWID;
"""
_PUT_ACKED = """
INSERT OR IGNORE INTO acked (batch, message, subscription)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?)
"""

_Statement = tuple[str, tuple[object, ...]]
_Acked = tuple[int, int, int]


class NoJournal:
    """Remembers nothing: everything ends with the server. See `SqliteJournal` for what the methods mean."""

    is_dirty = False

    def put_topic(self, topic: TopicSpec) -> None:
        """Ignore."""

    def drop_topic(self, name: str) -> None:
        """Ignore."""

    def put_subscription(self, subscription: StoredSubscription) -> None:
        """Ignore."""

    def drop_subscription(self, number: int) -> None:
        """Ignore."""

    def put_batch(self, batch: Batch) -> None:
        """Ignore."""

    def drop_batch(self, number: int) -> None:
        """Ignore."""

    def put_acked(self, subscription: int, message: Message) -> None:
        """Ignore."""

    def drop_acked(self, subscription: int, message: Message) -> None:
        """Ignore."""

    def load(self) -> Stored:
        """Give nothing."""
        return Stored()

    def commit(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class SqliteJournal:
    """Remembers in one SQLite file, which it holds exclusively.

    Raises:
        Refused: The file belongs to another running server, or was written by a newer one.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One thread writes at a time; it need not be the one that opened the file.
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        self._statements: list[_Statement] = []
        self._batches: dict[int, Batch] = {}
        self._dropped: list[int] = []
        self._acked: dict[int, set[_Acked]] = {}
        try:
            self._prepare(path)
        except sqlite3.OperationalError as exc:
            self._connection.close()
            raise Refused(f"journal {path} cannot be opened ({exc}); stop the server that uses it") from exc
        except Refused:
            self._connection.close()
            raise

    @property
    def is_dirty(self) -> bool:
        """Whether a commit has anything to write."""
        return bool(self._statements or self._batches or self._dropped or self._acked)

    def put_topic(self, topic: TopicSpec) -> None:
        """See `Journal`."""
        spec = topic_to_proto(topic).SerializeToString()
        self._statements.append(("INSERT OR REPLACE INTO topic VALUES (?, ?)", (topic.name, spec)))

    def drop_topic(self, name: str) -> None:
        """See `Journal`."""
        self._statements.append(("DELETE FROM topic WHERE name = ?", (name,)))

    def put_subscription(self, subscription: StoredSubscription) -> None:
        """See `Journal`."""
        spec = subscription_to_proto(subscription.spec).SerializeToString()
        values = (subscription.number, spec, subscription.source_topic, subscription.since, subscription.until)
        self._statements.append(("INSERT OR REPLACE INTO subscription VALUES (?, ?, ?, ?, ?)", values))

    def drop_subscription(self, number: int) -> None:
        """See `Journal`."""
        self._statements.append(("DELETE FROM subscription WHERE number = ?", (number,)))
        self._statements.append(("DELETE FROM acked WHERE subscription = ?", (number,)))

    def put_batch(self, batch: Batch) -> None:
        """See `Journal`."""
        self._batches[batch.number] = batch

    def drop_batch(self, number: int) -> None:
        """See `Journal`."""
        self._acked.pop(number, None)
        if self._batches.pop(number, None) is None:
            self._dropped.append(number)

    def put_acked(self, subscription: int, message: Message) -> None:
        """See `Journal`."""
        self._acked.setdefault(message.batch, set()).add((message.batch, message.number, subscription))

    def drop_acked(self, subscription: int, message: Message) -> None:
        """See `Journal`."""
        row = (message.batch, message.number, subscription)
        self._acked.get(message.batch, set()).discard(row)
        self._statements.append(("DELETE FROM acked WHERE (batch, message, subscription) = (?, ?, ?)", row))

    def load(self) -> Stored:
        """Read everything back.

        Raises:
            sqlite3.DatabaseError: The file is damaged.
        """
        read = self._connection.execute
        return Stored(
            topics=[topic_from_proto(types.Topic.pb().FromString(spec)) for (spec,) in read("SELECT spec FROM topic")],
            subscriptions=[
                StoredSubscription(
                    number=number,
                    spec=subscription_from_proto(types.Subscription.pb().FromString(spec)),
                    source_topic=source_topic,
                    since=since,
                    until=until,
                )
                for number, spec, source_topic, since, until in read("SELECT * FROM subscription ORDER BY number")
            ],
            batches=[_read_batch(*row) for row in read("SELECT * FROM batch ORDER BY number")],
            acked=set(read("SELECT subscription, message FROM acked")),
        )

    def commit(self) -> None:
        """Write all changes in one transaction.

        Raises:
            sqlite3.Error: Nothing was written; the changes are kept for the next commit.
        """
        if not self.is_dirty:
            return
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for batch in self._batches.values():
                execute("INSERT OR REPLACE INTO batch VALUES (?, ?, ?)", (batch.number, batch.topic, _body(batch)))
            for sql, values in self._statements:
                execute(sql, values)
            if self._acked:
                execute(_PUT_ACKED, (json.dumps([row for rows in self._acked.values() for row in rows]),))
            if self._dropped:
                numbers = (json.dumps(self._dropped),)
                execute("DELETE FROM batch WHERE number IN (SELECT value FROM json_each(?))", numbers)
                execute("DELETE FROM acked WHERE batch IN (SELECT value FROM json_each(?))", numbers)
            execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        self._statements, self._batches, self._dropped, self._acked = [], {}, [], {}

    def close(self) -> None:
        """Release the file; changes not committed are lost."""
        self._connection.close()

    def _prepare(self, path: Path) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        (found,) = execute("PRAGMA user_version").fetchone()
        if found > FORMAT:
            raise Refused(f"journal {path} has format {found}, this server reads {FORMAT}; use the newer server")
        self._connection.executescript(_TABLES)
        execute(f"PRAGMA user_version = {FORMAT}")


def _body(batch: Batch) -> bytes:
    request = types.PublishRequest.pb()(messages=[message_to_proto(message) for message in batch.messages])
    body: bytes = request.SerializeToString()
    return body


def _read_batch(number: int, topic: str, body: bytes) -> Batch:
    request = types.PublishRequest.pb().FromString(body)
    return Batch(number, topic, tuple(message_from_proto(message, batch=number) for message in request.messages))
