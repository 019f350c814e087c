"""Claims dates that are ready, builds them, reports how it went.

A claim is a lease; while a build runs a second thread renews it. A worker that lost its lease stops at the next step,
and if it does not notice, the ledger refuses its token. A worker that died after publishing but before reporting is
caught up with by the next one: the ledger refuses it too, and what was committed is reported, not repeated.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Self

import structlog
from opentelemetry.trace import Tracer

from statemachine.decide import Decision
from statemachine.events import BuildClaimed, BuildCommitted, BuildFailed, LeaseRenewed
from statemachine.model import BuildResult, Changes, DateRecord, FailureKind
from statemachine.reasons import Reason
from worker.builds.steps import run_build
from worker.engine import Engine
from worker.errors import Fatal, Fenced, PipelineError, Unavailable
from worker.features.model import BuildKey, BuildOutcome, BuildPhase, BuildRequest, LedgerRow
from worker.observing.observer import Observer
from worker.observing.tracing import NO_SPANS, building
from worker.ports import Clock, Warehouse

log = structlog.get_logger(__name__)

# A build that takes longer hangs: its date is given to another attempt, and it stops at its next step.
LEASE_HELD_MAX_S = 3600.0
NEVER_CLAIMED = (0, 0)
# A third of the lease: two renewals may fail before it is lost.
RENEWALS_PER_LEASE = 3
# A store that is away for a moment must not cost a finished build; the lease outlasts these pauses.
REPORT_PAUSES_S = (0.2, 1.0, 3.0)


class LeaseKeeper:
    """Renews one lease on a thread of its own, until the build ends or somebody else has taken over."""

    def __init__(
        self,
        engine: Engine,
        record: DateRecord,
        worker: str,
        lease_s: float,
        *,
        held_max_s: float = LEASE_HELD_MAX_S,
        passed: Callable[[PipelineError | None], None] = lambda _error: None,
    ) -> None:
        self._engine = engine
        self._held_max_s = held_max_s
        self._passed = passed
        self._day = record.analysis_date
        self._event = LeaseRenewed(
            worker=worker, generation=record.generation, attempt=record.attempt, claimant=_claimant(record)
        )
        self._pause_s = lease_s / RENEWALS_PER_LEASE
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{self._day}", daemon=True)
        self.lost = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def renew_once(self) -> None:
        """Renew now; sets `lost` when the lease is another's. A store that is away now may answer the next time."""
        try:
            decision = self._engine.apply(self._day, self._event)
        except PipelineError as exc:
            log.warning("lease_not_renewed", analysis_date=self._day, error=str(exc))
            self._passed(exc)
            return
        self._passed(None)
        if decision.reason is Reason.STALE:
            log.warning("lease_lost", analysis_date=self._day)
            self.lost.set()

    def _renew(self) -> None:
        for _ in range(max(1, round(self._held_max_s / self._pause_s))):
            if self.lost.is_set() or self._ended.wait(self._pause_s):
                return
            self.renew_once()
        log.error("build_hangs", analysis_date=self._day, after_s=self._held_max_s)
        self.lost.set()


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


