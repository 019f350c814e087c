"""Rows of the bookkeeping tables, and the verdict of the ledger on an attempt. Pure.

The keys of a row are the columns of the table in the pipeline's DDL; the contract tests insert each row into both
engines. Every warehouse uses the same checks and the same texts for a claim or a publication refused by the ledger.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from statemachine.model import Finding, FindingSeverity, Retraction, State
from worker.errors import Fatal, Fenced
from worker.features.findings import TEXT_CHARS_MAX, Check
from worker.features.model import BuildKey, BuildRequest, BuildStats, LedgerRow, Publication, QualityReport
from worker.features.own_tables import OwnTables
from worker.features.pipeline import Block
from worker.features.profile_reading import profile_rows
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
    """Return the row of `_quality_history` for an attempt: options and score of the rows.

    Args:
        request: The request of the attempt.
        stats: Counts of the rows.
        report: Score and verdict.
        state: Earned state, or `failed` after a refusal by the gate.
        processed_at: Instant of the verdict; the commit time of published rows. UTC.
        blocks: The blocks of the pipeline, with counted Phase 4 rows.
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
        "findings": write_findings(report.findings),
        **{f"{block.name}_rows": stats.dependency_rows[block.processor] for block in blocks},
        "started_at": request.started_at,
        "processed_at": processed_at,
    }


def published_row(publication: Publication, blocks: Sequence[Block]) -> Row:
    """Return the row of `_quality_history` for an attempt before publication."""
    return history_row(
        publication.request,
        stats=publication.stats,
        report=publication.report,
        state=publication.report.earned_state,
        processed_at=publication.committed_at,
        blocks=blocks,
    )


def published_profile(publication: Publication) -> list[Row]:
    """Return the rows of `_feature_profile` for an attempt before publication, one per judged feature."""
    key, profile = publication.request.key, publication.stats.profile
    return profile_rows(key.analysis_date, key.build_id, key.generation, profile)


def _how(request: BuildRequest) -> Row:
    """Return the columns with the identity and the options of an attempt."""
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
    """Return the row of `_execution_log` for an ended attempt, published or not.

    Args:
        request: The request of the attempt.
        state: Earned state, or `failed`.
        completed_at: End of the attempt. UTC.
        stats: Counts of the rows; None after an earlier end.
        report: Score and verdict; None after an earlier end.
        error: Reason of an attempt without publication.
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
    as_of: datetime | None = None,
) -> Row:
    """Return the row of the replay audit: the person, the action and the reason.

    Args:
        analysis_date: The analysis date.
        requested_at: Instant of the request. UTC.
        requested_by: The requesting person.
        reason: Reason in the words of the person.
        mode: Allowed data of the build; `cancel` for a cancellation, `retract` for a retraction.
        previous_state: State before the request; None if unknown.
        previous_generation: Published generation before the request, 0 for none.
        decision: Decision about the request.
        request_id: Unique id of the request, if known.
        idempotency_key: Key given by the caller, if any.
        retraction: Retracted run, if any.
        as_of: Instant up to which the build reads upstream rows; None without a limit. UTC.
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
        "as_of": as_of,
    }


def read_retraction(row: Mapping[str, Any]) -> Retraction:
    """Return the retraction of a row of the replay audit."""
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
        findings=read_findings(row.get("findings")),
    )


_FINDINGS: TypeAdapter[tuple[Finding, ...]] = TypeAdapter(tuple[Finding, ...])


def write_findings(findings: Sequence[Finding] | None) -> str | None:
    """Return findings as the column `findings`: a JSON list of objects; None for rows that no check judged."""
    return None if findings is None else _FINDINGS.dump_json(tuple(findings)).decode()


def read_findings(text: str | None) -> tuple[Finding, ...] | None:
    """Return the findings of a column `findings`; None for NULL: rows published before builds were judged.

    A statement reads the rows of many analysis dates, so a damaged text of a single row raises no exception: the result
    is a note.
    """
    if text is None:
        return None
    try:
        return _FINDINGS.validate_json(text)
    except ValidationError as exc:
        note = Finding(
            check=Check.FURTHER_FINDINGS,
            severity=FindingSeverity.NOTE,
            subject="findings",
            observed=f"the stored findings are unreadable: {exc.errors()[0]['msg']}"[:TEXT_CHARS_MAX],
            expected="a JSON list of findings",
            next_step="judge the rows again: mlfs replay DATE --reason '…'",
        )
        return (note,)


Claims = Sequence[Mapping[str, Any]]
"""The rows of the statement `claims` for one date, the newest claim first."""


def holds_claim(claims: Claims, key: BuildKey, claimant: str) -> bool:
    """Return whether the ledger shows a claim of this attempt by this claimant."""
    return any(_claim_of(row) == (*key.token, claimant) for row in claims)


def has_published(claims: Claims, key: BuildKey, claimant: str) -> bool:
    """Return whether this attempt of this claimant is published."""
    return any(row["build_id"] == key.build_id and _claim_of(row) == (*key.token, claimant) for row in claims)


def check_fence(claims: Claims, key: BuildKey, claimant: str, wanted: str) -> None:
    """Refuse a superseded attempt, an attempt of another claimant, and an attempt of a published generation.

    Args:
        claims: Ledger rows of the analysis date.
        key: The attempt.
        claimant: Claimant of the attempt.
        wanted: The wanted action, `build` or `publish`.

    Raises:
        Fenced: The ledger refuses the attempt.
    """
    for row in claims:
        if row["generation"] >= key.generation:
            # A row written by hand may lack the instant.
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
    """Raise the reason for a publication that changed no ledger row.

    Args:
        claims: Ledger rows of the analysis date.
        publication: The refused publication.
        generations: Name of the table that holds the rows.

    Raises:
        Fenced: Another attempt holds the claim, or this attempt has no claim.
        Fatal: The scored rows are not in the table.
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
    """Refuse a warehouse of an earlier release, which stored published rows in tables.

    Args:
        tables: Names of the product's tables and views.
        found: Names of views that exist as tables.

    Raises:
        Fatal: Such a table exists.
    """
    if found:
        raise Fatal(
            f"{', '.join(sorted(found))}: a table, and this version reads a view of that name: the warehouse was "
            f"written by an earlier version, whose rows are not carried over. Rename or drop the tables whose names "
            f"begin with {tables.published}, and start again; or name a new warehouse (MLFS_WAREHOUSE)"
        )


def _claim_of(row: Mapping[str, Any]) -> tuple[int, int, str]:
    return row["claimed_generation"], row["claimed_attempt"], row["claimed_by"]
