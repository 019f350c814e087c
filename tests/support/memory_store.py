"""The state store in memory: for unit tests and simulation. It passes the same contract suite as the Redis store."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime

from schemas.record import UnreadableRecord, decode_record, encode_record
from statemachine.model import DateRecord
from worker.errors import CorruptRecord
from worker.ports import DAMAGE_KINDS, Commit, HistoryEntry, OutboxEntry, ParkedMessage

PARKED_LENGTH_MAX = 1000
LONG_DUE = datetime.fromtimestamp(0, UTC)


class MemoryStore:
    """The `StateStore` port in one process; records are kept in their stored form, so that encoding is exercised."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[date, tuple[int, str, bytes]] = {}
        self._renewals: dict[date, tuple[str, datetime]] = {}
        self._wake: dict[date, datetime] = {}
        self._outbox: dict[str, OutboxEntry] = {}
        self._history: dict[date, list[HistoryEntry]] = {}
        self._arrivals: dict[date, int] = {}
        self._operations: set[str] = set()
        self._parked: deque[ParkedMessage] = deque(maxlen=PARKED_LENGTH_MAX)
        self._last_opened: date | None = None
        self._entries = 0
        self.quarantined: list[tuple[date, bytes]] = []
        self._parts: dict[str, MemoryStore] = {}

    def apart(self, name: str) -> "MemoryStore":
        """The same store for the same name, with nothing of this one in it."""
        return self._parts.setdefault(name, MemoryStore())

    def load(self, analysis_date: date) -> DateRecord | None:
        """Read the record of the date."""
        with self._lock:
            stored = self._records.get(analysis_date)
            revision, until_at = self._renewals.get(analysis_date, ("", None))
        if stored is None:
            return None
        try:
            record = replace(decode_record(stored[2]), revision=stored[1])
        except UnreadableRecord as exc:
            raise CorruptRecord(analysis_date, str(exc)) from exc
        return record.with_lease_until(until_at) if revision == record.revision else record

    def commit(self, commit: Commit) -> bool:
        """Store all or nothing."""
        record = commit.record
        day = record.analysis_date
        encoded = encode_record(record)
        with self._lock:
            if commit.operation_id in self._operations:
                return True
            version, revision, _ = self._records.get(day, (0, "", b""))
            if (version, revision) != (record.version - 1, record.revision):
                return False
            self._operations.add(commit.operation_id)
            self._records[day] = (record.version, commit.operation_id, encoded)
            if record.wake_at is None:
                self._wake.pop(day, None)
            else:
                self._wake[day] = record.wake_at
            if commit.history is not None:
                self._history.setdefault(day, []).append(commit.history)
                if commit.history.reports:
                    self._arrivals[day] = record.version
            for message in commit.messages:
                self._entries += 1
                entry_id = str(self._entries)
                queued_at = None if commit.history is None else commit.history.at
                self._outbox[entry_id] = OutboxEntry(entry_id=entry_id, message=message, queued_at=queued_at)
        return True

    def renew(self, held: DateRecord, until_at: datetime, operation_id: str) -> bool:
        """Extend the lease of the stored record."""
        day = held.analysis_date
        with self._lock:
            version, revision, stored = self._records.get(day, (0, "", b""))
            if version != held.version or revision not in {held.revision, operation_id}:
                return False
            self._records[day] = (version, operation_id, stored)
            self._renewals[day] = (operation_id, until_at)
            self._wake[day] = until_at
        return True

    def load_all(self, analysis_dates: Sequence[date]) -> Mapping[date, DateRecord | None]:
        """Read one after the other."""
        found: dict[date, DateRecord | None] = {}
        for day in analysis_dates:
            with suppress(CorruptRecord):
                found[day] = self.load(day)
        return found

    def commit_all(self, commits: Sequence[Commit]) -> Sequence[bool]:
        """Store one after the other."""
        return [self.commit(commit) for commit in commits]

    def barrier(self) -> None:
        """Memory is as durable as it gets."""

    def quarantine(self, analysis_date: date) -> None:
        """Move the record out of the way, unless somebody has replaced it already."""
        with self._lock:
            stored = self._records.get(analysis_date)
            if stored is not None and not _readable(stored[2]):
                del self._records[analysis_date]
                self.quarantined.append((analysis_date, stored[2]))
                self._wake[analysis_date] = LONG_DUE

    def due(self, now: datetime, limit: int, skip: int = 0) -> Sequence[date]:
        """Give overdue dates, the longest overdue first."""
        with self._lock:
            overdue = sorted((wake_at, day) for day, wake_at in self._wake.items() if wake_at <= now)
        return [day for _wake_at, day in overdue[skip : skip + limit]]

    def next_wake(self, after: datetime | None = None) -> datetime | None:
        """Give the earliest wake."""
        with self._lock:
            return min((wake for wake in self._wake.values() if after is None or wake > after), default=None)

    def dates(self, limit: int) -> Sequence[date]:
        """Give the newest dates."""
        with self._lock:
            return sorted(self._records, reverse=True)[:limit]

    def history(self, analysis_date: date) -> Sequence[HistoryEntry]:
        """Give the date's history."""
        with self._lock:
            return list(self._history.get(analysis_date, []))

    def unwritten_arrivals(self, limit: int, skip: int = 0) -> Mapping[date, int]:
        """Give the marks, the lowest first."""
        with self._lock:
            return dict(sorted(self._arrivals.items(), key=lambda marked: marked[::-1])[skip : skip + limit])

    def arrivals_written(self, marks: Mapping[date, int]) -> None:
        """Remove the marks that are as they were."""
        with self._lock:
            self._arrivals = {day: mark for day, mark in self._arrivals.items() if marks.get(day) != mark}

    def outbox(self, limit: int, after: str = "") -> Sequence[OutboxEntry]:
        """Give waiting messages; their ids are numbers."""
        with self._lock:
            return [entry for name, entry in self._outbox.items() if int(name) > int(after or 0)][:limit]

    def remove_from_outbox(self, entry_id: str) -> None:
        """Forget one message."""
        with self._lock:
            self._outbox.pop(entry_id, None)

    def outbox_size(self) -> int:
        """Count waiting messages."""
        with self._lock:
            return len(self._outbox)

    def note_refused(self, entry_id: str, error: str) -> None:
        """Keep the error with the entry; an entry that is gone needs none."""
        with self._lock:
            if entry_id in self._outbox:
                self._outbox[entry_id] = replace(self._outbox[entry_id], error=error)

    def park(self, parked: ParkedMessage) -> None:
        """Keep a refused message."""
        with self._lock:
            self._parked.append(parked)

    def parked(self, limit: int) -> Sequence[ParkedMessage]:
        """Give refused messages, newest first."""
        with self._lock:
            return list(reversed(self._parked))[:limit]

    def last_opened(self) -> date | None:
        """Give how far the calendar has come."""
        with self._lock:
            return self._last_opened

    def set_last_opened(self, analysis_date: date) -> None:
        """Raise the mark, never lower it."""
        with self._lock:
            self._last_opened = max(analysis_date, self._last_opened or analysis_date)

    def lower_last_opened(self, *, ceiling: date, to: date) -> bool:
        """Lower the mark where it is too high."""
        with self._lock:
            if self._last_opened is None or self._last_opened <= ceiling:
                return False
            self._last_opened = to
            return True

    def check_writable(self) -> None:
        """Memory can be written to."""

    def damage_counts(self) -> Mapping[str, int]:
        """Memory keeps values, so nothing in it is unreadable but a record."""
        return dict.fromkeys(DAMAGE_KINDS, 0)

    def close(self) -> None:
        """Keep everything: another worker of the same simulation may still read it."""


def _readable(stored: bytes) -> bool:
    try:
        decode_record(stored)
    except UnreadableRecord:
        return False
    return True
