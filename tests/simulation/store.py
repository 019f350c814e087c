"""The simulated state store: the product's `MemoryStore` behind a boundary, and how a server loses data."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.record import decode_record, encode_record
from statemachine.model import DateRecord, State
from tests.simulation.boundary import Boundary
from tests.simulation.checker import Books
from tests.simulation.moves import ENDED
from tests.support import memory_store
from tests.support.memory_store import MemoryStore
from worker.errors import Unavailable
from worker.ports import Commit, HistoryEntry, OutboxEntry, ParkedMessage

if TYPE_CHECKING:
    from tests.simulation.checker import Checker
    from tests.simulation.process import Process

T = TypeVar("T")

# As the Redis adapter: a commit whose reply was lost is sent once more.
COMMIT_SENDS_MAX = 2
# What a server keeps, and so what a snapshot holds. Not the counter of outbox entries: Redis names them by instants,
# and those do not come again after a loss.
_KEPT = ("_records", "_renewals", "_wake", "_outbox", "_history", "_arrivals", "_operations", "_last_opened")


class Codec:
    """Stands in for JSON in most runs: encoding takes half of a schedule's time and is checked by runs that keep it."""

    def __init__(self) -> None:
        self._records: list[DateRecord] = []

    def encode(self, record: DateRecord) -> bytes:
        self._records.append(record)
        return b"record %d" % (len(self._records) - 1)

    def decode(self, stored: bytes) -> DateRecord:
        if not stored.startswith(b"record "):
            return decode_record(stored)
        return self._records[int(stored[7:])]


@contextmanager
def cheap_codec() -> Iterator[None]:
    """Let `MemoryStore` keep records as they are."""
    codec = Codec()
    memory_store.encode_record, memory_store.decode_record = codec.encode, codec.decode  # type: ignore[attr-defined]
    try:
        yield
    finally:
        memory_store.encode_record, memory_store.decode_record = encode_record, decode_record  # type: ignore[attr-defined]


class Server:
    """The one store of a run, and what can happen to it."""

    def __init__(self, checker: "Checker", sabotage: frozenset[str]) -> None:
        self.memory = MemoryStore()
        self.checker = checker
        self.sabotage = sabotage
        self.losses = 0
        self.junk: set[str] = set()
        self._snapshot: dict[str, Any] | None = None

    @property
    def wakes(self) -> dict[date, datetime]:
        return self.memory._wake

    @property
    def waiting_messages(self) -> int:
        return len(self.memory._outbox)

    @property
    def arrivals_due(self) -> bool:
        """Whether a pass of the arrivals would find a night that has settled; known from the judge's own books."""
        records = (self.checker.records.get(day) for day in self.memory._arrivals)
        return any(record is not None and record.state in ENDED and record.wake_at is None for record in records)

    def take_snapshot(self) -> None:
        self._snapshot = {name: self._copied(name) for name in _KEPT}
        self._snapshot["checker"] = self.checker.snapshot()

    def restore(self) -> None:
        """Become what the snapshot holds; whatever came later is gone."""
        if self._snapshot is None:
            return
        self.losses += 1
        for name in _KEPT:
            setattr(self.memory, name, copy(self._snapshot[name]))
        self.memory._history = {day: list(entries) for day, entries in self.memory._history.items()}
        self.checker.store_restored(self._snapshot["checker"])

    def wipe(self) -> None:
        """FLUSHALL."""
        self.losses += 1
        fresh = MemoryStore()
        for name in _KEPT:
            setattr(self.memory, name, getattr(fresh, name))
        self.checker.store_restored(Books())

    def damage(self, night: date) -> bool:
        """Overwrite the bytes of one record."""
        if night not in self.memory._records:
            return False
        self.losses += 1
        version, revision, _ = self.memory._records[night]
        self.memory._records[night] = (version, revision, b'{"schema": 1, "state": "done"')
        return True

    def expire(self, night: date) -> bool:
        """Forget a finished date, as the server does after `MLFS_KEEP_FINISHED_DAYS`."""
        record = self.checker.records.get(night)
        if record is None or record.state.value not in {"done", "degraded", "failed"} or record.wake_at is not None:
            return False
        self.losses += 1
        self.memory._records.pop(night, None)
        self.memory._history.pop(night, None)
        self.checker.forget(night)
        return True

    def _copied(self, name: str) -> Any:
        part = getattr(self.memory, name)
        return {day: list(entries) for day, entries in part.items()} if name == "_history" else copy(part)


