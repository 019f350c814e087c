"""Unreadable members and keys of the state store: logged once, counted once, and set aside.

Analysis dates share a few keys, so an unreadable member must not stop the reader of the other members. Only a process
with write access sets damage aside: an unreadable member moves into the stream `damaged`, and a key of a wrong type is
renamed to `damaged:<name>`. Both copies are bounded. A crash between the steps leaves the member in place, or twice;
the next reader finds the member again.
"""

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis

from worker.ports import DAMAGE_KINDS

# `commit.lua`, the readers and the writers expect these types.
TYPES: Mapping[str, str] = {
    "wake": "zset",
    "dates": "zset",
    "arrivals": "zset",
    "outbox": "stream",
    "changes": "list",
    "parked": "stream",
    "calendar": "zset",
    "refused": "hash",
}
DAMAGED = "damaged"
DAMAGED_LENGTH_MAX = 1000
# An outbox entry has about 2 KiB. A longer member was written by another program; the beginning suffices to identify
# the member.
DAMAGED_BYTES_MAX = 16 * 1024
# A person examines a key that was set aside within a month, or never.
DAMAGED_KEPT_MS = 30 * 24 * 3600 * 1000
# Member of the wake index that requests a rebuild of the wake index, the list of dates and the marks of arrivals. A
# worker that dies before the rebuild leaves the request in the index.
REBUILD = b"rebuild"
# Number of findings remembered as logged. A store with more damage is logged again.
_REMEMBERED_MAX = 10_000
# Number of findings kept for `mlfs doctor`. A person repairs more findings with `mlfs recover`, not by hand.
FAULTS_KEPT_MAX = 100
_SHOWN_BYTES_MAX = 200


def log_damage(key: str, member: str, why: str) -> None:
    """Write the line that a worker logs once for each finding."""
    _log().error("store_damaged", key=key, member=member, error=why)


def keep_quiet(key: str, member: str, why: str) -> None:
    """Do not report the finding: commands print only the answer, and `mlfs doctor` names the damage."""


class Damage:
    """Record of unreadable members and keys that changes no key, for commands that only read. Thread-safe."""

    def __init__(self, report: Callable[[str, str, str], None] = keep_quiet) -> None:
        """Start without findings; call *report* with key, member and cause once for each finding."""
        self._report = report
        self._lock = threading.Lock()
        self._known: set[bytes] = set()
        self._counts: Counter[str] = Counter()
        self._faults: deque[str] = deque(maxlen=FAULTS_KEPT_MAX)

    def counts(self) -> Mapping[str, int]:
        """Return the numbers of damaged members and keys found by this process: {kind of key: number}."""
        with self._lock:
            return {kind: self._counts[kind] for kind in DAMAGE_KINDS}

    def faults(self) -> Sequence[str]:
        """Return a sentence for each damaged member and key, in the order of discovery."""
        with self._lock:
            return list(self._faults)

    def member(self, name: str, member: bytes, why: str, removal: Sequence[Any] = ()) -> None:
        """Record an unreadable member.

        Args:
            name: Key of the member, without the pipeline's tag.
            member: The stored bytes.
            why: The cause, in words.
            removal: Command that removes the member from the key; empty where a later trim of the key removes the
                member.
        """
        if self._is_new(name, member, f"{name} holds {member[:_SHOWN_BYTES_MAX]!r}, which cannot be read: {why}"):
            self._report(name, repr(member[:_SHOWN_BYTES_MAX]), why)
        if removal and self._move_member(name, member, why, removal):
            self._forget(name, member)

    def key(self, name: str) -> None:
        """Record a key whose type differs from `TYPES`."""
        wanted = TYPES[name.partition(":")[0]]
        if self._is_new(name, b"", f"{name} is not a {wanted}, as it should be"):
            self._report(name, "", f"is not a {wanted}")
        if self._move_key(name, wanted):
            self._forget(name, b"")

    def _forget(self, name: str, member: bytes) -> None:
        """Forget a finding that was set aside, so that the next occurrence is logged and counted again."""
        with self._lock:
            self._known.discard(_mark(name, member))

    def _is_new(self, name: str, member: bytes, fault: str) -> bool:
        mark = _mark(name, member)
        with self._lock:
            if mark in self._known:
                return False
            if len(self._known) >= _REMEMBERED_MAX:
                self._known.clear()
            self._known.add(mark)
            self._counts[name.partition(":")[0]] += 1
            self._faults.append(fault)
        return True

    def _move_member(self, name: str, member: bytes, why: str, removal: Sequence[Any]) -> bool:  # noqa: ARG002
        """Leave the member in place; return whether the member was moved."""
        return False

    def _move_key(self, name: str, wanted: str) -> bool:  # noqa: ARG002
        """Leave the key in place; return whether the key was moved."""
        return False


class SettingAside(Damage):
    """Record that also sets damage aside. A move refused by the server is tried again at the next reading."""

    def __init__(self, client: redis.Redis, tag: str, report: Callable[[str, str, str], None] = keep_quiet) -> None:
        super().__init__(report)
        self._client = client
        self._tag = tag

    def _move_member(self, name: str, member: bytes, why: str, removal: Sequence[Any]) -> bool:
        kept: dict[Any, Any] = {"key": name, "member": member[:DAMAGED_BYTES_MAX], "why": why}
        try:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.xadd(f"{self._tag}:{DAMAGED}", kept, maxlen=DAMAGED_LENGTH_MAX, approximate=True)
                pipe.execute_command(*removal)
                pipe.execute()
        except redis.RedisError as exc:
            _log().warning("damage_not_set_aside", key=name, error=str(exc))
            return False
        return True

    def _move_key(self, name: str, wanted: str) -> bool:
        key, aside = f"{self._tag}:{name}", f"{self._tag}:{DAMAGED}:{name}"
        try:
            with self._client.pipeline(transaction=True) as pipe:
                # Another worker may have moved the key already, and a commit may have created a new key of the right
                # type since.
                pipe.watch(key)
                found = pipe.execute_command("TYPE", key)
                if found in {b"none", wanted.encode()}:
                    return True
                pipe.multi()
                pipe.rename(key, aside)
                pipe.pexpire(aside, DAMAGED_KEPT_MS)
                if name in {"wake", "dates", "arrivals"}:
                    pipe.zadd(f"{self._tag}:wake", {REBUILD: 0})
                pipe.execute()
        except redis.RedisError as exc:
            _log().warning("damage_not_set_aside", key=name, error=str(exc))
            return False
        return True


def _mark(name: str, member: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + member).digest()


def _log() -> Any:  # noqa: ANN401 - structlog's own type is decided when first used
    """Return the logger of this module; structlog is not imported for a command that logs nothing."""
    import structlog  # noqa: PLC0415

    return structlog.get_logger(__name__)
