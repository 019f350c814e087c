"""Statements for the statistics of a build, and readers of the answers. Pure.

Model: `profile.sql` counts every judged feature of a build, `profile_nights.sql` reads the statistics of the nights
before; both run beside the counts for the score. The statistics of a published build are stored in `_feature_profile`,
one row per feature. A night without stored statistics is a night less to compare with, no fault.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise
from math import sqrt
from types import MappingProxyType
from typing import Any

from worker.features.model import BuildKey, Statement
from worker.features.pipeline import Feature, Pipeline
from worker.features.profile import (
    FeatureProfile,
    Profile,
    ProfiledNight,
    bin_counts,
    share_of_mode,
    spread_of,
    team_pairs,
)
from worker.features.sql import NOTHING, Unusable

NIGHT_BEFORE_DAYS = 10
"""Days before the analysis date in which the night before may lie; a longer pause has no pairs."""

DAYS_PER_NIGHT = 4
"""Days that are read for each compared night: a season has pauses, and some nights cannot be believed."""

TEAM_NIGHTS = 7
"""Nights before, among which the latest value of a team is looked for."""


def plan_profile(
    key: BuildKey, pipeline: Pipeline, rows: Statement | None = None, without: Unusable = NOTHING
) -> Statement | None:
    """Plan the statement about the features of an attempt; None for a pipeline without a judged feature.

    Args:
        key: The attempt.
        pipeline: Pipeline of the attempt.
        rows: The statement that selects the rows of a dry run; None for stored rows.
        without: Upstream tables and columns that count as empty in a dry run.
    """
    if not pipeline.judged_features:
        return None
    values = {
        "analysis_date": key.analysis_date,
        "build_id": key.build_id,
        "rows_start": key.analysis_date - timedelta(days=NIGHT_BEFORE_DAYS),
        "previous_date": key.analysis_date - timedelta(days=1),
        **catalogue_arrays(pipeline),
    }
    if rows is None:
        return Statement(name="profile", sql=pipeline.text("profile"), parameters=values)
    sql = pipeline.text("profile", without, rows_of=rows.name, unset=frozenset({"as_of"} - rows.parameters.keys()))
    return Statement(name="profile", sql=sql, parameters={**values, **rows.parameters})


def plan_nights(analysis_date: date, pipeline: Pipeline) -> Statement:
    """Plan the statement that reads the nights before an analysis date."""
    values = {
        "nights": pipeline.findings.nights,
        "first_date": analysis_date - timedelta(days=DAYS_PER_NIGHT * pipeline.findings.nights),
        "last_date": analysis_date - timedelta(days=1),
    }
    return Statement(name="profile_nights", sql=pipeline.text("profile_nights"), parameters=values)


def plan_own(analysis_date: date, build_id: str, pipeline: Pipeline) -> Statement:
    """Plan the statement that reads the stored statistics of a build."""
    values = {"analysis_date": analysis_date, "build_id": build_id}
    return Statement(name="profile_of_build", sql=pipeline.text("profile_of_build"), parameters=values)


def read_own(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, FeatureProfile]:
    """Read the answer to `profile_of_build.sql`; return the statistics by feature."""
    return MappingProxyType({row["feature"]: _stored(row) for row in rows})


def catalogue_arrays(pipeline: Pipeline) -> dict[str, Sequence[float]]:
    """Return the parameters of `profile.sql` that describe the judged features, by number from 1."""
    judged, blocks = pipeline.judged_features, [block.name for block in pipeline.blocks]
    teams = ["", *pipeline.team_columns]
    ranges = [feature.range or (0.0, 0.0) for feature in judged]
    return {
        "judged": list(range(1, len(judged) + 1)),
        "low": [float(low) for low, _high in ranges],
        "high": [float(high) for _low, high in ranges],
        "step": [feature.step for feature in judged],
        "block": [blocks.index(feature.block) + 1 for feature in judged],
        "team": [teams.index(pipeline.team_of(feature)) + 1 for feature in judged],
        "edges": [edge for feature in judged for edge in _padded(feature.bins, pipeline.edges_max)],
    }


_NO_EDGE = 1e16
"""Edge above every limit of a range, so no value lies behind the edge."""


def _padded(edges: Sequence[float], length: int) -> list[float]:
    return [*map(float, edges), *[_NO_EDGE] * (length - len(edges))]


def read_profile(
    analysis_date: date,
    rows: Iterable[Mapping[str, Any]],
    nights: Sequence[ProfiledNight],
    pipeline: Pipeline,
) -> Profile:
    """Read the answers about a build.

    Args:
        analysis_date: The analysis date of the build.
        rows: Answer to `profile.sql`.
        nights: The nights before, newest first.
        pipeline: Pipeline of the build.
    """
    by_place: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_place.setdefault(int(row["place"]), []).append(row)
    features = {}
    for place, feature in enumerate(pipeline.judged_features, start=1):
        found = by_place.get(place, [])
        if pipeline.team_of(feature):
            own = [row for row in found if row["team"] is not None and row["highest"] is not None]
            if found:
                features[feature.name] = _of_teams(feature, found[0], own, nights, pipeline)
        elif found:
            features[feature.name] = _of_entities(feature, found[0], analysis_date)
    return Profile(features=MappingProxyType(features), nights=nights)


def _of_entities(feature: Feature, row: Mapping[str, Any], analysis_date: date) -> FeatureProfile:
    count, mean = row["value_count"], row["mean"]
    # The team of a pair may have played between the two nights unless the one is the day before the other.
    adjacent = row["compared_date"] == analysis_date - timedelta(days=1)
    at_least = [count, *(row[f"from_{edge}"] for edge in range(len(feature.bins))), 0]
    return FeatureProfile(
        **_counted(feature, row),
        value_count=count,
        mean=mean,
        deviation=None if mean is None else sqrt(max(0.0, row["mean_square"] - mean * mean)),
        lowest=row["lowest"],
        highest=row["highest"],
        mode_share=row["mode_count"] / count if count else None,
        bins=tuple(low - high for low, high in pairwise(at_least)),
        pair_count=row["pair_count"],
        correlation=_correlation(row),
        played_count=row["played_count"],
        unmoved_count=row["unmoved_count"],
        still_count=row["still_count"] if adjacent else 0,
        moved_count=row["moved_count"] if adjacent else 0,
    )


def _counted(feature: Feature, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "feature": feature.name,
        "row_count": row["row_count"],
        "present_count": row["present_count"],
        "out_of_range_count": row["outside_count"],
        "bin_edges": tuple(feature.bins),
        "compared_date": row["compared_date"],
    }


def _correlation(row: Mapping[str, Any]) -> float | None:
    """Return Pearson's correlation of the pairs; None if either side has one value only."""
    if row["pair_count"] < 2:  # noqa: PLR2004 - a line needs two points
        return None
    later, earlier = row["later_mean"], row["earlier_mean"]
    variances = (row["later_square"] - later * later, row["earlier_square"] - earlier * earlier)
    least = (row["later_square"] * ROUNDING, row["earlier_square"] * ROUNDING)
    if variances[0] <= least[0] or variances[1] <= least[1]:
        return None
    return float(max(-1.0, min(1.0, (row["product"] - later * earlier) / sqrt(variances[0] * variances[1]))))


