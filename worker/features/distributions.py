"""Distributions of the features of a published analysis date beside the nights before, for people and scripts. Pure.

The statistics are those of `_feature_profile`: counted by the build, judged by `profile_findings`. The nights beside
the analysis date are the nights of the judgement: published, without a critical finding, as many as
`FindingPolicy.nights`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from statemachine.model import Finding
from worker.errors import Refused
from worker.features.model import LedgerRow
from worker.features.pipeline import Feature, Pipeline
from worker.features.profile import FeatureProfile, Profile, ProfiledNight
from worker.features.profile_findings import shift_of, usual_nights

SHIFT_MAX = 999.0
"""Largest shown shift: a mean that moved away from values without any spread is infinitely far."""


@dataclass(frozen=True, kw_only=True)
class NightStatistics:
    """Statistics of a feature on a night.

    Attributes:
        analysis_date: The analysis date.
        row_count: Rows of the published generation.
        present_count: Rows with a value.
        out_of_range_count: Values outside the range of the catalogue.
        value_count: Values from Phase 4 inside the range, one per entity or team; the figures below describe these.
        mean: Mean; None without values.
        deviation: Standard deviation; None without values.
        lowest: Lowest value; None without values.
        highest: Highest value; None without values.
        mode_share: Share of the most frequent value, 0 to 1; None without values.
        correlation: Agreement with the night before, at most 1; None without pairs.
        bins: Number of values in each bin, one more than `bin_edges`.
        bin_edges: Edges of the bins, ascending.
    """

    analysis_date: date
    row_count: int
    present_count: int
    out_of_range_count: int
    value_count: int
    mean: float | None
    deviation: float | None
    lowest: float | None
    highest: float | None
    mode_share: float | None
    correlation: float | None
    bins: tuple[int, ...]
    bin_edges: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Distribution of a feature, beside the nights before.

    Attributes:
        feature: Name of the feature.
        unit: Unit or meaning of the number.
        processor: Processor of the feature.
        per_team: Whether the values are values of teams, one for each team.
        tonight: Statistics of the analysis date.
        usual_mean: Mean over the nights before; None without such nights.
        usual_bins: Number of values of the nights before in each bin of tonight; empty without such nights.
        shift: Population stability index against the nights before; of values of teams the shift of the mean on the
            same scale, at most `SHIFT_MAX`. None if too few nights or values are known.
        nights: The nights before, newest first.
        findings: Findings about the feature, or about the table of the feature.
    """

    feature: str
    unit: str
    processor: str
    per_team: bool
    tonight: NightStatistics
    usual_mean: float | None
    usual_bins: tuple[int, ...]
    shift: float | None
    nights: tuple[NightStatistics, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Distributions:
    """Distributions of a published analysis date.

    Attributes:
        analysis_date: The analysis date.
        generation: The published generation.
        row_count: Rows of the generation.
        nights_count: Nights before with which the analysis date is compared.
        features: Features with statistics, in the order of the catalogue.
        findings: Findings about the generation; None if no check judged the rows.
    """

    analysis_date: date
    generation: int
    row_count: int
    nights_count: int
    features: tuple[Distribution, ...]
    findings: tuple[Finding, ...] | None


def distributions_of(
    published: LedgerRow, own: Mapping[str, FeatureProfile], nights: Sequence[ProfiledNight], pipeline: Pipeline
) -> Distributions:
    """Return the distributions of a published generation.

    Args:
        published: The generation.
        own: Statistics of the generation by feature.
        nights: The nights to compare with, newest first.
        pipeline: Pipeline of the generation.

    Raises:
        Refused: No statistics of the generation are stored.
    """
    day = published.analysis_date
    if not own:
        raise Refused(
            f"{day}: generation {published.generation} has no statistics of features: the generation is older than the "
            "statistics, the statistics were lost, or no feature has a range in the catalogue; a new generation has "
            f"statistics: mlfs replay {day} --reason '…'"
        )
    known = [feature for feature in pipeline.features if feature.name in own]
    features = tuple(_distribution(feature, published, own[feature.name], nights, pipeline) for feature in known)
    return Distributions(
        analysis_date=day,
        generation=published.generation,
        row_count=published.row_count,
        nights_count=max((len(distribution.nights) for distribution in features), default=0),
        features=features,
        findings=published.findings,
    )


def _distribution(
    feature: Feature,
    published: LedgerRow,
    profile: FeatureProfile,
    nights: Sequence[ProfiledNight],
    pipeline: Pipeline,
) -> Distribution:
    block = pipeline.block_of(feature)
    known = [(night.analysis_date, night.features[feature.name]) for night in nights if feature.name in night.features]
    statistics = [_statistics(day, found) for day, found in known if found.value_count]
    alike = [night.bins for night in statistics if night.bin_edges == profile.bin_edges]
    usual = usual_nights(feature.name, Profile(nights=nights), pipeline.findings)
    shift = shift_of(feature, profile, usual, pipeline) if usual and profile.value_count else None
    return Distribution(
        feature=feature.name,
        unit=feature.unit,
        processor=block.processor,
        per_team=bool(pipeline.team_of(feature)),
        tonight=_statistics(published.analysis_date, profile),
        usual_mean=_mean_of(statistics),
        usual_bins=tuple(sum(counts) for counts in zip(*alike, strict=True)),
        shift=None if shift is None else min(shift.measure, SHIFT_MAX),
        nights=tuple(statistics),
        findings=tuple(found for found in published.findings or () if found.subject in {feature.name, block.table}),
    )


def _statistics(analysis_date: date, profile: FeatureProfile) -> NightStatistics:
    own = {name: getattr(profile, name) for name in NightStatistics.__dataclass_fields__ if name != "analysis_date"}
    return NightStatistics(analysis_date=analysis_date, **own)


def _mean_of(nights: Sequence[NightStatistics]) -> float | None:
    total = sum(night.value_count for night in nights)
    return sum((night.mean or 0.0) * night.value_count for night in nights) / total if total else None


def only(found: Distributions, name: str) -> Distribution:
    """Return the distribution of a feature.

    Raises:
        Refused: No such feature has statistics; the message names the features.
    """
    by_name = {distribution.feature: distribution for distribution in found.features}
    if name in by_name:
        return by_name[name]
    close = get_close_matches(name, by_name, 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    raise Refused(f"{found.analysis_date}: no feature {name} has statistics{meant} The features: {', '.join(by_name)}")


def shares(bins: Sequence[int]) -> list[float]:
    """Return the share of the values in each bin; zeros without values."""
    total = sum(bins)
    return [count / total if total else 0.0 for count in bins]


def bin_names(edges: Sequence[float]) -> list[str]:
    """Return the range of each bin: `below 1`, `1 to 2.5`, `2.5 and more`."""
    if not edges:
        return ["all"]
    inner = (f"{low:g} to {high:g}" for low, high in pairwise(edges))
    return [f"below {edges[0]:g}", *inner, f"{edges[-1]:g} and more"]


def describe(found: Distributions, findings: object, name: str = "") -> dict[str, Any]:
    """Return distributions in the JSON form for scripts and HTTP; the nights before only with the feature *name*.

    Args:
        found: The distributions.
        findings: Findings of the analysis date in their JSON form; None if no check judged the rows.
        name: The feature; empty for all features.
    """
    chosen = [only(found, name)] if name else found.features
    return {
        "analysis_date": found.analysis_date.isoformat(),
        "weekday": f"{found.analysis_date:%A}",
        "generation": found.generation,
        "row_count": found.row_count,
        "nights_count": found.nights_count,
        "findings": findings,
        "features": [_described(distribution, with_nights=bool(name)) for distribution in chosen],
    }


def _described(distribution: Distribution, *, with_nights: bool) -> Mapping[str, Any]:
    fields = asdict(distribution)
    tonight, nights = fields.pop("tonight"), fields.pop("nights")
    for night in (tonight, *nights):
        night["analysis_date"] = night["analysis_date"].isoformat()
    del tonight["analysis_date"]
    found = [{"check": finding.check, "severity": finding.severity.value} for finding in distribution.findings]
    return {**fields, **tonight, "findings": found, "nights": nights if with_nights else None}
