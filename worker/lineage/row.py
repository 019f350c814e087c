"""Lineage of a published row: build, source of each feature, and changes upstream since the build.

At most four statements read the warehouse, for any number of features. Upstream tables show the current rows only; a
table or column that is unusable now counts as empty, as for a build.
Reading changes no state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from statemachine.model import BuildMode
from worker.builds.generations import find_generation
from worker.builds.upstream import find_usable, phase4_tables
from worker.errors import Refused
from worker.features.generations import PUBLISHED_NOW, PublishedGeneration, Wanted, plan_rows
from worker.features.model import Statement
from worker.features.plan import COPY_AGE_DAYS_MAX
from worker.lineage.cells import (
    BuildFacts,
    Evidence,
    FeatureLineage,
    explain_copy,
    explain_row,
    find_changes,
    plan_listed,
    plan_sources,
)
from worker.ports import Warehouse

Row = Mapping[str, Any]
# A message names so many players of the same name.
NAMED_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLineage:
    """Sources of the row of a player on an analysis date.

    Attributes:
        analysis_date: The analysis date.
        player_id: The player.
        player_name: Name of the player.
        team_abbreviation: Published team of the player; None without a team.
        opponent_abbreviation: Published opponent; None if the team does not play.
        build: Facts of the published build.
        published: Whether the player has a row.
        left_out_reason: Reason for a missing row; None for a published row.
        data_source: Data source of the row; None without a row.
        quality_score: Quality score of the row; None without a row.
        features: Lineage of every feature, in catalogue order; empty without a row.
        changes: Differences between the row and the current roster and schedule.
    """

    analysis_date: date
    player_id: int
    player_name: str
    team_abbreviation: str | None
    opponent_abbreviation: str | None
    build: BuildFacts
    published: bool
    left_out_reason: str | None
    data_source: str | None
    quality_score: float | None
    features: Sequence[FeatureLineage]
    changes: Sequence[str]


def trace_row(warehouse: Warehouse, night: date, player_id: int, wanted: Wanted = PUBLISHED_NOW) -> RowLineage:
    """Return the lineage of a player's row in a published build, by the current rows of the upstream tables.

    Raises:
        Refused: The analysis date has no publication, the wanted generation is missing, or the roster does not list the
            player as active.
        Unavailable: The warehouse does not answer.
    """
    build = _read_build(warehouse, night, find_generation(warehouse, night, wanted))
    pipeline = warehouse.pipeline
    about = {pipeline.entity.key: player_id}
    rows = _select(warehouse, "lineage_row", analysis_date=night, build_id=build.build_id, **about)
    without = find_usable(warehouse, pipeline.readable).without
    listed = _first(warehouse.query(plan_listed(build, night, player_id, pipeline, without)))
    if not rows:
        return _left_out(warehouse, build, night, player_id, listed)
    [row] = rows
    build = replace(build, built_at=row["processed_at"])
    return RowLineage(
        analysis_date=night,
        player_id=player_id,
        player_name=row["player_name"],
        team_abbreviation=row["team_abbreviation"],
        opponent_abbreviation=row["opponent_abbreviation"],
        build=build,
        published=True,
        left_out_reason=None,
        data_source=row["data_source"],
        quality_score=row["quality_score"],
        features=_explain(warehouse, build, night, row),
        changes=() if build.mode is BuildMode.YESTERDAY else find_changes(row, listed),
    )


def find_player(warehouse: Warehouse, night: date, name: str, wanted: Wanted = PUBLISHED_NOW) -> int:
    """Return the number of the published player whose name is *name*, or the only player whose name contains *name*.

    Raises:
        Refused: No player or several players of the night have such a name; names the players.
        Unavailable: The warehouse could not serve.
    """
    entity = warehouse.pipeline.entity
    chosen = find_generation(warehouse, night, wanted)
    rows = warehouse.query(plan_rows(night, chosen.build_id, warehouse.pipeline))
    named = {row[entity.key]: str(row[entity.label]) for row in rows}
    alike = {key: label for key, label in named.items() if name.casefold() in label.casefold()}
    exact = [key for key, label in alike.items() if label.casefold() == name.casefold()]
    if len(exact or alike) == 1:
        return int(next(iter(exact or alike)))
    if not alike:
        raise Refused(
            f"{night}: no published player is named {name!r}; see the players: mlfs features {night} --out players.csv"
        )
    shown = ", ".join(f"{label} ({key})" for key, label in list(alike.items())[:NAMED_MAX])
    more = f" and {len(alike) - NAMED_MAX} more" if len(alike) > NAMED_MAX else ""
    raise Refused(f"{night}: {name!r} may be {shown}{more}; write the number of the player")


def _read_build(warehouse: Warehouse, night: date, chosen: PublishedGeneration) -> BuildFacts:
    row = _first(_select(warehouse, "lineage_build", analysis_date=night, build_id=chosen.build_id))
    if row is None:
        history = warehouse.pipeline.tables.history
        raise Refused(f"{night}: {history} has lost how the build {chosen.build_id} was made")
    return BuildFacts(
        build_id=row["build_id"],
        generation=row["generation"],
        state=row["state"],
        mode=BuildMode(row["mode"]),
        trigger=row["trigger"],
        phase3_lookback_days=row["phase3_lookback_days"],
        as_of=row["as_of"],
        ignored=frozenset(filter(None, (row["ignored_processors"] or "").split(","))),
        built_at=row["completed_at"],
    )


def _explain(warehouse: Warehouse, build: BuildFacts, night: date, row: Row) -> tuple[FeatureLineage, ...]:
    player_id = row["player_id"]
    if build.mode is BuildMode.YESTERDAY:
        copied = _copied_row(warehouse, night, player_id)
        published = warehouse.pipeline.tables.published
        return tuple(explain_copy(feature, row, copied, published) for feature in warehouse.pipeline.features)
    evidence = _evidence(warehouse, build, night, player_id, row)
    return explain_row(evidence, warehouse.pipeline.features, row)


def _evidence(warehouse: Warehouse, build: BuildFacts, night: date, player_id: int, teams: Row) -> Evidence:
    pipeline = warehouse.pipeline
    tables = {*phase4_tables(pipeline), *(table.name for table in pipeline.phase3_tables)}
    without = find_usable(warehouse, tables).without
    then, since = warehouse.query(plan_sources(build, night, player_id, teams, pipeline, without))
    return Evidence(build, night, then, since, warehouse.pipeline)


def _copied_row(warehouse: Warehouse, night: date, player_id: int) -> Row | None:
    asked = {
        warehouse.pipeline.entity.key: player_id,
        "earliest_date": night - timedelta(days=COPY_AGE_DAYS_MAX),
        "previous_date": night - timedelta(days=1),
    }
    return _first(_select(warehouse, "lineage_copied", **asked))


def _left_out(warehouse: Warehouse, build: BuildFacts, night: date, player_id: int, listed: Row | None) -> RowLineage:
    if listed is None:
        roster = warehouse.pipeline.entity.roster
        raise Refused(
            f"{player_id} has no row in {night}, and {roster} does not list him as active that night; "
            f"see who is published: mlfs features {night} --out players.csv"
        )
    return RowLineage(
        analysis_date=night,
        player_id=player_id,
        player_name=listed["player_name"],
        team_abbreviation=listed["team_abbreviation"],
        opponent_abbreviation=listed["opponent_abbreviation"],
        build=build,
        published=False,
        left_out_reason=_left_out_reason(warehouse, build, night, player_id, listed),
        data_source=None,
        quality_score=None,
        features=(),
        changes=(),
    )


def _left_out_reason(warehouse: Warehouse, build: BuildFacts, night: date, player_id: int, listed: Row) -> str:
    if build.mode is BuildMode.YESTERDAY:
        return "the last resort: the night that was copied has no row of his"
    evidence = _evidence(warehouse, build, night, player_id, listed)
    pipeline = warehouse.pipeline
    needed = next(feature for feature in pipeline.features if feature.name == pipeline.entity.must_have)
    now = evidence.value_now(needed)
    if now is not None:
        return (
            f"upstream has changed since the build: {needed.name} is {now!r} now, so a build would publish him; "
            f"to do so: mlfs replay {night} --reason TEXT"
        )
    return f"no {needed.name}: {evidence.why_missing(needed)}"


def _select(warehouse: Warehouse, name: str, **parameters: object) -> Sequence[Row]:
    return warehouse.query(Statement(name=name, sql=warehouse.pipeline.text(name), parameters=parameters))


def _first(rows: Sequence[Row]) -> Row | None:
    return rows[0] if rows else None
