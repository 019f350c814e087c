"""What cannot be read in the state store: told and counted once, named, set aside by a process that may change it.

Every date shares a few keys, so one unreadable member must never stop the reader of the others. A member is moved into
the stream `damaged`; a key of a wrong type is renamed to `damaged:<name>`. Both are bounded. A crash between the steps
leaves the member where it was, or twice: the next reader finds it again.
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
    "outbox": "stream",
    "changes": "list",
    "parked": "stream",
    "calendar": "zset",
    "refused": "hash",
}
DAMAGED = "damaged"
DAMAGED_LENGTH_MAX = 1000
# An outbox entry with its message has about 2 KiB; what is longer is somebody else's, and its beginning names it.
DAMAGED_BYTES_MAX = 16 * 1024
# A key that was set aside is looked at within a month, or never.
DAMAGED_KEPT_MS = 30 * 24 * 3600 * 1000
# The member that asks for the wake index and the list of dates to be made anew from the records. It lies in the index
# itself, so that a worker that dies before it has done so leaves the request behind.
REBUILD = b"rebuild"
# What is remembered as logged; a store with more damage than this is logged again.
_REMEMBERED_MAX = 10_000
# So many are named; a person repairs them by `mlfs recover`, not one by one.
FAULTS_KEPT_MAX = 100
_SHOWN_BYTES_MAX = 200


def log_damage(key: str, member: str, why: str) -> None:
    """Write the line that a worker logs once for each finding."""
    _log().error("store_damaged", key=key, member=member, error=why)


def keep_quiet(key: str, member: str, why: str) -> None:
    """A command prints its answer; `mlfs doctor` names the damage."""


class Damage:
    """Notes what cannot be read and changes nothing: for commands that only read. Thread-safe."""

    def __init__(self, tell: Callable[[str, str, str], None] = keep_quiet) -> None:
        """Begin without findings; *tell* hears of each finding once: key, member, cause."""
        self._tell = tell
        self._lock = threading.Lock()
        self._known: set[bytes] = set()
        self._counts: Counter[str] = Counter()
        self._faults: deque[str] = deque(maxlen=FAULTS_KEPT_MAX)

    def counts(self) -> Mapping[str, int]:
        """Return how many damaged members and keys this process has found, by kind of key."""
        with self._lock:
            return {kind: self._counts[kind] for kind in DAMAGE_KINDS}

    def faults(self) -> Sequence[str]:
        """Return each damaged member and key in words, in the order in which they were found."""
        with self._lock:
            return list(self._faults)

    def member(self, name: str, member: bytes, why: str, removal: Sequence[Any] = ()) -> None:
        """Note an unreadable member.

        Args:
            name: Its key, without the pipeline's tag.
            member: What is stored.
            why: What is wrong with it.
            removal: The command that takes it out of its key; empty where it stays until the key is shortened.
        """
        if self._is_new(name, member, f"{name} holds {member[:_SHOWN_BYTES_MAX]!r}, which cannot be read: {why}"):
            self._tell(name, repr(member[:_SHOWN_BYTES_MAX]), why)
        if removal and self._move_member(name, member, why, removal):
            self._forget(name, member)

    def key(self, name: str) -> None:
        """Note a key that holds a value of another type than `TYPES` says."""
        wanted = TYPES[name.partition(":")[0]]
        if self._is_new(name, b"", f"{name} is not a {wanted}, as it should be"):
            self._tell(name, "", f"is not a {wanted}")
        if self._move_key(name, wanted):
            self._forget(name, b"")

    def _forget(self, name: str, member: bytes) -> None:
        """Have what was set aside logged and counted again when it appears again."""
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
        """Leave the member where it is; return whether it was moved."""
        return False

    def _move_key(self, name: str, wanted: str) -> bool:  # noqa: ARG002
        """Leave the key where it is; return whether it was moved."""
        return False


class SettingAside(Damage):
    """Also moves what cannot be read out of the way. What the server refuses to move is passed over until next time."""

    def __init__(self, client: redis.Redis, tag: str, tell: Callable[[str, str, str], None] = keep_quiet) -> None:
        super().__init__(tell)
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
                # Another worker may have moved the key already, and a commit may have begun the right one since.
                pipe.watch(key)
                found = pipe.execute_command("TYPE", key)
                if found in {b"none", wanted.encode()}:
                    return True
                pipe.multi()
                pipe.rename(key, aside)
                pipe.pexpire(aside, DAMAGED_KEPT_MS)
                if name in {"wake", "dates"}:
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
