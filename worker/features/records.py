"""Rows of the bookkeeping tables: what is known of a build, as the columns that the warehouse keeps. Pure.

The keys of every row are the columns of its table, as the pipeline's DDL declares them; the contract tests insert each
of them into both engines.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from statemachine.model import Retraction, State
from worker.features.model import BuildKey, BuildRequest, BuildStats, LedgerRow, Publication, QualityReport
from worker.features.pipeline import Block
from worker.features.quality import COMPONENTS

Row = dict[str, Any]


def quality_row(publication: Publication) -> Row:
    """Give the row of `_quality_metrics`, one per date, with the document's column names."""
    key, report = publication.request.key, publication.report
    return {
        "analysis_date": key.analysis_date,
        "quality_score": report.quality_score,
        **_component_columns(report),
        "component_total": report.component_total,
        "fallback_rate": report.fallback_rate,
        "missing_rate": report.missing_rate,
        "severity": report.severity,
        "state": report.earned_state.value,
        "row_count": report.row_count,
        "left_out": publication.stats.left_out_count,
        "generation": key.generation,
        "build_id": key.build_id,
        "processed_at": publication.committed_at,
    }


def dependency_row(publication: Publication, blocks: Sequence[Block]) -> Row:
    """Give the row of `_dependency_tracking`, one per date: which Phase 4 tables had rows, and how many."""
    key, counted = publication.request.key, publication.stats.dependency_rows
    return {
        "analysis_date": key.analysis_date,
        **{f"{block.name}_available": counted[block.processor] > 0 for block in blocks},
        **_dependency_columns(counted, blocks),
        "generation": key.generation,
        "build_id": key.build_id,
        "processed_at": publication.committed_at,
    }


def execution_row(
    request: BuildRequest,
    *,
    state: State,
    completed_at: datetime,
    stats: BuildStats | None = None,
    report: QualityReport | None = None,
    error: str | None = None,
) -> Row:
    """Give one row of `_execution_log`: an attempt that ended, published or not.

    Args:
        request: What was attempted.
        state: The state it earned, or `failed`.
        completed_at: When it ended. UTC.
        stats: What was staged, where it came that far.
        report: What it was worth, where it came that far.
        error: Why nothing was published.
    """
    return {
        "analysis_date": request.key.analysis_date,
        "build_id": request.key.build_id,
        "generation": request.key.generation,
        "attempt": request.key.attempt,
        "trigger": request.trigger,
        "mode": request.mode.value,
        "phase3_lookback_days": request.phase3_lookback_days,
        "as_of": request.as_of,
        "state": state.value,
        "started_at": request.started_at,
        "completed_at": completed_at,
        "row_count": None if stats is None else stats.row_count,
        "left_out": None if stats is None else stats.left_out_count,
        "quality_score": None if report is None else report.quality_score,
        "component_total": None if report is None else report.component_total,
        "fallback_rate": None if report is None else report.fallback_rate,
        "missing_rate": None if report is None else report.missing_rate,
        "severity": None if report is None else report.severity,
        "error": error,
        "ignored_processors": ",".join(sorted(request.ignored)) or None,
    }


def replay_row(  # noqa: PLR0913 - one column each
    analysis_date: date,
    *,
    requested_at: datetime,
    requested_by: str,
    reason: str,
    mode: str,
    previous_state: str | None,
    previous_generation: int,
    decision: str,
    request_id: str | None = None,
    idempotency_key: str | None = None,
    retraction: Retraction | None = None,
) -> Row:
    """Give the row of the replay audit: who wanted a date built again or stopped, or a run taken back, and why.

    Args:
        analysis_date: The date.
        requested_at: When it was asked for. UTC.
        requested_by: Who asked.
        reason: In their words.
        mode: Which data the build may use; `cancel` where none shall be; `retract` for a run taken back.
        previous_state: The state before, None where nobody knows.
        previous_generation: The generation that consumers read until then, 0 for none.
        decision: What was decided about it.
        request_id: Unique to the request, where it has one.
        idempotency_key: What the caller named the request, where it did.
        retraction: The run that is taken back, where one is.
    """
    return {
        "analysis_date": analysis_date,
        "requested_at": requested_at,
        "requested_by": requested_by,
        "reason": reason,
        "mode": mode,
        "request_id": request_id,
        "idempotency_key": idempotency_key,
        "previous_state": previous_state,
        "previous_generation": previous_generation,
        "decision": decision,
        "processor": None if retraction is None else retraction.processor,
        "run": None if retraction is None else retraction.identity,
        "run_completed_at": None if retraction is None else retraction.completed_at,
    }


