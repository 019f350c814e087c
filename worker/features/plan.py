"""Build plan: typed statements for a request and a pipeline; and readers of the answers. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any

from statemachine.model import BuildMode
from worker.features.model import (
    BlockCounts,
    BuildKey,
    BuildRequest,
    BuildStats,
    GameCounts,
    LeftOut,
    Publication,
    Statement,
    TableFacts,
)
from worker.features.pipeline import GAME_CHECKS, PHASE4_DATE, Pipeline
from worker.features.profile_reading import plan_nights, plan_profile
from worker.features.sql import NOTHING, Unusable, source

COPY_AGE_DAYS_MAX = 2
"""Maximal age in days of the published rows that may be copied for an analysis date.

Source: the pipeline document gives no freshness points for data older than two days.
"""

OLD_AFTER_DAYS = 2
"""A Phase 4 row of an analysis date was not processed before the start (UTC) of the day so many days earlier."""

AHEAD_MAX = timedelta(days=1)
"""A row processed later than so long after the start of the build has a wrong clock."""


_NO_GAMES: Mapping[str, date | datetime] = MappingProxyType({})

SCHEDULE_DAYS = 366
"""Days before and after an analysis date in which a newer row of a game is looked for.

A game belongs to one season, so each row of a game lies within a year of every other row. The limit lets BigQuery leave
out older partitions, and satisfies a table that demands a condition on the date.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Statements of an attempt.

    Attributes:
        dependency_rows: Row count and facts of each Phase 4 table.
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
        stats=_plan_stats(request, pipeline, selected, without),
        left_out=_plan_count("left_out", request.key, pipeline, selected, without),
        profile=plan_profile(request.key, pipeline, selected, without),
        nights=plan_nights(request.key.analysis_date, pipeline),
    )


def _plan_stats(request: BuildRequest, pipeline: Pipeline, rows: Statement | None, without: Unusable) -> Statement:
    """Plan the counts of an attempt; a copy of yesterday's rows reads no upstream table, so no team name is checked."""
    read: dict[str, date | datetime] = {}
    if request.mode is not BuildMode.YESTERDAY:
        read |= games_looked_at(request.key.analysis_date, pipeline)
    if read and request.as_of is not None:
        read["as_of"] = request.as_of
    return _plan_count("build_stats", request.key, pipeline, rows, without, read)


def games_looked_at(analysis_date: date, pipeline: Pipeline) -> Mapping[str, date]:
    """Return the first and the last date of the schedule's rows that a build looks at; empty without a schedule."""
    if pipeline.schedule is None:
        return {}
    span = timedelta(days=SCHEDULE_DAYS)
    return {"first_game_date": analysis_date - span, "last_game_date": analysis_date + span}


def _plan_count(
    name: str,
    key: BuildKey,
    pipeline: Pipeline,
    rows: Statement | None,
    without: Unusable,
    read: Mapping[str, date | datetime] = _NO_GAMES,
) -> Statement:
    """Plan a statement about the rows of an attempt: stored rows of `generations`, or the rows of the SELECT *rows*."""
    if rows is None:
        values = {"analysis_date": key.analysis_date, "build_id": key.build_id, **read}
        unset = frozenset({"as_of", "first_game_date"} - values.keys())
        return Statement(name=name, sql=pipeline.text(name, without, unset=unset), parameters=values)
    unset = frozenset({"as_of", "first_game_date"} - rows.parameters.keys())
    sql = pipeline.text(name, without, rows_of=rows.name, unset=unset)
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
    ledger = (plan_claim(key, at, "", pipeline), plan_claims(key.analysis_date, pipeline), _plan_pointer({}, pipeline))
    return (*ledger, plan.dependency_rows, storing, *counts)


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
    values = {
        **_token(request.key),
        "claimant": request.claimant,
        "build_id": request.key.build_id,
        "committed_at": publication.committed_at,
        "row_count": publication.report.row_count,
    }
    return _plan_pointer(values, pipeline)


def _plan_pointer(values: Mapping[str, Any], pipeline: Pipeline) -> Statement:
    return Statement(name="publish", sql=pipeline.text("publish"), parameters=values)


