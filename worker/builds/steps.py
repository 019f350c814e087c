"""One build from request to outcome: validate, stage, score, gate, publish.

A second attempt can follow each step. The rows of an attempt are stored under its build id, and no consumer sees them
until `publish` points the ledger at them; afterwards the ledger answers for the attempt, and publishing the attempt
again changes nothing. Retries, leases and fencing beyond the ledger are the caller's.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime

import structlog

from statemachine.model import BuildMode, FailureKind, State
from worker.builds.upstream import validate_upstream
from worker.errors import Fatal, Fenced, PipelineError, SourceGone
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
from worker.features.quality import QualityPolicy, score
from worker.features.records import Row, execution_row, history_row
from worker.ports import Warehouse

log = structlog.get_logger(__name__)

Watch = Callable[[BuildPhase], AbstractContextManager[object]]
"""Entered when a phase begins, left when it ends, with its error if it had one; what it raises ends the build."""


def _silent(_step: str) -> None:
    """Report progress to nobody."""


def _unwatched(_phase: BuildPhase) -> AbstractContextManager[object]:
    """Let a phase pass."""
    return nullcontext()


def run_build(
    warehouse: Warehouse,
    request: BuildRequest,
    *,
    now: Callable[[], datetime],
    progress: Callable[[str], None] = _silent,
    watch: Watch = _unwatched,
    policy: QualityPolicy | None = None,
    publish: bool = True,
) -> BuildOutcome:
    """Build one date, and publish it if it passes the gate.

    Args:
        warehouse: Where to build.
        request: What to build.
        now: The clock, UTC.
        progress: Called after each step with its name and what it counted: `validate 9 tables`,
            `dependencies 4 of 4`, `stage 476 rows`, `score 99.9`, `publish 476 rows`. An error it raises ends
            the build.
        watch: Told of each phase that the build really passes. A dry run neither claims nor publishes.
        policy: Other rules than the pipeline's, for a gate that is tried out.
        publish: False for a dry run: the rows are counted and judged as they are selected, and nothing is stored.

    Returns:
        The outcome; a build that the gate refuses, or that finds no data, is an outcome and not an error.

    Raises:
        SchemaDrift: An upstream table or column is gone or has another type.
        Fenced: Another attempt has taken the date, or its generation is committed already; nothing was changed.
        Unavailable: The warehouse could not serve; worth another attempt.
        Fatal: Another attempt would fail the same way.
    """
    try:
        claimed_at = now()
        if publish:
            with watch(BuildPhase.CLAIM):
                warehouse.claim(request.key, claimed_at, request.claimant)
        # A clock that is set back meanwhile must not date the rows before their claim: the vacuum knows them by that.
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
    """Ask the warehouse what the build's reads of upstream tables would cost, without running them.

    What comes after reads the attempt's own rows, a few hundred kilobytes on a usual night, and cannot be asked about
    before these rows exist.

    Raises:
        SchemaDrift: A table or column that the build reads does not exist.
        Unavailable: The warehouse could not serve.
    """
    plan = plan_build(request, warehouse.pipeline, built_at=now)
    if request.mode is not BuildMode.YESTERDAY:
        validate_upstream(warehouse, request.key.analysis_date)
    return [warehouse.estimate(statement) for statement in (plan.dependency_rows, plan.features)]


def _build(  # noqa: PLR0913 - what the caller was given
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
        counts = warehouse.query(plan.stats)[0]
        stats = read_stats(request.key.analysis_date, dependency_rows, counts, warehouse.pipeline)
        report = score(stats, request.mode, policy or warehouse.pipeline.quality)
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
    """Check upstream; return the rows of each Phase 4 table by processor."""
    if request.mode is not BuildMode.YESTERDAY:
        # The last resort reads nothing upstream, so that it works where upstream is what is broken.
        with watch(BuildPhase.VALIDATE):
            tables = validate_upstream(warehouse, request.key.analysis_date)
        progress(f"validate {tables} tables")
    with watch(BuildPhase.DEPENDENCIES):
        dependency_rows = _count_dependencies(warehouse, request, plan)
    filled = sum(1 for rows in dependency_rows.values() if rows > 0)
    progress(f"dependencies {filled} of {len(dependency_rows)}")
    return dependency_rows


def _list_left_out(warehouse: Warehouse, plan: BuildPlan, stats: BuildStats) -> Sequence[LeftOut]:
    """Return who got no row. The outcome of the build is settled by now, so an error here must not change it."""
    if not stats.left_out_count:
        return ()
    try:
        return read_left_out(warehouse.query(plan.left_out), warehouse.pipeline)
    except PipelineError as exc:
        log.warning("left_out_not_listed", analysis_date=stats.analysis_date.isoformat(), error=str(exc))
        return ()


def _count_dependencies(warehouse: Warehouse, request: BuildRequest, plan: BuildPlan) -> dict[str, int]:
    """Count what Phase 4 holds; the last resort goes on without a count where a table cannot be read."""
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
                f"{day} has no night to copy: nothing was built from Phase 4 or 3 and published in the "
                f"{COPY_AGE_DAYS_MAX} days before it; replay one of them first"
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
    """Append an attempt that came to a verdict to the execution log, and a refused one to the quality history.

    An error here changes nothing about the outcome; reports that count attempts will lack this one.
    """
    state = State.FAILED if refusal else report.earned_state
    refused = None
    if refusal:
        blocks = warehouse.pipeline.blocks
        refused = history_row(request, stats=stats, report=report, state=state, processed_at=at, blocks=blocks)
    executed = execution_row(request, state=state, completed_at=at, stats=stats, report=report, error=refusal or None)
    _log_quietly(warehouse, executed, refused)


def _log_quietly(warehouse: Warehouse, executed: Row, refused: Row | None = None) -> None:
    """Append the rows of an attempt that ended to the logs; how it ended matters more than the logs of it."""
    try:
        if refused is not None:
            warehouse.log_history(refused)
        warehouse.log_execution(executed)
    except PipelineError as exc:
        # Reports that count attempts will lack this one.
        after = executed["error"] or executed["state"]
        log.warning("execution_not_logged", build_id=executed["build_id"], after=after, error=str(exc))
