"""Journal of the local Pub/Sub server in an SQLite file; and the interface between broker and journal.

Model: a row for each topic, subscription and publish call, and a row for each acknowledgement of a message whose batch
is still held by a subscription. Changes collect in memory, and `commit` writes all changes in a transaction.

Guarantees: a committed change survives the death of the process, including `kill -9`, by the write-ahead log with
`synchronous=NORMAL`. A power cut may lose the last commits, but never damages the file. After a failed commit (disk
full) the changes stay in memory for the next commit. An unreadable file is refused with the cure before the first
client is served. If another program replaces or removes the file while the server runs, the next commit writes a
complete new file.

A crash before a commit loses the messages of unconfirmed publish calls, and the last acknowledgements, so that the
server delivers these messages again.

A single statement with a list as argument writes all acknowledgements: sqlite3 releases Python's interpreter lock for
each row of a statement, and with busy threads each release could cost milliseconds.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError
from google.pubsub_v1 import types

from worker.errors import Fatal, Refused, Unavailable
from worker.local.pubsub.model import Batch, CallRefused, Message, StoredSubscription, TopicSpec
from worker.local.pubsub.resources import (
    subscription_from_proto,
    subscription_to_proto,
    topic_from_proto,
    topic_to_proto,
)
from worker.local.pubsub.wire import message_from_proto, message_to_proto


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Content of a journal, the argument of `Broker.restore`. *acked* holds (subscription, message) numbers."""

    topics: Sequence[TopicSpec] = ()
    subscriptions: Sequence[StoredSubscription] = ()
    batches: Sequence[Batch] = ()
    acked: Collection[tuple[int, int]] = ()


class Journal:
    """Interface by which the broker stores changes that must survive a restart.

    This class is the default and stores no changes: all messages end with the server.
    """

    @property
    def is_dirty(self) -> bool:
        """Whether a commit has changes to write."""
        return False

    def put_topic(self, topic: TopicSpec) -> None:
        """Store a topic, replacing an earlier version."""

    def drop_topic(self, name: str) -> None:
        """Delete a topic."""

    def put_subscription(self, subscription: StoredSubscription) -> None:
        """Store a subscription, replacing an earlier version."""

    def drop_subscription(self, number: int) -> None:
        """Delete a subscription and the acknowledgements of the subscription."""

    def put_batch(self, batch: Batch) -> None:
        """Store published messages."""

    def drop_batch(self, number: int) -> None:
        """Delete a batch and the acknowledgements of the messages."""

    def put_acked(self, subscription: int, message: Message) -> None:
        """Store the acknowledgement of a message by a subscription; repeatable."""

    def drop_acked(self, subscription: int, message: Message) -> None:
        """Delete an acknowledgement after a seek."""

    def load(self) -> Stored:
        """Read the content of the journal."""
        return Stored()

    def commit(self) -> None:
        """Write the changes reported by the broker.

        Raises:
            sqlite3.Error, OSError: No change was written; the next commit tries again.
        """

    def close(self) -> None:
        """Close the journal; uncommitted changes are lost."""