class Builder:
    """Builds one date at a time; several threads may use one builder."""

    def __init__(  # noqa: PLR0913 - one collaborator each
        self,
        *,
        engine: Engine,
        warehouse: Warehouse,
        clock: Clock,
        worker: str,
        lease_s: float,
        phase3_lookback_days: int,
        observer: Observer,
        stopwatch: Callable[[], float],
        settle_retractions: Callable[[DateRecord], DateRecord] = lambda record: record,
        follow: Callable[[LedgerRow], object] = lambda _row: None,
        changes_of: Callable[[BuildKey], Changes | None] = lambda _key: None,
        tracer: Tracer = NO_SPANS,
        lease_keeper: Callable[[Engine, DateRecord, str, float], LeaseKeeper] = LeaseKeeper,
        pause: Callable[[float], None] = _pause,
    ) -> None:
        self._engine = engine
        self._warehouse = warehouse
        self._clock = clock
        self._worker = worker
        self._lease_s = lease_s
        self._lookback_days = phase3_lookback_days
        self._observer = observer
        self._stopwatch = stopwatch
        self._settle_retractions = settle_retractions
        self._follow = follow
        self._changes_of = changes_of
        self._tracer = tracer
        self._lease_keeper = lease_keeper
        self._pause = pause

    def run_one(self, analysis_date: date) -> Decision | None:
        """Claim the date, build it, report; None when somebody else has it or it is not ready.

        Raises:
            Unavailable: The store does not answer; the lease will expire and the date be claimed again.
        """
        claim = self._engine.apply(analysis_date, self._bid(analysis_date))
        if claim.reason is not Reason.CLAIMED:
            return None
        started = self._stopwatch()
        with (
            building(self._tracer, claim.record) as span,
            self._lease_keeper(self._engine, claim.record, self._worker, self._lease_s) as lease,
        ):
            event, label = self._attempt(claim.record, lease)
            span.set_attribute("mlfs.result", label)
            self._observer.built(claim.record.mode, label, self._stopwatch() - started)
            if event is None:
                return None
            return self._report(analysis_date, event)

    def _follow_ledger(self, analysis_date: date) -> None:
        """Take over what the ledger holds and the record does not know: a lost report, or a lost record."""
        try:
            committed = self._warehouse.read_ledger(analysis_date)
        except (Unavailable, Fatal) as exc:
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            return
        if committed is not None:
            self._follow(committed)

    def _bid(self, analysis_date: date) -> BuildClaimed:
        """Ask for the date, with what the ledger knows of it: a claim takes no token that was ever in use.

        Where the warehouse does not say, the attempt meets the same fault, or the ledger refuses it.
        """
        claimant = f"{self._worker}/{uuid.uuid4().hex}"
        try:
            claimed: tuple[int, int] | None = self._warehouse.claimed_token(analysis_date)
        except (Unavailable, Fatal) as exc:
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            claimed = None
        if claimed != NEVER_CLAIMED:
            # Every commit was claimed before, so a date that nobody has claimed needs no second look.
            self._follow_ledger(analysis_date)
        return BuildClaimed(worker=self._worker, claimant=claimant, ledger_claim=claimed)

    def _attempt(self, record: DateRecord, lease: LeaseKeeper) -> tuple[BuildCommitted | BuildFailed | None, str]:
        """Build, and say what to report: nothing when another worker has taken over."""
        day = record.analysis_date
        try:
            ignored = self._settle_retractions(record).ignored
            outcome = run_build(
                self._warehouse,
                self._request(record, ignored),
                now=self._clock.now,
                progress=lambda text: self._step(day, text, lease),
                watch=self._timed,
            )
        except Fenced as exc:
            log.warning("build_fenced", analysis_date=day, error=str(exc))
            committed = self._committed(record)
            adopted = committed is not None and committed.result.generation == record.generation
            return committed, "adopted" if adopted else "fenced"
        except PipelineError as exc:
            return self._broken_off(record, exc)
        self._observer.scored(outcome)
        if outcome.failure is not None:
            return _failed(record, outcome.failure, outcome.message), outcome.failure.value
        committed = BuildCommitted(
            result=_result_of(outcome),
            claimant=_claimant(record),
            # A first publication has nothing before it: its message is not held up by a question.
            changes=self._changes_of(outcome.request.key) if record.published_generation else None,
        )
        return committed, outcome.report.earned_state.value

    def _committed(self, record: DateRecord) -> BuildCommitted | None:
        """Report what the ledger holds for this generation or a newer one; None while it holds nothing of the kind."""
        committed = self._warehouse.read_ledger(record.analysis_date)
        if committed is None or committed.generation < record.generation:
            return None
        log.info("commit_found_in_ledger", analysis_date=record.analysis_date, build_id=committed.build_id)
        return BuildCommitted(result=result_from_ledger(committed), found=True)

    def _broken_off(self, record: DateRecord, error: PipelineError) -> tuple[BuildCommitted | BuildFailed, str]:
        """Report a failure, unless the ledger knows better.

        A publication may have taken effect and lost its reply, or an earlier worker died before it could report.
        """
        try:
            committed = self._committed(record)
        except (Unavailable, Fatal) as exc:
            log.warning("ledger_not_read", analysis_date=record.analysis_date, after=str(error), error=str(exc))
            committed = None
        if committed is not None:
            return committed, "adopted"
        if isinstance(error, Unavailable):
            return _failed(record, FailureKind.UNAVAILABLE, str(error)), "unavailable"
        message = str(error) if isinstance(error, Fatal) else f"{type(error).__name__}: {error}"
        return _failed(record, FailureKind.FATAL, message), "fatal"

    @contextmanager
    def _timed(self, phase: BuildPhase) -> Iterator[None]:
        """Time a phase, one that breaks off too: where a build hangs is what the figure is for."""
        started = self._stopwatch()
        try:
            yield
        finally:
            self._observer.phase_ended(phase, self._stopwatch() - started)

    def _step(self, analysis_date: date, text: str, lease: LeaseKeeper) -> None:
        # Renewed at each step, so that a build which was cancelled or taken over stops before it publishes.
        lease.renew_once()
        if lease.lost.is_set():
            raise Fenced(f"{analysis_date}: the lease was lost during the build")
        self._observer.step(analysis_date, text)

    def _request(self, record: DateRecord, ignored: frozenset[str]) -> BuildRequest:
        return BuildRequest(
            key=BuildKey(analysis_date=record.analysis_date, generation=record.generation, attempt=record.attempt),
            mode=record.mode,
            trigger=record.trigger.value if record.trigger is not None else "none",
            phase3_lookback_days=self._lookback_days,
            as_of=None,
            started_at=record.lease.claimed_at if record.lease is not None else self._clock.now(),
            claimant=_claimant(record),
            ignored=ignored,
        )

    def _report(self, analysis_date: date, event: BuildCommitted | BuildFailed) -> Decision:
        for seconds in REPORT_PAUSES_S:
            try:
                return self._engine.apply(analysis_date, event)
            except Unavailable as exc:
                log.warning("report_postponed", analysis_date=analysis_date, event_kind=event.kind, error=str(exc))
                self._pause(seconds)
        return self._engine.apply(analysis_date, event)


