"""Steps of one build: claim, find what is usable, count dependencies, stage, score, quality gate, publish.

An upstream table or column that is unusable tonight counts as missing and becomes a finding. Also a table that fails in
the middle of a statement: the steps are repeated without the table, a bounded number of times.

The rows of an attempt bear the build id of the attempt. No consumer sees the rows before `publish` sets the pointer;
publishing the same attempt again has no effect. After a crash before `publish` the rows are invisible, and the vacuum
deletes the rows; after a crash behind `publish` the ledger names the commit, and the next attempt reports the commit.
The caller retries, renews the lease and reports the end.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from statemachine.model import BuildMode, FailureKind, State
from worker.builds.judge import judge
from worker.builds.upstream import (
    UPSTREAM_ERRORS,
    check_roster,
    days_of,
    find_unreadable,
    find_usable,
    no_roster,
    probe,
)
from worker.errors import Fatal, Fenced, PipelineError, SourceGone
from worker.features.findings import judged
from worker.features.model import (
    BuildOutcome,
    BuildPhase,
    BuildRequest,
    BuildStats,
    LeftOut,
    Publication,
    QualityReport,
    StatementEstimate,
    TableFacts,
)
from worker.features.pipeline import Pipeline
from worker.features.plan import (
    COPY_AGE_DAYS_MAX,
    BuildPlan,
    counts_for_score,
    plan_build,
    read_dependency_rows,
    read_left_out,
    read_not_finite,
    read_stats,
    read_table_facts,
)
from worker.features.profile import Profile
from worker.features.profile_reading import read_nights, read_profile
from worker.features.quality import QualityPolicy, score
from worker.features.records import Row, execution_row, history_row
from worker.features.sql import NOTHING, Unusable
from worker.features.usable import Usable, tables_read
from worker.ports import Warehouse

log = structlog.get_logger(__name__)

READS_MAX = 3
"""Number of times that the steps before the score may run: upstream may fail again in another place."""

Watch = Callable[[BuildPhase], AbstractContextManager[object]]
"""Context manager around each build phase.

