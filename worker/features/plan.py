"""Build plan: typed statements for a request and a pipeline; and readers of the answers. Pure."""

from collections.abc import Collection, Mapping, Sequence
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
    TableFacts,
)
from worker.features.pipeline import PHASE4_DATE, Pipeline
from worker.features.sql import NOTHING, Unusable, source

COPY_AGE_DAYS_MAX = 2
"""Maximal age in days of the published rows that may be copied for an analysis date.

Source: the pipeline document gives no freshness points for data older than two days.
"""

OLD_AFTER_DAYS = 2
"""A Phase 4 row of an analysis date was not processed before the start (UTC) of the day so many days earlier."""

AHEAD_MAX = timedelta(days=1)
"""A row processed later than so long after the start of the build has a wrong clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Statements of an attempt.

    Attributes:
        dependency_rows: Row count and facts of each Phase 4 table.
        features: SELECT of every active entity with features, or of the rows to copy.
        stats: Counts of these rows for the score.
        left_out: List of the entities without a row.
    """

    dependency_rows: Statement
    features: Statement
    stats: Statement
    left_out: Statement


def plan_build(
    request: BuildRequest,
    pipeline: Pipeline,
    *,
    built_at: datetime,
    stored: bool = True,
    without: Unusable = NOTHING,
) -> BuildPlan:
    """Plan the statements of an attempt.

    Args:
        request: The attempt and the options.
        pipeline: Pipeline of the statements.
        built_at: The `processed_at` of the rows. UTC.
        stored: Whether the rows are stored before counting; False for a dry run, which counts selected rows.
        without: Upstream tables and columns that count as empty.

    Raises:
        Refused: The request copies yesterday's rows, and the pipeline has no statement for copying.
    """
    copies = request.mode is BuildMode.YESTERDAY
    if copies:
        features = _plan_copy(request, pipeline, built_at)
    else:
        features = _plan_features(request, pipeline, built_at, without)
    selected = None if stored else features
    return BuildPlan(
        dependency_rows=_plan_facts(request, pipeline, built_at, without),
        features=features,
        stats=_plan_count("build_stats", request.key, pipeline, selected, without),
        left_out=_plan_count("left_out", request.key, pipeline, selected, without),
    )


def _plan_count(name: str, key: BuildKey, pipeline: Pipeline, rows: Statement | None, without: Unusable) -> Statement:
    """Plan a statement about the rows of an attempt: stored rows of `generations`, or the rows of the SELECT *rows*."""
    if rows is None:
        values = {"analysis_date": key.analysis_date, "build_id": key.build_id}
        return Statement(name=name, sql=pipeline.text(name, without), parameters=values)
    sql = pipeline.text(name, without, rows_of=rows.name, unset=frozenset({"as_of"} - rows.parameters.keys()))
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
    return (plan_claim(key, at, "", pipeline), plan.dependency_rows, storing, plan.stats, plan.left_out)


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


def plan_probe(
    analysis_date: date, pipeline: Pipeline, *, as_of: datetime | None = None, without: Unusable = NOTHING
) -> Statement:
    """Plan the probe of an analysis date; *as_of* (UTC) hides rows processed later."""
    values = {"analysis_date": analysis_date, "as_of": as_of, "old_before": None, "ahead_after": None}
    return plan_of("dependency_rows", values, pipeline, without)


def _plan_facts(request: BuildRequest, pipeline: Pipeline, built_at: datetime, without: Unusable) -> Statement:
    """Plan the row count and the facts of each Phase 4 table."""
    first_day = request.key.analysis_date - timedelta(days=OLD_AFTER_DAYS)
    values = {
        "analysis_date": request.key.analysis_date,
        "as_of": request.as_of,
        "old_before": datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC),
        "ahead_after": built_at + AHEAD_MAX,
    }
    return plan_of("dependency_rows", values, pipeline, without)


def plan_reading(table: str, columns: Collection[str], days: tuple[date, date], pipeline: Pipeline) -> Statement:
    """Plan a count of the values of some columns: the answer shows that the warehouse can read the columns.

    Args:
        table: Upstream table.
        columns: Columns to read.
        days: First and last date of the rows, where the table has a known date column.
        pipeline: Pipeline of the table.
    """
    by_date = pipeline.upstream_tables[table].date or PHASE4_DATE
    counted = ", ".join(f"COUNT({name})" for name in sorted(columns))
    read = source(table, pipeline.upstream[table])
    return Statement(
        name="reading",
        sql=f"SELECT {counted} FROM {read} WHERE {by_date} BETWEEN @first_date AND @last_date",  # noqa: S608 -- from the catalogue
        parameters={"first_date": days[0], "last_date": days[1]},
    )


def plan_of(name: str, values: Mapping[str, Any], pipeline: Pipeline, without: Unusable = NOTHING) -> Statement:
    """Plan a statement without the parameters whose value is None."""
    given = {parameter: value for parameter, value in values.items() if value is not None}
    text = pipeline.text(name, without, unset=frozenset(values.keys() - given))
    return Statement(name=name, sql=text, parameters=given)


def _plan_features(request: BuildRequest, pipeline: Pipeline, built_at: datetime, without: Unusable) -> Statement:
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
        without,
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


def read_table_facts(rows: Sequence[Mapping[str, Any]], read: Collection[str]) -> dict[str, TableFacts]:
    """Return the facts of each Phase 4 table with rows, by processor, from the answer to a build's statement.

    Args:
        rows: Answer of the statement; the answer to a probe has no facts.
        read: Processors whose tables the build reads.
    """
    return {
        str(row["processor"]): TableFacts(
            rows=int(row["row_count"]),
            keys=int(row["key_count"]),
            doubled_keys=int(row["doubled_keys"]),
            undated_rows=int(row["undated_rows"]),
            old_rows=int(row["old_rows"]),
            ahead_rows=int(row["ahead_rows"]),
        )
        for row in rows
        if row["processor"] in read and row["row_count"] and "key_count" in row
    }


def read_stats(
    analysis_date: date,
    dependency_rows: Mapping[str, int],
    counts: Mapping[str, Any],
    pipeline: Pipeline,
) -> BuildStats:
    """Return the counts for the score from the answer to the counting statement."""
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
        left_empty={
            feature.name: int(counts[name])
            for feature in pipeline.features
            if (name := f"{feature.name}_left_empty") in counts
        },
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