def plan_ledger(first: date, last: date, pipeline: Pipeline) -> Statement:
    """Plan the statement that reads the published generations from *first* to *last*, both included."""
    values = {"first_date": first, "last_date": last}
    return Statement(name="ledger", sql=pipeline.text("ledger"), parameters=values)


def plan_game_days(first: date, last: date, pipeline: Pipeline) -> Statement:
    """Plan the statement that reads the days with a game from *first* to *last*, both included."""
    return plan_of("game_days", {"first_date": first, "last_date": last}, pipeline)


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
    counted = ", ".join(f"COUNT({name})" for name in sorted(columns))
    sql = f"SELECT {counted} FROM {source(table, pipeline.readable[table])}"  # noqa: S608 -- from the catalogue
    if table in pipeline.references:
        return Statement(name="reading", sql=sql)
    sql += f" WHERE {pipeline.upstream_tables[table].date or PHASE4_DATE} BETWEEN @first_date AND @last_date"
    return Statement(name="reading", sql=sql, parameters={"first_date": days[0], "last_date": days[1]})


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
            **games_looked_at(analysis_date, pipeline),
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


def read_not_finite(rows: Sequence[Mapping[str, Any]], read: Collection[str], pipeline: Pipeline) -> dict[str, int]:
    """Return the number of NaN and infinite Phase 4 values by feature, from the answer to a build's statement.

    A feature without such a value is absent.

    Args:
        rows: Answer of the statement; the answer to a probe has no such numbers.
        read: Processors whose tables the build reads.
        pipeline: Pipeline of the processors.
    """
    found: dict[str, int] = {}
    for row in rows:
        block = next(block for block in pipeline.blocks if block.processor == row["processor"])
        floats = (feature.name for feature in pipeline.features_of(block.name) if feature.phase4.not_finite)
        if block.processor in read and "not_finite" in row:
            found |= {name: int(count) for name, count in zip(floats, row["not_finite"], strict=True) if count}
    return found


def read_games(counts: Mapping[str, Any], pipeline: Pipeline) -> GameCounts | None:
    """Return the facts about tonight's games from the answer to `build_stats`; None for a pipeline without schedule."""
    if pipeline.schedule is None:
        return None
    many = pipeline.entity.plural
    kinds = GAME_CHECKS[1:] if pipeline.witnesses else ()
    return GameCounts(
        from_phase4=int(counts["opponents_from_phase4"]),
        checked=int(counts.get("games_checked", 0)),
        differing={kind: int(counts[f"games_{kind.replace(' ', '_')}"]) for kind in kinds},
        witnesses={
            block.name: (int(counts[f"{block.name}_games_differing"]), int(counts[f"{block.name}_games"]))
            for block in pipeline.witnesses
        },
        unknown={
            source: (tuple(map(str, names)), int(counts[f"unknown_in_{source}_{many}"]))
            for source in ("schedule", "roster")
            if (names := counts.get(f"unknown_in_{source}"))
        },
    )


def read_stats(
    analysis_date: date,
    dependency_rows: Mapping[str, int],
    counts: Mapping[str, Any],
    pipeline: Pipeline,
    not_finite: Mapping[str, int],
) -> BuildStats:
    """Return the counts for the score from the answer to the counting statement.

    Args:
        analysis_date: The analysis date of the build.
        dependency_rows: Row count of each processor's table.
        counts: Answer of the statement.
        pipeline: Pipeline of the build.
        not_finite: Number of NaN and infinite Phase 4 values by feature.
    """
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
        not_finite=not_finite,
        games=read_games(counts, pipeline),
    )


def counts_for_score(stats: BuildStats, pipeline: Pipeline) -> BuildStats:
    """Return the counts of a build without the optional blocks whose Phase 4 table has no row.

    The score judges the rows as if these blocks did not exist: their cells and their table count neither as present
    nor as missing. ADR 0036.
    """
    absent = pipeline.absent_optional(stats.dependency_rows)
    names = {block.name for block in pipeline.blocks if block.processor in absent}
    return replace(
        stats,
        dependency_rows={name: rows for name, rows in stats.dependency_rows.items() if name not in absent},
        blocks={name: counts for name, counts in stats.blocks.items() if name not in names},
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