ROUNDING = 1e-12
"""Share of a mean square below which a variance is rounding."""


def _of_teams(
    feature: Feature,
    row: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    nights: Sequence[ProfiledNight],
    pipeline: Pipeline,
) -> FeatureProfile:
    values = {str(found["team"]): float(found["highest"]) for found in sorted(rows, key=lambda found: found["team"])}
    before = nights[:TEAM_NIGHTS]
    pairs = team_pairs(feature.name, values, before)
    spread = spread_of([value for night in before for value in _values_of(feature.name, night)])
    schedule = pipeline.schedule
    # A team that is looked up as an opponent played on every night on which the team has a value.
    played = schedule is not None and pipeline.team_of(feature) == schedule.opponent
    last = team_pairs(feature.name, values, before[:1]) if played else []
    return FeatureProfile(
        **_counted(feature, row),
        value_count=len(values),
        mean=sum(values.values()) / len(values) if values else None,
        deviation=spread_of(values.values()) if values else None,
        lowest=min(values.values(), default=None),
        highest=max(values.values(), default=None),
        mode_share=share_of_mode(values.values()),
        bins=tuple(bin_counts(values.values(), feature.bins)),
        pair_count=len(pairs),
        correlation=_agreement(pairs, spread),
        played_count=len(last),
        unmoved_count=sum(later == earlier for later, earlier in last),
        still_count=0,
        moved_count=0,
        teams=tuple(values),
        team_values=tuple(values.values()),
    )


def _values_of(feature: str, night: ProfiledNight) -> tuple[float, ...]:
    profile = night.features.get(feature)
    return () if profile is None else profile.team_values


def _agreement(pairs: Sequence[tuple[float, float]], spread: float) -> float | None:
    if len(pairs) < 2 or spread == 0:  # noqa: PLR2004 - as a correlation
        return None
    square = sum((later - earlier) ** 2 for later, earlier in pairs) / len(pairs)
    return 1 - square / (2 * spread * spread)


def read_nights(rows: Iterable[Mapping[str, Any]]) -> tuple[ProfiledNight, ...]:
    """Read the answer to `profile_nights.sql`; return the nights, newest first."""
    found: dict[date, tuple[Mapping[str, Any], dict[str, FeatureProfile]]] = {}
    for row in rows:
        _night, features = found.setdefault(row["analysis_date"], (row, {}))
        if row["feature"] is not None:
            features[row["feature"]] = _stored(row)
    return tuple(
        ProfiledNight(
            analysis_date=day,
            active_count=int(row["active_count"]),
            features=MappingProxyType(features),
        )
        for day, (row, features) in sorted(found.items(), reverse=True)
    )


_LISTS = ("bins", "bin_edges", "teams", "team_values")


def _stored(row: Mapping[str, Any]) -> FeatureProfile:
    fields = FeatureProfile.__dataclass_fields__
    values: dict[str, Any] = {name: tuple(row[name] or ()) if name in _LISTS else row[name] for name in fields}
    return FeatureProfile(**values)


def profile_rows(analysis_date: date, build_id: str, generation: int, profile: Profile) -> list[dict[str, Any]]:
    """Return the rows of `_feature_profile` for a published build, one per feature."""
    key = {"analysis_date": analysis_date, "build_id": build_id, "generation": generation}
    return [
        {**key, **{name: _cell(getattr(features, name)) for name in FeatureProfile.__dataclass_fields__}}
        for features in profile.features.values()
    ]


def _cell(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
