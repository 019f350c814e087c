"""Builder: claims a ready analysis date, builds the analysis date, reports the end to the engine.

A claim holds a lease, and a second thread renews the lease during the build. A worker without lease stops at the next
step; the ledger refuses the fencing token of a worker that has not noticed the loss. After a crash before publication
the lease expires and the next attempt builds again. After a crash between publication and report the ledger refuses the
next claim, and the next worker reports the commit found in the ledger.
"""

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Self

import structlog
from opentelemetry.trace import Tracer

from statemachine.decide import Decision
from statemachine.events import BuildClaimed, BuildCommitted, BuildFailed, LeaseRenewed
from statemachine.model import BuildResult, Changes, CompletionStatus, DateRecord, FailureKind
from statemachine.reasons import Reason
from worker.builds.steps import run_build
from worker.clock import pause
from worker.engine import Engine
from worker.errors import Fatal, Fenced, PipelineError, Unavailable
from worker.features.model import BuildKey, BuildOutcome, BuildPhase, BuildRequest, LedgerRow, Publication
from worker.features.pipeline import Block
from worker.features.records import published_row, read_ledger_row
from worker.observing.observer import BuildEnded, BuildScored, BuildStep, Observer, PhaseEnded
from worker.observing.tracing import NO_SPANS, building
from worker.ports import Clock, Warehouse

log = structlog.get_logger(__name__)

# Seconds after which a build hangs: the lease is no longer renewed, and the build stops at the next step.
LEASE_HELD_MAX_S = 3600.0
NEVER_CLAIMED = (0, 0)
# Two renewals of three may fail before the lease expires.
RENEWALS_PER_LEASE = 3
# Seconds between the tries of a report: a short absence of the store loses no finished build.
REPORT_PAUSES_S = (0.2, 1.0, 3.0)


class LeaseKeeper:
    """Renewal of one lease on a separate thread, until the build ends or the lease is lost."""

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
        """Prepare the renewal; the thread starts with the `with` block.

        Args:
            engine: Stores each renewal.
            record: Record of the claim.
            worker: Name of the worker that holds the lease.
            lease_s: Seconds from a renewal to the end of the lease.
            held_max_s: Seconds after which the build counts as hanging.
            passed: Called after each renewal: with the error of a failed renewal, otherwise with None.
        """
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
        """Renew the lease; set `lost` if another claim holds the lease. The next renewal repeats a failed renewal."""
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