class SimulatedStore:
    """The `StateStore` port as one process sees it."""

    def __init__(self, server: Server, boundary: Boundary, process: "Process") -> None:
        self._server = server
        self._memory = server.memory
        self._boundary = boundary
        self._process = process

    def _call(self, name: str, *arguments: Any) -> Any:
        effect = getattr(self._memory, name)
        return self._boundary.call(self._process, "store", name, lambda: effect(*arguments))

    def _read(self, name: str, *arguments: Any) -> Any:
        """Read an index. A member that is junk is passed over and set aside, as the Redis adapter does."""
        answer = self._call(name, *arguments)
        if name in self._server.junk:
            # Where the server does not answer now, the next reader sets the member aside.
            with suppress(Unavailable):
                self._boundary.call(self._process, "store", "set_aside", lambda: self._server.junk.discard(name))
        return answer

    def load(self, analysis_date: date) -> DateRecord | None:
        return self._call("load", analysis_date)  # type: ignore[no-any-return]

    def load_all(self, analysis_dates: Sequence[date]) -> Mapping[date, DateRecord | None]:
        return self._call("load_all", analysis_dates)  # type: ignore[no-any-return]

    def commit(self, commit: Commit) -> bool:
        return self._send("commit", lambda: self._commit(commit))

    def commit_all(self, commits: Sequence[Commit]) -> Sequence[bool]:
        return self._send("commit_all", lambda: [*map(self._commit, commits)]) if commits else []

    def renew(self, held: DateRecord, until_at: datetime, operation_id: str) -> bool:
        return self._send("renew", lambda: self._renew(held, until_at, operation_id))

    def _send(self, name: str, effect: Callable[[], T]) -> T:
        for send in range(1, COMMIT_SENDS_MAX + 1):
            try:
                return self._boundary.call(self._process, "store", name, effect)
            except Unavailable:
                if send == COMMIT_SENDS_MAX:
                    raise
        raise AssertionError

    def _commit(self, commit: Commit) -> bool:
        sabotage, memory = self._server.sabotage, self._memory
        day = commit.record.analysis_date
        if "version_check_off" in sabotage and day in memory._records:
            memory._records[day] = (commit.record.version - 1, commit.record.revision, memory._records[day][2])
        if "operation_id_off" in sabotage:
            memory._operations.discard(commit.operation_id)
        if "outbox_dropped" in sabotage:
            commit = replace(commit, messages=())
        known = commit.operation_id in memory._operations
        stored = memory.commit(commit)
        self._forget_time(commit.record)
        if stored and not known:
            self._server.checker.committed(self._process, commit)
        self._server.checker.answered(commit, stored=stored)
        return stored

    def _renew(self, held: DateRecord, until_at: datetime, operation_id: str) -> bool:
        memory, day = self._memory, held.analysis_date
        if "version_check_off" in self._server.sabotage and day in memory._records:
            memory._records[day] = (held.version, held.revision, memory._records[day][2])
        known = memory._records.get(day, (0, "", b""))[1] == operation_id
        stored = memory.renew(held, until_at, operation_id)
        if stored and not known:
            self._server.checker.renewed(self._process, day, until_at)
        return stored

    def _forget_time(self, record: DateRecord) -> None:
        wakes = self._memory._wake
        if "forgets_deadline" in self._server.sabotage and record.state is State.FAILED:
            wakes.pop(record.analysis_date, None)
        if "looks_once" in self._server.sabotage and record.state is State.DEGRADED and record.wake_at is not None:
            wakes[record.analysis_date] = record.upgrade_cutoff_at

    def barrier(self) -> None:
        self._call("barrier")

    def quarantine(self, analysis_date: date) -> None:
        self._boundary.call(self._process, "store", "quarantine", lambda: self._quarantine(analysis_date))

    def _quarantine(self, analysis_date: date) -> None:
        before = len(self._memory.quarantined)
        self._memory.quarantine(analysis_date)
        if len(self._memory.quarantined) > before:
            self._server.checker.forget(analysis_date)

    def due(self, now: datetime, limit: int, skip: int = 0) -> Sequence[date]:
        return self._read("due", now, limit, skip)  # type: ignore[no-any-return]

    def next_wake(self, after: datetime | None = None) -> datetime | None:
        return self._call("next_wake", after)  # type: ignore[no-any-return]

    def dates(self, limit: int) -> Sequence[date]:
        return self._read("dates", limit)  # type: ignore[no-any-return]

    def history(self, analysis_date: date) -> Sequence[HistoryEntry]:
        return self._read("history", analysis_date)  # type: ignore[no-any-return]

    def unwritten_arrivals(self, limit: int, skip: int = 0) -> Mapping[date, int]:
        return self._call("unwritten_arrivals", limit, skip)  # type: ignore[no-any-return]

    def arrivals_written(self, marks: Mapping[date, int]) -> None:
        self._call("arrivals_written", marks)

    def outbox(self, limit: int, after: str = "") -> Sequence[OutboxEntry]:
        entries: Sequence[OutboxEntry] = self._read("outbox", limit, after)
        if "forgets_before_publish" in self._server.sabotage:
            for entry in entries:
                self._memory.remove_from_outbox(entry.entry_id)
        return entries

    def remove_from_outbox(self, entry_id: str) -> None:
        self._call("remove_from_outbox", entry_id)

    def note_refused(self, entry_id: str, error: str) -> None:
        self._call("note_refused", entry_id, error)

    def outbox_size(self) -> int:
        return self._call("outbox_size")  # type: ignore[no-any-return]

    def park(self, parked: ParkedMessage) -> None:
        self._call("park", parked)

    def parked(self, limit: int) -> Sequence[ParkedMessage]:
        return self._call("parked", limit)  # type: ignore[no-any-return]

    def last_opened(self) -> date | None:
        return self._call("last_opened")  # type: ignore[no-any-return]

    def set_last_opened(self, analysis_date: date) -> None:
        self._call("set_last_opened", analysis_date)

    def lower_last_opened(self, *, ceiling: date, to: date) -> bool:
        return self._boundary.call(
            self._process,
            "store",
            "lower_last_opened",
            lambda: self._memory.lower_last_opened(ceiling=ceiling, to=to),
        )

    def check_writable(self) -> None:
        self._call("check_writable")

    def damage_counts(self) -> Mapping[str, int]:
        return self._memory.damage_counts()

    def close(self) -> None:
        """Keep everything."""
