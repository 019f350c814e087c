"""The history of a run, one JSON line an observation, and those who observe: the store, the outcomes, the readers.

Nothing here judges. Kinds of lines: `settings` `night` `wrote` `published` `poison` `acked` `outcome` `dead_letter`
`act` `worker` `record` `entry` `look` `job` `operator`, and at the end `final_…`. Times are seconds since 1970 UTC.
"""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import redis
from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry

from worker.adapters.pubsub.connection import publisher_client, subscriber_client
from worker.clock import SystemClock

TAG = "{mlfs:ml_feature_store_v2}"
CHANGE = ("at", "event", "before", "after", "reason", "generation", "attempt", "actor", "detail", "reports")
PROJECT = "nba-props-platform"
TOPIC = "phase4-processor-success"
OUTCOMES = ("ml-feature-store-success-phase5", "ml-feature-store-failure-oncall")
PARKED = "phase4-processor-success-dlq-parked"
POLL_S = 0.3

Version = tuple[bytes | None, bytes | None]


def utc_now() -> datetime:
    return SystemClock().now()


def now() -> float:
    return utc_now().timestamp()


class History:
    """The file, and how many lines of each kind it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()
        self.counts: dict[str, int] = {}

    def note(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"t": fields.pop("t", None) or now(), "kind": kind, **fields}, default=str)
        with self._lock:
            if not self._file.closed:
                self._file.write(line + "\n")
                self.counts[kind] = self.counts.get(kind, 0) + 1

    def close(self) -> None:
        with self._lock:
            self._file.close()


class Observer:
    """Repeats a look on a thread of its own; a fault of the moment is no observation."""

    def __init__(self, name: str, look: Callable[[], None], pause_s: float = POLL_S) -> None:
        self._look = look
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self.failures = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _repeat(self) -> None:
        while not self._stop.wait(self._pause_s):
            try:
                self._look()
            except (redis.RedisError, google_errors.GoogleAPIError, RuntimeError, OSError, ValueError):
                self.failures += 1


class StoreWatch:
    """Follows every record and its history; a *life* ends when the store, or one date of it, was lost or set back."""

    def __init__(self, client: Callable[[], redis.Redis], history: History) -> None:
        self._client = client
        self._history = history
        self._lock = threading.RLock()
        self.life = 0
        self._versions: dict[str, Version] = {}
        self._entries: dict[str, bytes] = {}
        self.states: dict[str, str] = {}

    @contextmanager
    def set_back(self):
        """While something takes the store back in time nobody looks; afterwards its dates live another life."""
        with self._lock:
            with suppress(redis.RedisError):
                self.look()
            try:
                yield
            finally:
                self.life += 1
                self._versions.clear()
                self._entries.clear()

    def look(self) -> None:
        """Note what changed since the last look."""
        with self._lock:
            client = self._client()
            days = [member.decode() for member in client.zrange(f"{TAG}:dates", 0, -1)]
            with client.pipeline(transaction=False) as pipe:
                for day in days:
                    pipe.hmget(f"{TAG}:date:{day}", ["v", "n"])
                stored = [tuple(one) for one in pipe.execute()]
            for day, version in zip(days, stored, strict=True):
                if self._versions.get(day) != version:
                    self._versions[day] = self._note_date(client, day)

    def leases(self) -> dict[str, str]:
        """Who builds which date now."""
        client = self._client()
        days = [day for day, state in list(self.states.items()) if state not in {"done", "degraded", "failed"}]
        with client.pipeline(transaction=False) as pipe:
            for day in days:
                pipe.hget(f"{TAG}:date:{day}", "r")
            stored = pipe.execute()
        records = {day: _json(text or b"null") for day, text in zip(days, stored, strict=True)}
        return {day: str(record["lease"]["owner"]) for day, record in records.items() if record and record.get("lease")}

    def _note_date(self, client: redis.Redis, day: str) -> Version:
        version, revision, record = client.hmget(f"{TAG}:date:{day}", ["v", "n", "r"])
        changes = client.lrange(f"{TAG}:changes:{day}", 0, -1)
        for change in changes[self._seen(day, changes) :]:
            self._entries[day] = change
            if (entry := _entry(change)) is not None:
                self._history.note("entry", date=day, life=self.life, **entry)
        if record is None:
            self.states.pop(day, None)
            return version, revision
        read = _json(record)
        if read is not None:
            # A date that failed before its deadline is built again at it: it has not come to rest.
            is_due = read["state"] == "failed" and read.get("wake_at")
            self.states[day] = "failed, due" if is_due else read["state"]
            self._history.note("record", date=day, life=self.life, version=int(version or 0), record=read)
        return version, revision

    def _seen(self, day: str, changes: list[bytes]) -> int:
        """How many of the changes were noted before: the list loses its oldest, so the last one noted is looked for."""
        last = self._entries.get(day)
        return changes.index(last) + 1 if last in changes else 0

    def dump(self) -> None:
        """The store as it is at the end."""
        with self._lock:
            client = self._client()
            self.look()
            for day in [member.decode() for member in client.zrange(f"{TAG}:dates", 0, -1)]:
                version, record = client.hmget(f"{TAG}:date:{day}", ["v", "r"])
                self._history.note(
                    "final_record",
                    date=day,
                    version=int(version or 0),
                    record=_json(record or b"null"),
                    history=[
                        entry for change in client.lrange(f"{TAG}:changes:{day}", 0, -1) if (entry := _entry(change))
                    ],
                )
            keys = client.dbsize()
            self._history.note("final_store", keys=keys, outbox=client.xlen(f"{TAG}:outbox"), dates=len(self.states))


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _entry(text: bytes) -> dict[str, Any] | None:
    """A change by name; None for an element that the nemesis has written there."""
    read = _json(text)
    if not isinstance(read, list):
        return None
    # A change without a report ends before the reports.
    whole = read if len(read) == len(CHANGE) else [*read, []]
    entry = dict(zip(CHANGE, whole, strict=True))
    return {("was" if name == "before" else "now" if name == "after" else name): v for name, v in entry.items()}


class Receiver:
    """A subscriber that notes what it gets and acknowledges it."""

    def __init__(self, address: str, history: History) -> None:
        self._client: Any = subscriber_client(address)
        self._history = history
        self.told: set[str] = set()

    def look(self) -> None:
        for subscription in (*OUTCOMES, PARKED):
            self._take(subscription)

    def _take(self, subscription: str) -> None:
        path = self._client.subscription_path(PROJECT, subscription)
        # Without `return_immediately` an empty subscription would hold the call, and the two others with it.
        answer = self._client.pull(
            request={"subscription": path, "max_messages": 200, "return_immediately": True}, timeout=3, retry=None
        )
        for item in answer.received_messages:
            message = item.message
            if subscription == PARKED:
                self._history.note("dead_letter", attributes=dict(message.attributes), data=repr(message.data[:200]))
                continue
            outcome = json.loads(message.data)
            self.told.add(outcome["event_id"])
            self._history.note("outcome", topic=subscription, message_id=message.message_id, outcome=outcome)
        if answer.received_messages:
            ids = [item.ack_id for item in answer.received_messages]
            self._client.acknowledge(request={"subscription": path, "ack_ids": ids}, timeout=3, retry=None)


class Processors:
    """Publishes reports until the bus confirms each; what was confirmed is in the history."""

    def __init__(self, address: str, history: History) -> None:
        self._client: Any = publisher_client(address)
        self._history = history
        self._lock = threading.Lock()
        self.pending = 0

    def publish(self, body: bytes, kind: str, fields: Mapping[str, Any]) -> None:
        with self._lock:
            self.pending += 1
        self._send(body, kind, fields)

    def _send(self, body: bytes, kind: str, fields: Mapping[str, Any]) -> None:
        future = self._client.publish(
            self._client.topic_path(PROJECT, TOPIC), body, retry=Retry(timeout=60.0, maximum=2.0), timeout=5.0
        )
        future.add_done_callback(lambda done: self._ended(done, body, kind, fields))

    def _ended(self, future: Any, body: bytes, kind: str, fields: Mapping[str, Any]) -> None:
        if future.exception() is not None:
            # As a processor would: not sure, so once more. The bus gives that another message id.
            self._send(body, kind, fields)
            return
        self._history.note(kind, message_id=future.result(), **fields)
        with self._lock:
            self.pending -= 1

    def close(self) -> None:
        self._client.stop()
        self._client.transport.close()


def merge(history: History, kind: str, path: Path) -> int:
    """Put the lines that a service wrote itself into the history."""
    count = 0
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            # A service that is killed while it writes leaves half a line.
            with suppress(json.JSONDecodeError):
                history.note(kind, **json.loads(line))
                count += 1
    return count