def _failed(record: DateRecord, failure: FailureKind, message: str) -> BuildFailed:
    return BuildFailed(
        generation=record.generation,
        attempt=record.attempt,
        claimant=_claimant(record),
        failure=failure,
        message=message[:2000],
    )


def _claimant(record: DateRecord) -> str:
    return record.lease.claimant if record.lease is not None else ""


def _result_of(outcome: BuildOutcome) -> BuildResult:
    report, key = outcome.report, outcome.request.key
    return BuildResult(
        generation=key.generation,
        attempt=key.attempt,
        state=report.earned_state,
        row_count=report.row_count,
        quality_score=report.quality_score,
        component_total=report.component_total,
        components=dict(report.components),
        fallback_rate=report.fallback_rate,
        missing_rate=report.missing_rate,
        severity=report.severity,
        dependency_rows=dict(outcome.stats.dependency_rows),
        left_out=outcome.stats.left_out_count,
        committed_at=outcome.finished_at,
        duration_s=_seconds(outcome.request.started_at, outcome.finished_at),
    )


def result_from_ledger(row: LedgerRow) -> BuildResult:
    """Say what the ledger knows of a commit in the words of the state machine."""
    return BuildResult(
        generation=row.generation,
        attempt=row.attempt,
        state=row.state,
        row_count=row.row_count,
        quality_score=row.quality_score,
        component_total=row.component_total,
        components=dict(row.components),
        fallback_rate=row.fallback_rate,
        missing_rate=row.missing_rate,
        severity=row.severity,
        dependency_rows=dict(row.dependency_rows),
        left_out=row.left_out,
        committed_at=row.committed_at,
        duration_s=_seconds(row.started_at, row.committed_at),
    )


def _seconds(start: datetime, end: datetime) -> float:
    return round((end - start).total_seconds(), 3)
