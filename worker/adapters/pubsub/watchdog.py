"""Rules that detect and replace a broken pull stream: pure functions of instants, without connection or clock.

A stream without deliveries is either idle or broken, and Google's client reports a dead stream as running. Silence is
therefore only a suspicion. A check over a second connection decides: a message waiting there while the stream is silent
proves the stream broken; an empty answer proves no fault. If the bus does not answer the check either, a new stream
would not help, and the stream is kept. Deadlines and builds go on meanwhile.

The state lies in memory: after a crash a new process starts with a new stream.
"""

import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum, auto


class Symptom(StrEnum):
    """Reason for the suspicion, also logged when the stream is replaced."""

    SILENT = "silent"
    """No delivery for a while."""
    REOPENING = "reopening"
    """Repeated openings without a delivery in between."""
    ENDED = "ended"
    """End of the stream by an error that a new stream may not have."""


class PullCheckResult(StrEnum):
    """Result of a check over the second connection."""

    EMPTY = "empty"
    MESSAGE = "message"
    FAILED = "failed"


class Action(StrEnum):
    """Action for a stream."""

    KEEP = auto()
    RECYCLE = auto()
    GIVE_UP = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPolicy:
    """Limits of the watchdog.

    Attributes:
        silence_s: Seconds without a delivery until a check, and between two checks.
        recycles_max: New streams tried in a row without a delivery; the next proof ends the process.
        reopens_max: Openings without a delivery within *reopen_window_s* that still count as normal.
        reopen_window_s: See *reopens_max*.
    """

    silence_s: float = 120.0
    recycles_max: int = 3
    reopens_max: int = 20
    reopen_window_s: float = 60.0

    @property
    def doubt_s(self) -> float:
        """Seconds of silence allowed to a replacement stream that has delivered no message yet."""
        return self.silence_s / 4


class Watchdog:
    """State of the streams of a subscription. Instants are seconds of a monotonic clock. Thread-safe."""

    def __init__(self, policy: WatchPolicy, now: float) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._quiet_since = now
        self._openings: deque[float] = deque(maxlen=policy.reopens_max + 1)
        self._recycles = 0
        self._deliveries = 0

    @property
    def deliveries(self) -> int:
        """Number of deliveries so far; a change between two readings shows progress."""
        return self._deliveries

    @property
    def recycles(self) -> int:
        """Streams replaced since the last delivery."""
        return self._recycles

    def delivered(self, now: float) -> None:
        """Record a delivery and drop every suspicion."""
        with self._lock:
            self._deliveries += 1
            self._quiet_since = now
            self._recycles = 0
            self._openings.clear()

    def started(self, now: float) -> None:
        """Record a new stream, at the start or after a pause; the time limits start again."""
        with self._lock:
            self._quiet_since = now
            self._openings.clear()

    def opened(self, times: int, now: float) -> None:
        """Record that the client opened the stream *times* more."""
        with self._lock:
            self._openings.extend([now] * times)

    def symptom(self, now: float) -> Symptom | None:
        """Return the reason for a suspicion, or None; the caller then runs a check and passes the result to `judge`."""
        policy = self._policy
        with self._lock:
            openings = self._openings
            if len(openings) > policy.reopens_max and now - openings[0] <= policy.reopen_window_s:
                return Symptom.REOPENING
            patience_s = policy.doubt_s if self._recycles else policy.silence_s
            return Symptom.SILENT if now - self._quiet_since >= patience_s else None

    def judge(self, symptom: Symptom, answer: PullCheckResult, deliveries_before: int, now: float) -> Action:
        """Return the action that follows from the result of a check.

        Args:
            symptom: Reason for the suspicion.
            answer: Result of the check.
            deliveries_before: `deliveries` before the check; a larger number now means that the stream lives.
            now: The present instant.
        """
        with self._lock:
            self._quiet_since = now
            self._openings.clear()
            is_alive = self._deliveries != deliveries_before
            is_proof = answer is PullCheckResult.MESSAGE or (
                answer is PullCheckResult.EMPTY and symptom is not Symptom.SILENT
            )
            if is_alive or not is_proof:
                return Action.KEEP
            if self._recycles >= self._policy.recycles_max:
                return Action.GIVE_UP
            self._recycles += 1
            return Action.RECYCLE
