"""`/process`: build an analysis date now, unless the date is published, and wait for the end of the build.

A date that needs a build gets a replay, audited first. Requests for one date are decided one after the other, so that
two callers start a single generation. A crash while a request waits loses the answer alone.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import date

from statemachine.events import ReplayRequested
from statemachine.model import TERMINAL_STATES, BuildMode, DateRecord, FailedBecause, State
from worker.builds.queue import Builds
from worker.errors import CorruptRecord, Fatal, Refused, Unavailable
from worker.interventions.audit import Auditor
from worker.ports import Clock, StateStore
from worker.repair import Repair

POLL_S = 0.1
# Each waiting caller occupies a thread; the other threads serve deliveries, ticks and health.
WAITING_MAX = 8
STRIPES = 64


class Processing:
    """Builds dates for waiting callers."""

    def __init__(  # noqa: PLR0913 - one collaborator each
        self,
        *,
        store: StateStore,
        auditor: Auditor,
        repair: Repair,
        builds: Builds,
        probe: Callable[[date], Mapping[str, int]],
        clock: Clock,
        stopwatch: Callable[[], float],
        pause: Callable[[float], object],
        publish_outcomes: Callable[[], None],
    ) -> None:
        self._store = store
        self._auditor = auditor
        self._repair = repair
        self._builds = builds
        self._probe = probe
        self._clock = clock
        self._stopwatch = stopwatch
        self._pause = pause
        self._publish_outcomes = publish_outcomes
        # Dates that share a stripe wait for each other now and then; the number is bounded, the dates are not.
        self._deciding = [threading.Lock() for _ in range(STRIPES)]
        self._waiting = threading.BoundedSemaphore(WAITING_MAX)

    def process(
        self, analysis_date: date, *, forced: bool, actor: str, idempotency_key: str | None, wait_s: float
    ) -> DateRecord:
        """Start a build of the date, unless the date is published, and return the record at the end of the wait.

        A done date stays unchanged. A degraded date is built again if a table without rows at the build has rows now.
        A failed date is built again. *forced* ignores Phase 4 and always builds anew.

        Args:
            analysis_date: The night.
            forced: Build from Phase 3 alone.
            actor: Who asks, for audit and history.
            idempotency_key: Kept in the audit.
            wait_s: Wait at most this long for the end.

        Raises:
            Refused: The date was cancelled, or a build from Phase 4 is running and cannot be forced.
            Unavailable: Store or warehouse does not answer, or too many callers wait already.
        """
        if not self._waiting.acquire(blocking=False):
            raise Unavailable(f"{analysis_date}: {WAITING_MAX} callers wait for builds already; ask again in a moment")
        try:
            until = self._stopwatch() + wait_s
            record = self._wait(self._begin_alone(analysis_date, forced, actor, idempotency_key, wait_s), until)
            self._publish_outcomes()
            return record
        finally:
            self._waiting.release()

    def _begin_alone(self, day: date, forced: bool, actor: str, key: str | None, wait_s: float) -> DateRecord:  # noqa: FBT001 - a fact
        """Decide requests for one date in turn: two callers at the same moment start a single generation."""
        deciding = self._deciding[day.toordinal() % STRIPES]
        if not deciding.acquire(timeout=wait_s):
            raise Unavailable(f"{day}: another request for it is not decided yet; ask again in a moment")
        try:
            return self._begin(day, forced, actor, key)
        finally:
            deciding.release()

    def _begin(self, day: date, forced: bool, actor: str, key: str | None) -> DateRecord:  # noqa: FBT001 - a fact
        record = self._load_or_restore(day)
        if self._wants_build(record, forced):
            record = self._auditor.followed(record)
        if not self._wants_build(record, forced):
            return record
        mode = BuildMode.FORCED_FALLBACK if forced else BuildMode.NORMAL
        event = ReplayRequested(actor=actor, reason="asked to process the date", mode=mode, request_id=uuid.uuid4().hex)
        try:
            return self._auditor.apply(day, event, idempotency_key=key).record
        except Refused:
            # Another process was faster, with a delivery or with the same call: that build serves this caller, too.
            record = self._load_or_restore(day)
            if forced or record.state not in {State.READY, State.RUNNING}:
                raise
            return record

    def _load_or_restore(self, day: date) -> DateRecord:
        """Return the record of the date; open the date with the ledger's commit if the record is absent or damaged."""
        try:
            record = self._store.load(day)
        except CorruptRecord as exc:
            return self._repair.replace_damaged(day, str(exc)).record
        return record if record is not None else self._repair.restore(day).record

    def _wants_build(self, record: DateRecord, forced: bool) -> bool:  # noqa: FBT001 - a fact
        on_its_way = record.state in {State.READY, State.RUNNING}
        if forced:
            return not (on_its_way and record.mode is BuildMode.FORCED_FALLBACK)
        if record.state is State.DEGRADED:
            return self._filled_since(record)
        if record.state is State.FAILED and record.failure and record.failure.because == FailedBecause.CANCELLED:
            day = record.analysis_date
            raise Refused(
                f"{day}: it was cancelled ({record.failure.message}) and stays so until a person replays the date"
            )
        return record.state in {State.WAITING, State.FAILED}

    def _filled_since(self, record: DateRecord) -> bool:
        """Whether a table without rows at the published build has rows now."""
        held = record.result.dependency_rows if record.result is not None else {}
        if all(held.values()):
            return False
        try:
            rows = self._probe(record.analysis_date)
        except Fatal as exc:
            raise Refused(f"{record.analysis_date}: its tables cannot be looked at: {exc}") from exc
        return any(rows.get(name, 0) > 0 and not count for name, count in held.items() if name not in record.ignored)

    def _wait(self, started: DateRecord, until: float) -> DateRecord:
        """Build within the request where no build thread runs; wait until this or a later generation has ended."""
        record = started
        while record.state not in TERMINAL_STATES:
            if record.state is State.READY:
                if record.wake_at is not None and record.wake_at > self._clock.now():
                    break  # the next attempt is minutes away
                self._builds.put(record.analysis_date)
            self._builds.advance(until)
            record = self._store.load(started.analysis_date) or record
            if record.state in TERMINAL_STATES or self._stopwatch() >= until:
                break
            self._pause(POLL_S)
        return record