class BatchRetention:
    """Reference count of batches: the journal keeps a batch while any subscription holds a message of the batch."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._holders: dict[int, int] = {}

    def put(self, batch: Batch, holders: int) -> None:
        """Store a batch that is referenced by *holders* entries of backlogs."""
        self.restore(batch.number, holders)
        self.journal.put_batch(batch)

    def restore(self, number: int, holders: int) -> None:
        """Set the number of references to a stored batch."""
        self._holders[number] = holders

    def release(self, number: int) -> bool:
        """Remove a reference; return whether the batch is still stored."""
        self._holders[number] -= 1
        if self._holders[number] > 0:
            return True
        del self._holders[number]
        self.journal.drop_batch(number)
        return False


FORMAT: Final = 1
"""Version of the tables; raised by a change that an older server cannot read."""

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

_log = structlog.get_logger(__name__)
_Statement = tuple[str, tuple[object, ...]]
_Acked = tuple[int, int, int]


class SqliteJournal(Journal):
    """Journal in an SQLite file, held exclusively.

    Raises:
        Refused: The file belongs to another running server, or was written by a newer server.
        Fatal: The file is damaged, or may not be opened.
        Unavailable: The disk is full, or fails.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._replaced: list[sqlite3.Connection] = []
        self._statements: list[_Statement] = []
        self._batches: dict[int, Batch] = {}
        self._dropped: list[int] = []
        self._acked: dict[int, set[_Acked]] = {}
        with _translated(path):
            if not path.exists():
                _create(path)
            self._connection, self._file = _open(path)

    @property
    def is_dirty(self) -> bool:
        """See `Journal`."""
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
        """Read the content of the journal.

        Raises:
            Fatal: The file is damaged.
        """
        with _translated(self._path):
            return self._read()

    def _read(self) -> Stored:
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
        """See `Journal`; all changes are a single transaction."""
        if not self.is_dirty:
            return
        if _identity(self._path) != self._file:
            self._write_anew()
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
        """See `Journal`."""
        for connection in (self._connection, *self._replaced):
            connection.close()

    def _write_anew(self) -> None:
        """Copy the content of the open but removed file into a new file, and continue with the new file."""
        _log.warning("pubsub_journal_replaced", path=str(self._path))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = _fresh(self._path)
        with closing(sqlite3.connect(fresh)) as copy:
            self._connection.backup(copy)
        _put_in_place(fresh, self._path)
        # Closing an old connection would remove the write-ahead log by name, and the name now belongs to the new file.
        self._replaced.append(self._connection)
        self._connection, self._file = _open(self._path)


def _create(path: Path) -> None:
    """Create an empty journal atomically, so that a file without tables is always a damaged file."""
    fresh = _fresh(path)
    with closing(sqlite3.connect(fresh)) as connection:
        connection.executescript(f"{_TABLES} PRAGMA user_version = {FORMAT};")
    _put_in_place(fresh, path)


def _fresh(path: Path) -> Path:
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    return fresh


def _put_in_place(fresh: Path, path: Path) -> None:
    """Move a new file into place after removing the write-ahead log of an older file."""
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    fresh.replace(path)


def _open(path: Path) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
    # A single thread writes at a time, possibly another thread than the opening thread.
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        execute = connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        _check_format(path, execute("PRAGMA user_version").fetchone()[0])
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection, _identity(path)


def _check_format(path: Path, found: int) -> None:
    if found > FORMAT:
        raise Refused(f"journal {path} has format {found}, this server reads {FORMAT}; use the newer server")
    if found == 0:
        raise sqlite3.DatabaseError("the file holds no tables")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the identity of a file, which changes when the file is replaced; None for a missing file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise errors at the opening of a journal as errors of `worker.errors`, each with the cure."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Refused(f"journal {path} cannot be opened ({exc}); stop the server that uses it") from exc
        if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
            raise Unavailable(f"journal {path} cannot be opened ({exc}); make room on the disk") from exc
        raise Fatal(
            f"journal {path} cannot be opened ({exc}); let this user read and write the file and the folder"
        ) from exc
    except (sqlite3.DatabaseError, DecodeError, CallRefused, ValueError, TypeError) as exc:
        raise Fatal(
            f"journal {path} is damaged ({exc}); move the file aside (mv {path} {path}.damaged) and start again: only "
            "unacknowledged local messages are lost"
        ) from exc


def _body(batch: Batch) -> bytes:
    request = types.PublishRequest.pb()(messages=[message_to_proto(message) for message in batch.messages])
    body: bytes = request.SerializeToString()
    return body


def _read_batch(number: int, topic: str, body: bytes) -> Batch:
    request = types.PublishRequest.pb().FromString(body)
    return Batch(number, topic, tuple(message_from_proto(message, batch=number) for message in request.messages))
