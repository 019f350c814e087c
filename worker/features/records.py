"""Rows of the bookkeeping tables: what is known of a build, as the columns that the warehouse keeps. Pure.

The keys of every row are the columns of its table, as the pipeline's DDL declares them; the contract tests insert each
of them into both engines.

The ledger's verdict on one attempt, the same words for every warehouse.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from statemachine.model import Retraction, State
from worker.errors import Fatal, Fenced
from worker.features.model import BuildKey, BuildRequest, BuildStats, LedgerRow, Publication, QualityReport
from worker.features.pipeline import Block, OwnTables
from worker.features.quality import COMPONENTS

Row = dict[str, Any]


def history_row(
    request: BuildRequest,
    *,
    stats: BuildStats,
    report: QualityReport,
    state: State,
    processed_at: datetime,
    blocks: Sequence[Block],
) -> Row:
    """Return the row of `_quality_history` for one attempt: how its rows were made, and what they are worth.

    Args:
        request: What was attempted.
        stats: The counts of its rows.
        report: What they are worth.
        state: The state they earn, or `failed` where the gate refuses them.
        processed_at: When they were judged; the commit time of rows that are published. UTC.
        blocks: The pipeline's blocks, whose Phase 4 rows were counted.
    """
    return {
        **_how(request),
        "state": state.value,
        "row_count": report.row_count,
        "left_out": stats.left_out_count,
        "quality_score": report.quality_score,
        **{f"{name}_score": report.components[name] for name in COMPONENTS},
        "component_total": report.component_total,
        "fallback_rate": report.fallback_rate,
        "missing_rate": report.missing_rate,
        "severity": report.severity,
        **{f"{block.name}_rows": stats.dependency_rows[block.processor] for block in blocks},
        "started_at": request.started_at,
        "processed_at": processed_at,
    }


def published_row(publication: Publication, blocks: Sequence[Block]) -> Row:
    """Return the row of `_quality_history` for an attempt that is about to be published."""
    return history_row(
        publication.request,
        stats=publication.stats,
        report=publication.report,
        state=publication.report.earned_state,
        processed_at=publication.committed_at,
        blocks=blocks,
    )


def _how(request: BuildRequest) -> Row:
    """Return the columns that say which attempt it was, and how it read upstream."""
    return {
        "analysis_date": request.key.analysis_date,
        "build_id": request.key.build_id,
        "generation": request.key.generation,
        "attempt": request.key.attempt,
        "trigger": request.trigger,
        "mode": request.mode.value,
        "phase3_lookback_days": request.phase3_lookback_days,
        "as_of": request.as_of,
        "ignored_processors": ",".join(sorted(request.ignored)) or None,
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
        stats: The counts of its rows, where it came that far.
        report: What it was worth, where it came that far.
        error: Why nothing was published.
    """
    return {
        **_how(request),
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


def read_ledger_row(row: Mapping[str, Any], blocks: Sequence[Block]) -> LedgerRow:
    """Read a row of the statement `ledger`."""
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


Claims = Sequence[Mapping[str, Any]]
"""The rows of the statement `claims` for one date, the newest claim first."""


def holds_claim(claims: Claims, key: BuildKey, claimant: str) -> bool:
    """Return whether the claimant has the date for this attempt."""
    return any(_claim_of(row) == (*key.token, claimant) for row in claims)


def has_published(claims: Claims, key: BuildKey, claimant: str) -> bool:
    """Return whether this attempt of this claimant is what is published."""
    return any(row["build_id"] == key.build_id and _claim_of(row) == (*key.token, claimant) for row in claims)


def check_fence(claims: Claims, key: BuildKey, claimant: str, wanted: str) -> None:
    """Refuse an attempt that a newer one has replaced, one that is another's, and a generation that is published.

    Args:
        claims: What the ledger says of the date.
        key: The attempt.
        claimant: Who wants it.
        wanted: What it wants, `build` or `publish`.

    Raises:
        Fenced: The ledger says no.
    """
    for row in claims:
        if row["generation"] >= key.generation:
            # A row that somebody wrote by hand may lack the instant.
            at = f", at {row['committed_at'].astimezone(UTC).isoformat()}" if row["committed_at"] else ""
            raise Fenced(f"{key.build_id} may not {wanted}: {row['build_id']} already did{at}")
        generation, attempt, holder = _claim_of(row)
        if (generation, attempt) > key.token:
            raise Fenced(
                f"{key.build_id} may not {wanted}: generation {generation}, attempt {attempt} has the date now"
            )
        if (generation, attempt) == key.token and holder != claimant:
            raise Fenced(f"{key.build_id} may not {wanted}: {holder} has it, not {claimant}")


def explain_refusal(claims: Claims, publication: Publication, generations: str) -> None:
    """Raise why a publication changed nothing in the ledger.

    Args:
        claims: What the ledger says of the date.
        publication: What was to be published.
        generations: Name of the table that holds the rows.

    Raises:
        Fenced: Another attempt has the date, or this one never claimed it.
        Fatal: The rows that were judged are not in the table.
    """
    key, claimant = publication.request.key, publication.request.claimant
    check_fence(claims, key, claimant, "publish")
    if not holds_claim(claims, key, claimant):
        raise Fenced(f"{key.build_id} may not publish: {claimant} has not claimed it")
    raise Fatal(
        f"{key.build_id} was not published: {generations} does not hold the {publication.report.row_count} rows that "
        f"were judged; run: mlfs replay {key.analysis_date.isoformat()} --reason '…'"
    )


def refuse_old_tables(tables: OwnTables, found: Collection[str]) -> None:
    """Refuse a warehouse whose published rows lie in tables of their own.

    Args:
        tables: The names that the pipeline writes and shows.
        found: Those of its views that exist as tables.

    Raises:
        Fatal: There is one.
    """
    if found:
        raise Fatal(
            f"{', '.join(sorted(found))}: a table, and this version reads a view of that name: the warehouse was "
            f"written by an earlier version, whose rows are not carried over. Rename or drop the tables whose names "
            f"begin with {tables.published}, and start again; or name a new warehouse (MLFS_WAREHOUSE)"
        )


def _claim_of(row: Mapping[str, Any]) -> tuple[int, int, str]:
    return row["claimed_generation"], row["claimed_attempt"], row["claimed_by"]
