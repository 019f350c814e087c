"""Statistics of the features of a build, and of the nights with which the build is compared. Pure.

A feature whose value all entities of a team share (`Pipeline.team_of`) has one value per team. The pairs of such a
feature join each team with the latest value of the team. `profile_reading` reads the statistics, `profile_findings`
judges the statistics.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import inf, log, sqrt


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureProfile:
    """Statistics of a feature in a build.

    `row_count`, `present_count` and `out_of_range_count` hold every row. The other figures hold cells from Phase 4
    inside the range; of a roster larger than `sql.SAMPLE_MAX`, an even sample.

    Attributes:
        feature: Name of the feature.
        row_count: Rows of the build.
        present_count: Rows with a value.
        out_of_range_count: Values outside the range of the catalogue.
        value_count: Values of the distribution, one per entity or team.
        mean: Mean of the values; None without values.
        deviation: Standard deviation of the values; None without values.
        lowest: Lowest value; None without values.
        highest: Highest value; None without values.
        mode_share: Share of the most frequent value, 0 to 1; None without values.
        bins: Number of values between the edges, one more than edges.
        bin_edges: Edges of the bins in the catalogue at the time of the build.
        compared_date: Analysis date of the night before; None without one.
        pair_count: Entities or teams with a value on both nights.
        correlation: Agreement of the values of both nights, at most 1; None for fewer than two pairs. Of teams: 1 less
            half the mean squared difference in units of the variance, the correlation if mean and variance stay.
        played_count: Pairs whose team played on the night before.
        unmoved_count: Such pairs with the same value on both nights.
        still_count: Pairs whose team did not play on the night before, if that was the day before.
        moved_count: Such pairs whose values differ by more than `Feature.step`.
        teams: Teams of the values; empty for a feature of the entities.
        team_values: Values in the order of `teams`.
    """

    feature: str
    row_count: int
    present_count: int
    out_of_range_count: int
    value_count: int
    mean: float | None
    deviation: float | None
    lowest: float | None
    highest: float | None
    mode_share: float | None
    bins: tuple[int, ...]
    bin_edges: tuple[float, ...]
    compared_date: date | None
    pair_count: int
    correlation: float | None
    played_count: int
    unmoved_count: int
    still_count: int
    moved_count: int
    teams: tuple[str, ...] = ()
    team_values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledNight:
    """A published night without a critical finding, before the build.

    Attributes:
        analysis_date: The analysis date.
        active_count: Active entities, with and without a row.
        features: Statistics by feature; empty if the statistics are lost.
    """

    analysis_date: date
    active_count: int
    features: Mapping[str, FeatureProfile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Statistics of a build by feature, and the nights to compare with, newest first."""

    features: Mapping[str, FeatureProfile] = field(default_factory=dict)
    nights: Sequence[ProfiledNight] = ()


def team_pairs(feature: str, values: Mapping[str, float], nights: Sequence[ProfiledNight]) -> list[tuple[float, float]]:
    """Return (value, latest earlier value) of each team that has both; *nights* newest first."""
    latest: dict[str, float] = {}
    for night in reversed(nights):
        profile = night.features.get(feature)
        if profile is not None:
            latest.update(zip(profile.teams, profile.team_values, strict=True))
    return [(value, latest[team]) for team, value in values.items() if team in latest]


def spread_of(values: Iterable[float]) -> float:
    """Return the standard deviation of the values; 0 without values."""
    listed = list(values)
    if not listed:
        return 0.0
    mean = sum(listed) / len(listed)
    return sqrt(sum((value - mean) ** 2 for value in listed) / len(listed))


def share_of_mode(values: Iterable[float]) -> float | None:
    """Return the share of the most frequent value; None without values."""
    times: dict[float, int] = {}
    for value in values:
        times[value] = times.get(value, 0) + 1
    return max(times.values()) / sum(times.values()) if times else None


def bin_counts(values: Iterable[float], edges: Sequence[float]) -> list[int]:
    """Return the number of values in each bin; a value belongs to the bin after the last edge up to the value."""
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[sum(edge <= value for edge in edges)] += 1
    return counts


def stability_index(found: Sequence[int], usual: Sequence[int]) -> float:
    """Return the population stability index of two distributions over the same bins.

    Each bin holds half a value more than counted, so an empty bin gives a finite index. Equal shares give 0.

    Args:
        found: Values of the build in each bin.
        usual: Values of the nights before in each bin.
    """
    extra = 0.5
    total, usual_total = sum(found) + extra * len(found), sum(usual) + extra * len(usual)
    shares = (((here + extra) / total, (there + extra) / usual_total) for here, there in zip(found, usual, strict=True))
    return sum((share - other) * log(share / other) for share, other in shares)


def mean_shift(values: Sequence[float], usual: Sequence[float]) -> float:
    """Return how far the mean of a few values lies from the usual mean, on the scale of the stability index.

    The square of the distance in units of the usual spread is the stability index of two normal distributions that far
    apart. A mean of few values varies by itself, so three standard errors of the mean are taken off the distance.

    Args:
        values: Values of the build, one or more.
        usual: Values of the nights before, one or more.
    """
    spread, distance = spread_of(usual), abs(sum(values) / len(values) - sum(usual) / len(usual))
    if spread == 0:
        return inf if distance else 0.0
    return max(0.0, distance / spread - 3 / sqrt(len(values))) ** 2
