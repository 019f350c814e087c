"""When a pull stream is suspected, and what follows: pure rules over instants, no connection and no clock.

A stream that delivers nothing is either idle or broken, and from inside both look alike: Google's client keeps a dead
stream "running" for ever. So silence is only a suspicion. What settles it is a question over a second connection: a
message that waits there while the stream is silent proves the stream broken, and an empty answer proves nothing. A bus
that does not answer the question either is away, and no new stream would help; deadlines and builds go on meanwhile.
"""

import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum, auto


class Symptom(StrEnum):
    """Why a stream is suspected; also the reason told when it is replaced."""

    SILENT = "silent"
    """It delivered nothing for a while."""
    REOPENING = "reopening"
    """It is opened again and again and delivers nothing in between."""
    ENDED = "ended"
    """The client gave it up because of an error that a new one may not have."""


class PullCheckResult(StrEnum):
    """What a question over the second connection found."""

    EMPTY = "empty"
    MESSAGE = "message"
    FAILED = "failed"


class Action(StrEnum):
    """What to do about a stream."""

    KEEP = auto()
    RECYCLE = auto()
    GIVE_UP = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPolicy:
    """How patient the watchdog is.

    Attributes:
        silence_s: Without a delivery for so long, it asks whether something waits; and so often again.
        recycles_max: New streams tried in a row without a single delivery; the next proof ends the process.
        reopens_max: Openings without a delivery within *reopen_window_s* that are still normal.
        reopen_window_s: See *reopens_max*.
    """

    silence_s: float = 120.0
    recycles_max: int = 3
    reopens_max: int = 20
    reopen_window_s: float = 60.0

    @property
    def doubt_s(self) -> float:
        """The patience with a stream that replaced a broken one and has delivered nothing yet."""
        return self.silence_s / 4


class Watchdog:
    """Watches one subscription's streams. Instants are seconds of a monotonic clock. Thread-safe."""

    def __init__(self, policy: WatchPolicy, now: float) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._quiet_since = now
        self._openings: deque[float] = deque(maxlen=policy.reopens_max + 1)
        self._recycles = 0
        self._deliveries = 0

    @property
    def deliveries(self) -> int:
        """Counts what the streams delivered: compare two readings to see progress."""
        return self._deliveries

    @property
    def recycles(self) -> int:
        """Streams replaced since the last delivery."""
        return self._recycles

    def delivered(self, now: float) -> None:
        """Note that the stream delivered: whatever was suspected is over."""
        with self._lock:
            self._deliveries += 1
            self._quiet_since = now
            self._recycles = 0
            self._openings.clear()

    def started(self, now: float) -> None:
        """Note that a stream was made, at first or after a pause; its patience begins anew."""
        with self._lock:
            self._quiet_since = now
            self._openings.clear()

    def opened(self, times: int, now: float) -> None:
        """Note that the client opened the stream *times* more."""
        with self._lock:
            self._openings.extend([now] * times)

    def symptom(self, now: float) -> Symptom | None:
        """Say whether the stream is suspected: then ask the bus, and tell `judge` what it answered."""
        policy = self._policy
        with self._lock:
            openings = self._openings
            if len(openings) > policy.reopens_max and now - openings[0] <= policy.reopen_window_s:
                return Symptom.REOPENING
            patience_s = policy.doubt_s if self._recycles else policy.silence_s
            return Symptom.SILENT if now - self._quiet_since >= patience_s else None

    def judge(self, symptom: Symptom, answer: PullCheckResult, deliveries_before: int, now: float) -> Action:
        """Say what the answer means.

        Args:
            symptom: What was suspected.
            answer: What the second connection found.
            deliveries_before: `deliveries` when the question was put; more by now means that the stream lives.
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