@dataclass(kw_only=True)
class Builder:
    """Builder of a worker; several threads may use one builder.

    Attributes:
        worker: Name of the worker, for leases and history.
        stopwatch: Monotonic seconds, for durations.
        settle_retractions: Applies the retractions that the record lacks before a build; returns the record.
        follow: Called with a commit of the ledger that the record may lack.
        changes_of: Returns the short diff of a publication; None if unknown.
        lease_keeper: Returns the renewal of a lease.
    """

    engine: Engine
    warehouse: Warehouse
    clock: Clock
    worker: str
    lease_s: float
    phase3_lookback_days: int
    observer: Observer
    stopwatch: Callable[[], float]
    settle_retractions: Callable[[DateRecord], DateRecord] = lambda record: record
    follow: Callable[[LedgerRow], object] = lambda _row: None
    changes_of: Callable[[BuildKey], Changes | None] = lambda _key: None
    tracer: Tracer = NO_SPANS
    lease_keeper: Callable[[Engine, DateRecord, str, float], LeaseKeeper] = LeaseKeeper
    pause: Callable[[float], None] = pause

    def run_one(self, analysis_date: date) -> Decision | None:
        """Claim the analysis date, build, report; return None without a claim: not ready, or claimed elsewhere.

        Raises:
            Unavailable: The store does not answer; after the lease has expired the next attempt claims the date.
        """
        claim = self.engine.apply(analysis_date, self._claim_event(analysis_date))
        if claim.reason is not Reason.CLAIMED:
            return None
        started = self.stopwatch()
        with (
            building(self.tracer, claim.record) as span,
            self.lease_keeper(self.engine, claim.record, self.worker, self.lease_s) as lease,
        ):
            event, label = self._attempt(claim.record, lease)
            span.set_attribute("mlfs.result", label)
            seconds = self.stopwatch() - started
            self.observer.note(BuildEnded(mode=claim.record.mode, result=label, seconds=seconds))
            if event is None:
                return None
            return self._report(analysis_date, event)

    def _follow_ledger(self, analysis_date: date) -> None:
        """Apply a commit of the ledger that the record lacks: after a lost report or a lost record."""
        try:
            committed = self.warehouse.read_ledger(analysis_date)
        except (Unavailable, Fatal) as exc:
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            return
        if committed is not None:
            self.follow(committed)

    def _claim_event(self, analysis_date: date) -> BuildClaimed:
        """Return the claim event with the ledger's newest fencing token, so that the claim gets a higher token.

        If the ledger cannot be read, claim anyway: the build fails on the same error, or the ledger refuses the build.
        """
        claimant = f"{self.worker}/{uuid.uuid4().hex}"
        try:
            claimed: tuple[int, int] | None = self.warehouse.claimed_token(analysis_date)
        except (Unavailable, Fatal) as exc:
            log.warning("ledger_not_read", analysis_date=analysis_date.isoformat(), error=str(exc))
            claimed = None
        if claimed != NEVER_CLAIMED:
            # A commit needs a claim, so the ledger holds no commit of an analysis date without claim.
            self._follow_ledger(analysis_date)
        return BuildClaimed(worker=self.worker, claimant=claimant, ledger_claim=claimed)

    def _attempt(self, record: DateRecord, lease: LeaseKeeper) -> tuple[BuildCommitted | BuildFailed | None, str]:
        """Build; return the event to report and the result label; no event if another worker has taken over."""
        day = record.analysis_date
        try:
            ignored = self.settle_retractions(record).ignored
            outcome = run_build(
                self.warehouse,
                self._request(record, ignored),
                now=self.clock.now,
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
        self.observer.note(BuildScored(outcome=outcome))
        if outcome.failure is not None:
            return _failed(record, outcome.failure, outcome.message), outcome.failure.value
        committed = BuildCommitted(
            result=_result_of(outcome, self.warehouse.pipeline.blocks),
            claimant=_claimant(record),
            # A first publication has no earlier generation to compare with.
            changes=self.changes_of(outcome.request.key) if record.published_generation else None,
        )
        return committed, outcome.report.earned_state.value

    def _committed(self, record: DateRecord) -> BuildCommitted | None:
        """Return the ledger's commit of this or a newer generation as an event; None without such a commit."""
        committed = self.warehouse.read_ledger(record.analysis_date)
        if committed is None or committed.generation < record.generation:
            return None
        log.info("commit_found_in_ledger", analysis_date=record.analysis_date, build_id=committed.build_id)
        return BuildCommitted(result=result_from_ledger(committed), read_from_ledger=True)

    def _broken_off(self, record: DateRecord, error: PipelineError) -> tuple[BuildCommitted | BuildFailed, str]:
        """Return the failure event and the result label; the commit event if the ledger holds a commit.

        The reply of the publication may be lost, or an earlier worker ended before the report.
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
        """Measure the duration of a phase, also of a failed phase."""
        started = self.stopwatch()
        try:
            yield
        finally:
            self.observer.note(PhaseEnded(phase=phase, seconds=self.stopwatch() - started))

    def _step(self, analysis_date: date, text: str, lease: LeaseKeeper) -> None:
        # Renew at each step, so that a cancelled or superseded build stops before the publication.
        lease.renew_once()
        if lease.lost.is_set():
            raise Fenced(f"{analysis_date}: the lease was lost during the build")
        self.observer.note(BuildStep(analysis_date=analysis_date, text=text))

    def _request(self, record: DateRecord, ignored: frozenset[str]) -> BuildRequest:
        return BuildRequest(
            key=BuildKey(analysis_date=record.analysis_date, generation=record.generation, attempt=record.attempt),
            mode=record.mode,
            trigger=record.trigger.value if record.trigger is not None else "none",
            phase3_lookback_days=self.phase3_lookback_days,
            as_of=record.as_of,
            started_at=record.lease.claimed_at if record.lease is not None else self.clock.now(),
            claimant=_claimant(record),
            ignored=ignored,
            claimed_rows=claimed_rows(record, ignored),
        )

    def _report(self, analysis_date: date, event: BuildCommitted | BuildFailed) -> Decision:
        for seconds in REPORT_PAUSES_S:
            try:
                return self.engine.apply(analysis_date, event)
            except Unavailable as exc:
                log.warning("report_postponed", analysis_date=analysis_date, event_kind=event.kind, error=str(exc))
                self.pause(seconds)
        return self.engine.apply(analysis_date, event)


def claimed_rows(record: DateRecord, ignored: frozenset[str]) -> Mapping[str, int]:
    """Return the rows that the reported success of each processor claims, without the *ignored* processors."""
    return {
        name: completion.row_count
        for name, completion in record.completions.items()
        if completion.status is CompletionStatus.SUCCESS and completion.row_count is not None and name not in ignored
    }


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


def _result_of(outcome: BuildOutcome, blocks: Sequence[Block]) -> BuildResult:
    """Return the result that the ledger shows after the publication of *outcome*."""
    publication = Publication(
        request=outcome.request, stats=outcome.stats, report=outcome.report, committed_at=outcome.finished_at
    )
    row = {**published_row(publication, blocks), "committed_at": outcome.finished_at}
    return result_from_ledger(read_ledger_row(row, blocks))


def result_from_ledger(row: LedgerRow) -> BuildResult:
    """Return a commit of the ledger as a result of the state machine."""
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
        duration_s=round((row.committed_at - row.started_at).total_seconds(), 3),
        findings=row.findings,
    )