def read_retraction(row: Mapping[str, Any]) -> Retraction:
    """Read a row of the replay audit about a run taken back."""
    return Retraction(
        processor=row["processor"],
        identity=row["run"],
        completed_at=row["run_completed_at"].astimezone(UTC),
        actor=row["requested_by"],
        reason=row["reason"],
        at=row["requested_at"].astimezone(UTC),
        request_id=row["request_id"] or "",
    )


def ledger_row(publication: Publication, blocks: Sequence[Block]) -> Row:
    """Give the row of `_ledger`, one per date: the fencing token of the last commit, and what it was."""
    request, report = publication.request, publication.report
    return {
        "analysis_date": request.key.analysis_date,
        "claimed_generation": request.key.generation,
        "claimed_attempt": request.key.attempt,
        "claimed_by": request.claimant,
        "generation": request.key.generation,
        "attempt": request.key.attempt,
        "build_id": request.key.build_id,
        "state": report.earned_state.value,
        "row_count": report.row_count,
        "quality_score": report.quality_score,
        "component_total": report.component_total,
        **_component_columns(report),
        "fallback_rate": report.fallback_rate,
        "missing_rate": report.missing_rate,
        "severity": report.severity,
        **_dependency_columns(publication.stats.dependency_rows, blocks),
        "left_out": publication.stats.left_out_count,
        "started_at": request.started_at,
        "committed_at": publication.committed_at,
    }


def claimed_ledger_row(key: BuildKey, at: datetime, claimant: str, blocks: Sequence[Block]) -> Row:
    """Give the row of `_ledger` of a date that was claimed and never committed: generation 0, nothing counted."""
    return {
        "analysis_date": key.analysis_date,
        "claimed_generation": key.generation,
        "claimed_attempt": key.attempt,
        "claimed_by": claimant,
        "generation": 0,
        "attempt": 0,
        "build_id": "",
        "state": "",
        "row_count": 0,
        "quality_score": 0.0,
        "component_total": 0.0,
        **{f"{name}_score": 0.0 for name in COMPONENTS},
        "fallback_rate": 0.0,
        "missing_rate": 0.0,
        "severity": None,
        **{f"{block.name}_rows": 0 for block in blocks},
        "left_out": 0,
        "started_at": at,
        "committed_at": at,
    }


def read_ledger_row(row: Mapping[str, Any], blocks: Sequence[Block]) -> LedgerRow:
    """Read a row of `_ledger` back."""
    return LedgerRow(
        analysis_date=row["analysis_date"],
        generation=row["generation"],
        attempt=row["attempt"],
        build_id=row["build_id"],
        state=State(row["state"]),
        row_count=row["row_count"],
        quality_score=row["quality_score"],
        component_total=row["component_total"],
        components={name: row[f"{name}_score"] for name in COMPONENTS},
        fallback_rate=row["fallback_rate"],
        missing_rate=row["missing_rate"],
        severity=row["severity"],
        dependency_rows={block.processor: row[f"{block.name}_rows"] for block in blocks},
        left_out=row["left_out"],
        started_at=row["started_at"].astimezone(UTC),
        committed_at=row["committed_at"].astimezone(UTC),
    )


def _component_columns(report: QualityReport) -> Row:
    return {f"{name}_score": report.components[name] for name in COMPONENTS}


def _dependency_columns(counted: Mapping[str, int], blocks: Sequence[Block]) -> Row:
    return {f"{block.name}_rows": counted[block.processor] for block in blocks}
