"""Lineage of each cell of a published row: source and reason. Pure functions without I/O.

The arrays of the published row name the features from Phase 3 and the missing features. The current upstream rows are
the evidence. If the evidence no longer supports a published value, the lineage names the change and the value of a new
build.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from statemachine.model import BuildMode
from worker.features.model import CellSource, Statement
from worker.features.pipeline import Block, Feature, Pipeline
from worker.features.plan import COPY_AGE_DAYS_MAX, games_looked_at, plan_of
from worker.features.sql import NOTHING, Unusable

Row = Mapping[str, Any]

NO_GAME = "no game tonight: the block does not apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFacts:
    """Facts of a published build.

    Attributes:
        build_id: Name of the build.
        generation: Generation of the build.
        state: `done` or `degraded`.
        mode: Build mode.
        trigger: Trigger of the generation.
        phase3_lookback_days: Greatest age of a Phase 3 row, in days.
        as_of: The build saw only rows processed up to this instant; None without a limit. UTC.
        built_at: The `processed_at` of the published rows. UTC.
        ignored: Processors with a retracted run: the build did not read the Phase 4 tables of these processors.
    """

    build_id: str
    generation: int
    state: str
    mode: BuildMode
    trigger: str
    phase3_lookback_days: int
    as_of: datetime | None
    built_at: datetime
    ignored: frozenset[str] = frozenset()

    def reads(self, block: Block) -> bool:
        """Return whether the build could read the Phase 4 table of a block."""
        return self.mode is not BuildMode.FORCED_FALLBACK and block.processor not in self.ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureLineage:
    """Lineage of a cell.

    Attributes:
        name: Column of the feature.
        value: Published value.
        unit: Unit or meaning.
        block: Block of the feature.
        source: `phase4`, `phase3`, `yesterday` or `missing`; None if the block does not apply.
        source_table: `dataset.table` of the source row; None without a source row.
        source_date: Analysis date (Phase 4, yesterday) or game date (Phase 3) of the source row.
        source_processed_at: Instant at which the source row was processed; None if the source row is gone. UTC.
        why: Reason for this source.
        changed: Change upstream since the build; None if the evidence supports the value.
    """

    name: str
    value: float | None
    unit: str
    block: str
    source: CellSource | None
    source_table: str | None
    source_date: date | None
    source_processed_at: datetime | None
    why: str
    changed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """Upstream row with a candidate value for a cell."""

    source: CellSource
    table: str
    day: date
    processed_at: datetime | None
    value: float | None


def plan_sources(
    build: BuildFacts, night: date, player_id: int, teams: Row, pipeline: Pipeline, without: Unusable = NOTHING
) -> Statement:
    """Return the statement that reads the upstream rows of a published row.

    Args:
        build: Facts of the build.
        night: The analysis date.
        player_id: Key of the row.
        teams: Columns with the player's team and opponent.
        pipeline: The pipeline.
        without: Upstream tables and columns that count as empty.
    """
    entity_key = pipeline.entity.key
    others = [column for column in pipeline.lookups if column.name != entity_key]
    return plan_of(
        "lineage_sources",
        {
            "analysis_date": night,
            entity_key: player_id,
            **{column.name: teams[column.name] for column in others},
            "lookback_start": night - timedelta(days=build.phase3_lookback_days),
            "previous_date": night - timedelta(days=1),
            "as_of": build.as_of,
            "built_at": build.built_at,
        },
        pipeline,
        without,
    )


def plan_listed(build: BuildFacts, night: date, player_id: int, pipeline: Pipeline, without: Unusable) -> Statement:
    """Return the statement that reads the current values of roster and games for a published row.

    Args:
        build: Facts of the build.
        night: The analysis date.
        player_id: Key of the row.
        pipeline: The pipeline.
        without: Upstream tables that count as empty.
    """
    values = {
        "analysis_date": night,
        pipeline.entity.key: player_id,
        **games_looked_at(night, pipeline),
        **{f"use_{block.name}": build.reads(block) for block in pipeline.team_witnesses},
    }
    return plan_of("lineage_player", values, pipeline, without)


class Evidence:
    """Upstream rows of a published row: the rows visible to the build, and the rows processed since the build."""

    def __init__(self, build: BuildFacts, night: date, then: Row, since: Row, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._build = build
        self._night = night
        self._moments = (then, since)

    def explain(self, feature: Feature, published: Row) -> FeatureLineage:
        """Return the lineage of a cell of the published row."""
        value = published[feature.name]
        source = _published_source(feature, published)
        given = self._given(feature, source, value)
        return FeatureLineage(
            name=feature.name,
            value=value,
            unit=feature.unit,
            block=feature.block,
            source=source,
            source_table=given.table if given is not None else None,
            source_date=given.day if given is not None else None,
            source_processed_at=given.processed_at if given is not None else None,
            why=self._why(feature, source),
            changed=None if source is None else self._changed(feature, source, value, given),
        )

    def why_missing(self, feature: Feature) -> str:
        """Return the reason why neither phase has a value of the feature."""
        return self._why(feature, CellSource.MISSING)

    def value_now(self, feature: Feature) -> float | None:
        """Return the value that a new build by the same rule would take."""
        current = self._current(feature)
        return current.value if current is not None else None

    def _why(self, feature: Feature, source: CellSource | None) -> str:
        days = self._build.phase3_lookback_days
        if source is None:
            return NO_GAME
        if source is CellSource.PHASE4:
            return "Phase 4 has a value for the date"
        no_phase4 = self._no_phase4(feature)
        if source is CellSource.PHASE3:
            return f"{no_phase4}, latest Phase 3 row within {days} days"
        row = self._phase3(feature, since=False)
        if row is None:
            return f"{no_phase4}, no Phase 3 row within {days} days"
        return f"{no_phase4}, value of the latest Phase 3 row ({row.day}) was NULL, NaN or infinite"

    def _no_phase4(self, feature: Feature) -> str:
        if self._build.mode is BuildMode.FORCED_FALLBACK:
            return "Phase 4 was ignored (forced fallback)"
        if not self._build.reads(self._pipeline.block_of(feature)):
            return "Phase 4 was ignored (its run was taken back)"
        row = self._phase4(feature, since=False)
        if row is None:
            return "Phase 4 had no row"
        return "Phase 4 value was NULL, NaN or infinite" if row.value is None else "Phase 4 had no value at the build"

    def _given(self, feature: Feature, source: CellSource | None, value: float | None) -> _Candidate | None:
        """Find the source row: a row with the published value, else the row visible to the build."""
        if source not in {CellSource.PHASE4, CellSource.PHASE3}:
            return None
        look = self._phase4 if source is CellSource.PHASE4 else self._phase3
        found = [row for since in (False, True) if (row := look(feature, since=since)) is not None]
        return next((row for row in found if row.value == value), found[0] if found else None)

    def _changed(
        self, feature: Feature, source: CellSource, value: float | None, given: _Candidate | None
    ) -> str | None:
        current = self._current(feature)
        now_source = current.source if current is not None else CellSource.MISSING
        now_value = current.value if current is not None else None
        if (now_source, now_value) != (source, value):
            if current is None:
                return "the source row is gone; a build now would leave it NULL"
            return (
                f"a build now would take {current.value!r} from {current.table} "
                f"({current.day}, processed {_instant(current.processed_at)})"
            )
        if given is not None and given.processed_at is not None and given.processed_at > self._build.built_at:
            return f"the source row was processed after the build, at {_instant(given.processed_at)}; same value"
        return None

    def _current(self, feature: Feature) -> _Candidate | None:
        """Apply the rule of the cell to the current rows; return None without a value."""
        if self._build.reads(self._pipeline.block_of(feature)):
            row = self._phase4(feature, since=True) or self._phase4(feature, since=False)
            if row is not None and row.value is not None:
                return row
        rows = [row for since in (True, False) if (row := self._phase3(feature, since=since)) is not None]
        latest = max(rows, key=lambda row: row.day, default=None)
        return latest if latest is not None and latest.value is not None else None

    def _phase4(self, feature: Feature, *, since: bool) -> _Candidate | None:
        block = self._pipeline.block_of(feature)
        row = self._moments[since]
        if not row[f"{block.name}_found"]:
            return None
        return _Candidate(
            source=CellSource.PHASE4,
            table=block.table,
            day=self._night,
            processed_at=row[f"{block.name}_processed_at"],
            value=_float(row[f"phase4_{feature.name}"]),
        )

    def _phase3(self, feature: Feature, *, since: bool) -> _Candidate | None:
        name = self._pipeline.upstream_tables[feature.phase3_table].short
        row = self._moments[since]
        if not row[f"{name}_found"]:
            return None
        return _Candidate(
            source=CellSource.PHASE3,
            table=feature.phase3_table,
            day=row[f"{name}_date"],
            processed_at=row[f"{name}_processed_at"],
            value=_float(row[f"phase3_{feature.name}"]),
        )


def explain_copy(feature: Feature, published: Row, copied: Row | None, table: str) -> FeatureLineage:
    """Return the lineage of a cell of a copied row, by the current values of the copied row in *table*."""
    value = published[feature.name]
    source = _published_source(feature, published)
    gave = copied if source is CellSource.YESTERDAY else None
    night = f"of {copied['analysis_date']}" if copied is not None else f"of up to {COPY_AGE_DAYS_MAX} days before"
    if source is None:
        why = "no game in the copied night: the block does not apply"
    else:
        why = f"the last resort: {'missing in' if source is CellSource.MISSING else 'copied from'} the row {night}"
    return FeatureLineage(
        name=feature.name,
        value=value,
        unit=feature.unit,
        block=feature.block,
        source=source,
        source_table=table if gave is not None else None,
        source_date=gave["analysis_date"] if gave is not None else None,
        source_processed_at=gave["processed_at"] if gave is not None else None,
        why=why,
        changed=_changed_copy(feature, published, copied),
    )


def _changed_copy(feature: Feature, published: Row, copied: Row | None) -> str | None:
    if copied is None:
        return "the copied row is gone"
    if copied[feature.name] != published[feature.name]:
        return f"the row of {copied['analysis_date']} has {copied[feature.name]!r} now"
    if copied["processed_at"] > published["processed_at"]:
        built = _instant(copied["processed_at"])
        return f"the night of {copied['analysis_date']} was built again after the copy, at {built}; same value"
    return None


def explain_row(evidence: Evidence, features: Sequence[Feature], published: Row) -> tuple[FeatureLineage, ...]:
    """Return the lineage of each cell of a row built from Phase 4 and Phase 3."""
    return tuple(evidence.explain(feature, published) for feature in features)


def find_changes(published: Row, listed: Row | None) -> tuple[str, ...]:
    """Return the differences between the row and the current roster and schedule.

    Args:
        published: The published row.
        listed: Current roster and schedule of the player; None if the roster does not list the player.
    """
    if listed is None:
        return ("the player is no longer on the roster of the date",)
    names = {"team_abbreviation": "team", "opponent_abbreviation": "opponent"}
    return tuple(
        f"{text} is now {listed[column] or 'none'}, was {published[column] or 'none'} at the build"
        for column, text in names.items()
        if listed[column] != published[column]
    )


def _published_source(feature: Feature, published: Row) -> CellSource | None:
    if published[f"{feature.block}_source"] is None:
        return None
    # A release before this rule published NaN, which is read as NULL, and listed no such cell as missing.
    if published[feature.name] is None or feature.name in published["missing_features"]:
        return CellSource.MISSING
    if published["data_source"] == CellSource.YESTERDAY:
        return CellSource.YESTERDAY
    return CellSource.PHASE3 if feature.name in published["phase3_features"] else CellSource.PHASE4


def _float(value: object) -> float | None:
    """Return a cell as float, as a build does for whole numbers and decimals."""
    return None if value is None else float(str(value))


def _instant(at: datetime | None) -> str:
    return "at an unknown time" if at is None else f"{at:%Y-%m-%d %H:%M:%SZ}"