The context manager sees the exception of the phase; an exception raised by the context manager ends the build.
"""


def run_build(
    warehouse: Warehouse,
    request: BuildRequest,
    *,
    now: Callable[[], datetime],
    progress: Callable[[str], None] = lambda _text: None,
    watch: Watch = lambda _phase: nullcontext(),
    policy: QualityPolicy | None = None,
    publish: bool = True,
) -> BuildOutcome:
    """Build one analysis date and publish the rows if the quality gate passes.

    Args:
        warehouse: Warehouse of the build.
        request: Key, mode and inputs of the build.
        now: Clock, UTC.
        progress: Called after each step with name and count of the step: `validate 9 tables`, `dependencies 4 of 4`,
            `stage 476 rows`, `score 99.9`, `publish 476 rows`. An exception of *progress* ends the build.
        watch: Entered and left around each phase. A dry run has no claim and no publication.
        policy: Quality policy in place of the pipeline's policy, to try out a quality gate.
        publish: False for a dry run: count and score the rows, store no row.

    Returns:
        The outcome, also if the quality gate refuses the build or no data exists.

    Raises:
        Fenced: Another attempt has claimed the analysis date, or the generation is committed; no row was published.
        Unavailable: The warehouse does not answer, or the file behind the roster is gone; another attempt may succeed.
        Fatal: Another attempt would fail the same way.
    """
    try:
        claimed_at = now()
        if publish:
            with watch(BuildPhase.CLAIM):
                warehouse.claim(request.key, claimed_at, request.claimant)
        # If the clock is set back, date the rows not before the claim: the vacuum selects rows by this instant.
        built_at = max(claimed_at, now())
        quality = policy or warehouse.pipeline.quality
        attempt = _Attempt(warehouse, request, built_at, quality, progress, watch, publish=publish)
        return _finish(attempt, attempt.read(), now)
    except Fenced:
        raise
    except PipelineError as error:
        if publish:
            _log_quietly(warehouse, execution_row(request, state=State.FAILED, completed_at=now(), error=str(error)))
        raise


def estimate_build(warehouse: Warehouse, request: BuildRequest, now: datetime) -> list[StatementEstimate]:
    """Return the estimated cost of the build's reads of upstream tables, without running the statements.

    The later statements read the staged rows of the attempt, a few hundred kilobytes on a usual night; BigQuery cannot
    estimate a statement before the rows exist.

    Raises:
        Unavailable: The warehouse does not answer.
    """
    pipeline = warehouse.pipeline
    usable = find_usable(warehouse, (*tables_read(request, pipeline), *pipeline.references))
    plan = plan_build(request, pipeline, built_at=now, without=_without(request, usable, pipeline))
    return [warehouse.estimate(statement) for statement in (plan.dependency_rows, plan.features)]


def _without(request: BuildRequest, usable: Usable, pipeline: Pipeline) -> Unusable:
    """Return the unusable tables and columns with the tables that the build passes over whatever their columns are."""
    if request.mode is BuildMode.YESTERDAY:
        return NOTHING
    passed_over = frozenset(pipeline.upstream) - frozenset(tables_read(request, pipeline))
    return replace(usable.without, tables=usable.without.tables | passed_over)


@dataclass(frozen=True, slots=True)
class _Read:
    """Counts and score of an attempt's rows, and the plan that led to the rows."""

    plan: BuildPlan
    stats: BuildStats
    report: QualityReport


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Reading half of an attempt: from the comparison of upstream to the judged rows."""

    warehouse: Warehouse
    request: BuildRequest
    built_at: datetime
    quality: QualityPolicy
    progress: Callable[[str], None]
    watch: Watch
    publish: bool

    def read(self) -> _Read:
        """Stage, count and judge the rows; after a failed statement go on without the tables that failed."""
        usable = self._compare()
        for _ in range(READS_MAX - 1):
            try:
                return self._read(usable)
            except UPSTREAM_ERRORS as exc:
                worse = self._find_worse(usable)
                if worse.faults == usable.faults:
                    raise
                log.warning("build_without", build_id=self.request.key.build_id, error=str(exc))
                usable = worse
        return self._read(usable)

    def _compare(self) -> Usable:
        """Return what is usable; a copy of yesterday's rows reads no upstream table."""
        if self.request.mode is BuildMode.YESTERDAY:
            return Usable()
        pipeline = self.warehouse.pipeline
        tables = tables_read(self.request, pipeline)
        with self.watch(BuildPhase.VALIDATE):
            usable = find_usable(self.warehouse, (*tables, *pipeline.references))
            check_roster(self.warehouse, usable)
        self.progress(f"validate {len(tables)} tables")
        return usable

    def _find_worse(self, usable: Usable) -> Usable:
        request, pipeline = self.request, self.warehouse.pipeline
        days = days_of(request.key.analysis_date, request.phase3_lookback_days)
        with self.watch(BuildPhase.VALIDATE):
            tables = (*tables_read(request, pipeline), *pipeline.references)
            worse = find_unreadable(self.warehouse, usable, tables, days)
            check_roster(self.warehouse, worse)
        return worse

    def _read(self, usable: Usable) -> _Read:
        request, warehouse = self.request, self.warehouse
        without = _without(request, usable, warehouse.pipeline)
        plan = plan_build(request, warehouse.pipeline, built_at=self.built_at, stored=self.publish, without=without)
        with self.watch(BuildPhase.DEPENDENCIES):
            dependency_rows, facts, not_finite = self._count(plan)
        filled = sum(1 for rows in dependency_rows.values() if rows > 0)
        self.progress(f"dependencies {filled} of {len(dependency_rows)}")
        if self.publish:
            with self.watch(BuildPhase.STAGE):
                warehouse.stage(request.key, plan.features)
        with self.watch(BuildPhase.SCORE):
            counts, profile = _count_rows(warehouse, request, plan)
            stats = read_stats(request.key.analysis_date, dependency_rows, counts, warehouse.pipeline, not_finite)
            # A build works as well without a reference.
            lost = tuple(fault for fault in usable.faults if fault.table not in warehouse.pipeline.references)
            stats = replace(stats, unusable=lost, table_facts=facts, profile=profile)
            report = score(counts_for_score(stats, warehouse.pipeline), request.mode, self.quality)
            report = judged(report, judge(request, stats, report, warehouse.pipeline))
        return _Read(plan, stats, report)

    def _count(self, plan: BuildPlan) -> tuple[Mapping[str, int], Mapping[str, TableFacts], Mapping[str, int]]:
        """Count the Phase 4 rows by processor, with facts and NaN values of the tables that the build reads.

        A forced fallback and a copy of yesterday's rows read no Phase 4 table: the counts only show what waits there,
        and tables that cannot be counted count as empty.
        """
        request, pipeline = self.request, self.warehouse.pipeline
        if request.mode is BuildMode.NORMAL:
            rows = self.warehouse.query(plan.dependency_rows)
            read = [name for name in pipeline.processors if request.reads(name)]
            filled = read_dependency_rows(rows, pipeline, ignored=request.ignored)
            return filled, read_table_facts(rows, read), read_not_finite(rows, read, pipeline)
        try:
            counted = probe(self.warehouse, request.key.analysis_date, as_of=request.as_of)
        except (Fatal, SourceGone) as exc:
            log.warning("dependencies_not_counted", build_id=request.key.build_id, error=str(exc))
            counted = {}
        return {name: 0 if name in request.ignored else counted.get(name, 0) for name in pipeline.processors}, {}, {}


