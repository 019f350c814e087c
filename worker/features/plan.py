"""Build plan: typed statements for a request and a pipeline; and readers of the answers. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from statemachine.model import BuildMode
from worker.features.model import (
    BlockCounts,
    BuildKey,
    BuildRequest,
    BuildStats,
    LeftOut,
    Publication,
    Statement,
)
from worker.features.pipeline import Pipeline
from worker.features.profile import Profile
from worker.features.profile_reading import plan_nights, plan_profile

ACCEPTED_TYPES: Mapping[str, frozenset[str]] = {
    # A column of whole numbers or decimals becomes a float without loss; no other type changes silently.
    "FLOAT64": frozenset({"FLOAT64", "INT64", "NUMERIC", "BIGNUMERIC"}),
}

COPY_AGE_DAYS_MAX = 2
"""Maximal age in days of the published rows that may be copied for an analysis date.

Source: the pipeline document gives no freshness points for data older than two days.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Statements of an attempt.

    Attributes:
        dependency_rows: Row count of each Phase 4 table.
        features: SELECT of every active entity with features, or of the rows to copy.
        stats: Counts of these rows for the score.
        left_out: List of the entities without a row.
        profile: Statistics of the features; None for a pipeline without a judged feature.
        nights: Statistics of the nights before.
    """

    dependency_rows: Statement
    features: Statement
    stats: Statement
    left_out: Statement
    profile: Statement | None
    nights: Statement


def plan_build(request: BuildRequest, pipeline: Pipeline, *, built_at: datetime, stored: bool = True) -> BuildPlan:
    """Plan the statements of an attempt.

    Args:
        request: The attempt and the options.
        pipeline: Pipeline of the statements.
        built_at: The `processed_at` of the rows. UTC.
        stored: Whether the rows are stored before counting; False for a dry run, which counts selected rows.

    Raises:
        Refused: The request copies yesterday's rows, and the pipeline has no statement for copying.
    """
    copies = request.mode is BuildMode.YESTERDAY
    features = _plan_copy(request, pipeline, built_at) if copies else _plan_features(request, pipeline, built_at)
    return BuildPlan(
        dependency_rows=plan_probe(request.key.analysis_date, pipeline, as_of=request.as_of),
        features=features,
        stats=_plan_count("build_stats", request.key, pipeline, None if stored else features),
        left_out=_plan_count("left_out", request.key, pipeline, None if stored else features),
        profile=plan_profile(request.key, pipeline, None if stored else features),
        nights=plan_nights(request.key.analysis_date, pipeline),
    )


def _plan_count(name: str, key: BuildKey, pipeline: Pipeline, rows: Statement | None) -> Statement:
    """Plan a statement about the rows of an attempt: stored rows of `generations`, or the rows of the SELECT *rows*."""
    if rows is None:
        values = {"analysis_date": key.analysis_date, "build_id": key.build_id}
        return Statement(name=name, sql=pipeline.text(name), parameters=values)
    sql = pipeline.text(name, rows_of=rows.name, unset=frozenset({"as_of"} - rows.parameters.keys()))
    return Statement(name=name, sql=sql, parameters=rows.parameters)


def plan_usual(pipeline: Pipeline) -> tuple[Statement, ...]:
    """Plan the statements of an ordinary build for a placeholder date; every such build has the same texts."""
    key = BuildKey(analysis_date=date(1900, 1, 31), generation=1, attempt=1)
    at = datetime(1900, 1, 31, tzinfo=UTC)
    request = BuildRequest(
        key=key,
        mode=BuildMode.NORMAL,
        trigger="",
        phase3_lookback_days=1,
        as_of=None,
        started_at=at,
        claimant="",
    )
    plan = plan_build(request, pipeline, built_at=at)
    storing = plan_storing(plan.features, pipeline)
    counts = (plan.stats, plan.left_out, *filter(None, (plan.profile,)), plan.nights)
    return (plan_claim(key, at, "", pipeline), plan.dependency_rows, storing, *counts)


def plan_storing(select: Statement, pipeline: Pipeline) -> Statement:
    """Plan the statement that stores the rows of *select* in `generations`, unless the build has rows there."""
    columns = ", ".join(column.name for column in pipeline.generation_columns)
    table = pipeline.tables.generations
    sql = (
        f"INSERT INTO {table} ({columns})\nSELECT {columns}\nFROM (\n{select.sql}\n)\nWHERE NOT EXISTS (\n"  # noqa: S608 -- from the catalogue
        f"  SELECT 1 FROM {table} AS stored\n"
        "  WHERE stored.analysis_date = @analysis_date AND stored.build_id = @build_id\n)"
    )
    return Statement(name=select.name, sql=sql, parameters=select.parameters)


def plan_claim(key: BuildKey, at: datetime, claimant: str, pipeline: Pipeline) -> Statement:
    """Plan the claim of an analysis date for an attempt; *at* is UTC."""
    return Statement(
        name="claim",
        sql=pipeline.text("claim"),
        parameters={**_token(key), "claimant": claimant, "claimed_at": at},
    )


def plan_publication(publication: Publication, pipeline: Pipeline) -> Statement:
    """Plan the statement that changes the pointer of the ledger to the rows of an attempt."""
    request = publication.request
    return Statement(
        name="publish",
        sql=pipeline.text("publish"),
        parameters={
            **_token(request.key),
            "claimant": request.claimant,
            "build_id": request.key.build_id,
            "committed_at": publication.committed_at,
            "row_count": publication.report.row_count,
        },
    )


def plan_ledger(first: date, last: date, pipeline: Pipeline) -> Statement:
    """Plan the statement that reads the published generations from *first* to *last*, both included."""
    values = {"first_date": first, "last_date": last}
    return Statement(name="ledger", sql=pipeline.text("ledger"), parameters=values)


def plan_claims(analysis_date: date, pipeline: Pipeline) -> Statement:
    """Plan the statement that reads the claims of an analysis date."""
    return Statement(name="claims", sql=pipeline.text("claims"), parameters={"analysis_date": analysis_date})


def _token(key: BuildKey) -> dict[str, Any]:
    return {"analysis_date": key.analysis_date, "generation": key.generation, "attempt": key.attempt}


def plan_probe(analysis_date: date, pipeline: Pipeline, *, as_of: datetime | None = None) -> Statement:
    """Plan the probe of an analysis date; *as_of* (UTC) hides rows processed later."""
    return plan_of("dependency_rows", {"analysis_date": analysis_date, "as_of": as_of}, pipeline)


def plan_of(name: str, values: Mapping[str, Any], pipeline: Pipeline) -> Statement:
    """Plan a statement without the parameters whose value is None."""
    given = {parameter: value for parameter, value in values.items() if value is not None}
    return Statement(name=name, sql=pipeline.text(name, unset=frozenset(values.keys() - given)), parameters=given)


def _plan_features(request: BuildRequest, pipeline: Pipeline, built_at: datetime) -> Statement:
    analysis_date = request.key.analysis_date
    return plan_of(
        "features",
        {
            "analysis_date": analysis_date,
            "lookback_start": analysis_date - timedelta(days=request.phase3_lookback_days),
            "previous_date": analysis_date - timedelta(days=1),
            "as_of": request.as_of,
            **{f"use_{block.name}": request.reads(block.processor) for block in pipeline.blocks},
            "build_generation": request.key.generation,
            "build_id": request.key.build_id,
            "built_at": built_at,
        },
        pipeline,
    )


def _plan_copy(request: BuildRequest, pipeline: Pipeline, built_at: datetime) -> Statement:
    """Plan the copy of published rows of an earlier analysis date."""
    analysis_date = request.key.analysis_date
    return Statement(
        name="yesterday",
        sql=pipeline.text("yesterday"),
        parameters={
            "analysis_date": analysis_date,
            "earliest_date": analysis_date - timedelta(days=COPY_AGE_DAYS_MAX),
            "previous_date": analysis_date - timedelta(days=1),
            "build_generation": request.key.generation,
            "build_id": request.key.build_id,
            "built_at": built_at,
        },
    )


def find_drift(table: str, wanted_columns: Mapping[str, str], actual: Mapping[str, str]) -> tuple[str, ...]:
    """Return the differences between an upstream table and the catalogue.

    Args:
        table: Name of the table, `dataset.table`.
        wanted_columns: Columns read by a build, in the same form as *actual*.
        actual: Columns of the table as {name: BigQuery type}; empty for a missing table.

    Returns:
        A sentence fragment for each fault, with the table; empty for a usable table.
    """
    if not actual:
        return (f"table {table} does not exist",)
    faults = []
    for column, wanted in wanted_columns.items():
        if column not in actual:
            faults.append(f"{table} has no column {column} ({wanted})")
        elif actual[column] not in ACCEPTED_TYPES.get(wanted, {wanted}):
            faults.append(f"{table}.{column} is {actual[column]}, not {wanted}")
    return tuple(faults)


def read_dependency_rows(
    rows: Sequence[Mapping[str, Any]], pipeline: Pipeline, *, ignored: frozenset[str] = frozenset()
) -> dict[str, int]:
    """Return the row count of each processor from the answer, in the pipeline's order of processors.

    Args:
        rows: Answer of the statement.
        pipeline: Pipeline of the processors.
        ignored: Processors whose table counts as empty regardless of the rows.
    """
    counted = {str(row["processor"]): int(row["row_count"]) for row in rows if row["processor"] not in ignored}
    return {processor: counted.get(processor, 0) for processor in pipeline.processors}


def read_stats(
    analysis_date: date,
    dependency_rows: Mapping[str, int],
    counts: Mapping[str, Any],
    pipeline: Pipeline,
    profile: Profile | None = None,
) -> BuildStats:
    """Return the counts for the score from the answer to the counting statement, with the statistics beside."""
    return BuildStats(
        analysis_date=analysis_date,
        row_count=int(counts["row_count"]),
        dependency_rows=dependency_rows,
        blocks={
            block.name: BlockCounts(
                players=int(counts[f"{block.name}_{pipeline.entity.plural}"]),
                cells_each=len(pipeline.features_of(block.name)),
                phase4_cells=int(counts[f"{block.name}_phase4_cells"]),
                phase3_cells=int(counts[f"{block.name}_phase3_cells"]),
            )
            for block in pipeline.blocks
        },
        required_nulls=int(counts["required_nulls"]),
        newest_source_date=counts["newest_source_date"],
        left_out_count=int(counts["left_out_count"]),
        profile=profile or Profile(),
    )


def read_left_out(rows: Sequence[Mapping[str, Any]], pipeline: Pipeline) -> tuple[LeftOut, ...]:
    """Read the answer to the statement `left_out`."""
    return tuple(
        LeftOut(
            key=row[pipeline.entity.key],
            label=str(row[pipeline.entity.label]),
            identity={name: value for name, value in row.items() if name != "reason"},
            reason=str(row["reason"]),
        )
        for row in rows
    )
