"""Steps of one build: claim, validate, count dependencies, stage, score, quality gate, publish.

The rows of an attempt bear the build id of the attempt. No consumer sees the rows before `publish` sets the pointer;
publishing the same attempt again has no effect. After a crash before `publish` the rows are invisible, and the vacuum
deletes the rows; after a crash behind `publish` the ledger names the commit, and the next attempt reports the commit.
The caller retries, renews the lease and reports the end.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from statemachine.model import BuildMode, FailureKind, State
from worker.builds.judge import judge
from worker.builds.upstream import validate_upstream
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
)
from worker.features.pipeline import Pipeline
from worker.features.plan import (
    COPY_AGE_DAYS_MAX,
    BuildPlan,
    plan_build,
    read_dependency_rows,
    read_left_out,
    read_stats,
)
from worker.features.profile import Profile
from worker.features.profile_reading import read_nights, read_profile
from worker.features.quality import QualityPolicy, score
from worker.features.records import Row, execution_row, history_row
from worker.ports import Warehouse

log = structlog.get_logger(__name__)

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
        SchemaDrift: An upstream table or column is absent or has another type.
        Fenced: Another attempt has claimed the analysis date, or the generation is committed; no row was published.
        Unavailable: The warehouse does not answer; another attempt may succeed.
        Fatal: Another attempt would fail the same way.
    """
    try:
        claimed_at = now()
        if publish:
            with watch(BuildPhase.CLAIM):
                warehouse.claim(request.key, claimed_at, request.claimant)
        # If the clock is set back, date the rows not before the claim: the vacuum selects rows by this instant.
        built_at = max(claimed_at, now())
        plan = plan_build(request, warehouse.pipeline, built_at=built_at, stored=publish)
        return _build(warehouse, request, plan, now, progress, policy, watch=watch, publish=publish)
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
        SchemaDrift: A table or column that the build reads does not exist.
        Unavailable: The warehouse does not answer.
    """
    plan = plan_build(request, warehouse.pipeline, built_at=now)
    if request.mode is not BuildMode.YESTERDAY:
        validate_upstream(warehouse, request.key.analysis_date)
    return [warehouse.estimate(statement) for statement in (plan.dependency_rows, plan.features)]


def _build(  # noqa: PLR0913 - the arguments of `run_build`
    warehouse: Warehouse,
    request: BuildRequest,
    plan: BuildPlan,
    now: Callable[[], datetime],
    progress: Callable[[str], None],
    policy: QualityPolicy | None,
    *,
    watch: Watch,
    publish: bool,
) -> BuildOutcome:
    dependency_rows = _read_upstream(warehouse, request, plan, progress, watch)
    if publish:
        with watch(BuildPhase.STAGE):
            warehouse.stage(request.key, plan.features)
    with watch(BuildPhase.SCORE):
        counts, profile = _count(warehouse, request, plan)
        stats = read_stats(request.key.analysis_date, dependency_rows, counts, warehouse.pipeline, profile)
        report = score(stats, request.mode, policy or warehouse.pipeline.quality)
        report = judged(report, judge(request, stats, report, warehouse.pipeline))
    progress(f"stage {stats.row_count} rows")
    progress(f"score {report.quality_score}")
    with watch(BuildPhase.GATE):
        failure, message = _verdict(request, stats, report, warehouse.pipeline)
    finished_at = now()
    if publish:
        if failure is None:
            with watch(BuildPhase.PUBLISH):
                warehouse.publish(Publication(request=request, stats=stats, report=report, committed_at=finished_at))
            progress(f"publish {stats.row_count} rows")
        _log_outcome(warehouse, request, stats, report, message, finished_at)
    return BuildOutcome(
        request=request,
        stats=replace(stats, left_out=_list_left_out(warehouse, plan, stats)),
        report=report,
        published=publish and failure is None,
        failure=failure,
        message=message,
        finished_at=finished_at,
    )


def _read_upstream(
    warehouse: Warehouse, request: BuildRequest, plan: BuildPlan, progress: Callable[[str], None], watch: Watch
) -> Mapping[str, int]:
    """Compare upstream with the catalogue; return the row count of each Phase 4 table by processor."""
    if request.mode is not BuildMode.YESTERDAY:
        # A copy of yesterday's rows reads no upstream table, so a broken upstream table does not stop the copy.
        with watch(BuildPhase.VALIDATE):
            tables = validate_upstream(warehouse, request.key.analysis_date)
        progress(f"validate {tables} tables")
    with watch(BuildPhase.DEPENDENCIES):
        dependency_rows = _count_dependencies(warehouse, request, plan)
    filled = sum(1 for rows in dependency_rows.values() if rows > 0)
    progress(f"dependencies {filled} of {len(dependency_rows)}")
    return dependency_rows


def _count(warehouse: Warehouse, request: BuildRequest, plan: BuildPlan) -> tuple[Mapping[str, Any], Profile]:
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


def _count_dependencies(warehouse: Warehouse, request: BuildRequest, plan: BuildPlan) -> dict[str, int]:
    """Count the Phase 4 rows by processor; for a copy of yesterday's rows an unreadable table counts as empty."""
    try:
        counted = warehouse.query(plan.dependency_rows)
        return read_dependency_rows(counted, warehouse.pipeline, ignored=request.ignored)
    except (Fatal, SourceGone):
        if request.mode is not BuildMode.YESTERDAY:
            raise
        return read_dependency_rows((), warehouse.pipeline)


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
        if stats.left_out_count == 0:
            return FailureKind.NO_DATA, f"{day} has no active {many}: {pipeline.entity.roster} holds no row for it"
        return FailureKind.NO_DATA, f"{day}: none of {stats.left_out_count} active {many} has data in either phase"
    if not report.gate_passed:
        return FailureKind.GATE_REFUSED, report.gate_message
    return None, ""


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