def _finish(attempt: _Attempt, read: _Read, now: Callable[[], datetime]) -> BuildOutcome:
    """Publish the rows of an attempt if the quality gate passes, and log the end of the attempt."""
    warehouse, request, publish = attempt.warehouse, attempt.request, attempt.publish
    stats, report = read.stats, read.report
    attempt.progress(f"stage {stats.row_count} rows")
    attempt.progress(f"score {report.quality_score}")
    with attempt.watch(BuildPhase.GATE):
        failure, message = _verdict(request, stats, report, warehouse.pipeline)
    finished_at = now()
    if publish:
        if failure is None:
            with attempt.watch(BuildPhase.PUBLISH):
                warehouse.publish(Publication(request=request, stats=stats, report=report, committed_at=finished_at))
            attempt.progress(f"publish {stats.row_count} rows")
        _log_outcome(warehouse, request, stats, report, message, finished_at)
    return BuildOutcome(
        request=request,
        stats=replace(stats, left_out=_list_left_out(warehouse, read.plan, stats)),
        report=report,
        published=publish and failure is None,
        failure=failure,
        message=message,
        finished_at=finished_at,
    )


def _count_rows(warehouse: Warehouse, request: BuildRequest, plan: BuildPlan) -> tuple[Mapping[str, Any], Profile]:
    """Count the rows for the score, and the features beside it; statistics that no retry could read stop no build."""
    day = request.key.analysis_date
    wanted = (plan.stats, plan.nights, *filter(None, (plan.profile,)))
    counts, nights, rows = (*warehouse.query_all(wanted), ())[:3]
    for answer in (counts, nights, rows):
        if isinstance(answer, PipelineError) and (answer is counts or not isinstance(answer, Fatal | SourceGone)):
            raise answer
        if isinstance(answer, PipelineError):
            log.warning("profile_not_read", analysis_date=day.isoformat(), error=str(answer))
    [[row], known, found] = [() if isinstance(answer, PipelineError) else answer for answer in (counts, nights, rows)]
    return row, read_profile(day, found, read_nights(known), warehouse.pipeline)


def _list_left_out(warehouse: Warehouse, plan: BuildPlan, stats: BuildStats) -> Sequence[LeftOut]:
    """Return the players without a row; empty after an error, because the outcome of the build is final."""
    if not stats.left_out_count:
        return ()
    try:
        return read_left_out(warehouse.query(plan.left_out), warehouse.pipeline)
    except PipelineError as exc:
        log.warning("left_out_not_listed", analysis_date=stats.analysis_date.isoformat(), error=str(exc))
        return ()


def _verdict(
    request: BuildRequest, stats: BuildStats, report: QualityReport, pipeline: Pipeline
) -> tuple[FailureKind | None, str]:
    if stats.row_count == 0:
        day, many = stats.analysis_date.isoformat(), pipeline.entity.plural
        if request.mode is BuildMode.YESTERDAY:
            return FailureKind.NO_DATA, (
                f"{day} has no night to copy: no generation built from Phase 4 or 3 was published in the "
                f"{COPY_AGE_DAYS_MAX} days before; replay an earlier analysis date first"
            )
        seen = f", by rows processed up to {request.as_of:%Y-%m-%d %H:%M:%S}Z" if request.as_of is not None else ""
        if stats.left_out_count == 0:
            return FailureKind.NO_ROSTER, no_roster(day, _roster_fault(stats, pipeline, seen), pipeline)
        phase = "Phase 3" if request.mode is BuildMode.FORCED_FALLBACK else "either phase"
        has_none = f"none of {stats.left_out_count} active {many} has {pipeline.entity.must_have} in {phase}{seen}"
        return FailureKind.NO_DATA, f"{day}: {has_none}"
    if not report.gate_passed:
        return FailureKind.GATE_REFUSED, report.gate_message
    return None, ""


def _roster_fault(stats: BuildStats, pipeline: Pipeline, seen: str) -> str:
    """Return why the roster gave no entity: the fault of the table, or the missing rows."""
    roster = pipeline.entity.roster
    fault = next((fault for fault in stats.unusable if fault.table == roster and not fault.column), None)
    if fault is not None:
        return f"no active {pipeline.entity.plural}: {fault.text}"
    return f"{roster} holds no active {pipeline.entity.plural} of the date{seen}"


def _log_outcome(
    warehouse: Warehouse,
    request: BuildRequest,
    stats: BuildStats,
    report: QualityReport,
    refusal: str,
    at: datetime,
) -> None:
    """Append an attempt to the execution log, and a refused attempt to the quality history."""
    state = State.FAILED if refusal else report.earned_state
    refused = None
    if refusal:
        blocks = warehouse.pipeline.blocks
        refused = history_row(request, stats=stats, report=report, state=state, processed_at=at, blocks=blocks)
    executed = execution_row(request, state=state, completed_at=at, stats=stats, report=report, error=refusal or None)
    _log_quietly(warehouse, executed, refused)


def _log_quietly(warehouse: Warehouse, executed: Row, refused: Row | None = None) -> None:
    """Append the rows of an ended attempt to the logs; an error changes no outcome."""
    try:
        if refused is not None:
            warehouse.log_history(refused)
        warehouse.log_execution(executed)
    except PipelineError as exc:
        # Reports that count attempts leave out this attempt.
        after = executed["error"] or executed["state"]
        log.warning("execution_not_logged", build_id=executed["build_id"], after=after, error=str(exc))
