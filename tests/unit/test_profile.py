"""The figures of a distribution: what holds for each, whatever the values are."""

from math import inf, isclose, log

from hypothesis import given
from hypothesis import strategies as st

from tests.support.nights import NIGHT
from tests.support.profiles import profile_of
from worker.features.profile import (
    FeatureProfile,
    ProfiledNight,
    bin_counts,
    mean_shift,
    share_of_mode,
    spread_of,
    stability_index,
    team_pairs,
)

VALUES = st.lists(st.floats(-1000, 1000), min_size=1, max_size=40)
COUNTS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=12)


@given(COUNTS)
def test_the_index_of_two_distributions_is_never_negative_and_has_no_direction(counts: list[tuple[int, int]]) -> None:
    found, usual = [here for here, _ in counts], [there for _, there in counts]

    assert stability_index(found, usual) >= 0
    assert isclose(stability_index(found, usual), stability_index(usual, found), abs_tol=1e-12)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=12))
def test_the_index_of_a_distribution_and_itself_is_nothing(counts: list[int]) -> None:
    assert stability_index(counts, counts) == 0


def test_the_index_is_the_sum_over_the_bins() -> None:
    """(0.25 - 0.75) ln(1/3) twice, with half a value more in each bin."""
    assert isclose(stability_index([2, 7], [7, 2]), 2 * 0.5 * log(3))


@given(VALUES, st.lists(st.floats(-1000, 1000), max_size=8))
def test_every_value_lies_in_one_bin(values: list[float], edges: list[float]) -> None:
    counts = bin_counts(values, sorted(edges))

    assert len(counts) == len(edges) + 1
    assert sum(counts) == len(values)


def test_a_value_on_an_edge_belongs_behind_it() -> None:
    assert bin_counts([0.9, 1, 1.5, 2, 7], [1, 2]) == [1, 2, 2]


@given(VALUES)
def test_the_spread_is_that_of_the_values_moved_anywhere(values: list[float]) -> None:
    assert isclose(spread_of(values), spread_of([value + 5 for value in values]), abs_tol=1e-6)


def test_the_spread_of_no_value_is_nothing() -> None:
    assert (spread_of([]), spread_of([3.0]), spread_of([1.0, 3.0])) == (0, 0, 1)


@given(VALUES)
def test_the_most_frequent_value_has_a_share(values: list[float]) -> None:
    assert 1 / len(values) <= (share_of_mode(values) or 0) <= 1


def test_no_value_has_no_most_frequent_one() -> None:
    assert (share_of_mode([]), share_of_mode([1.0, 2.0, 1.0, 3.0])) == (None, 0.5)


@given(VALUES)
def test_the_usual_values_have_no_shift(values: list[float]) -> None:
    assert mean_shift(values, values) == 0


def test_a_shift_is_what_three_standard_errors_leave_squared() -> None:
    usual = [90.0, 110.0]

    assert mean_shift([150.0] * 9, usual) == (5 - 1) ** 2
    assert mean_shift([150.0], usual) == (5 - 3) ** 2
    assert mean_shift([120.0] * 4, usual) == (2 - 1.5) ** 2
    assert mean_shift([105.0], usual) == 0


def test_a_usual_value_without_spread_allows_no_other() -> None:
    assert (mean_shift([1.0], [1.0, 1.0]), mean_shift([2.0], [1.0, 1.0])) == (0, inf)


def night(**values: float) -> ProfiledNight:
    features: dict[str, FeatureProfile] = {
        "pace": profile_of("pace", teams=tuple(values), team_values=tuple(values.values()))
    }
    return ProfiledNight(analysis_date=NIGHT, active_count=400, features=features)


def test_a_team_is_paired_with_its_latest_value() -> None:
    nights = [night(BOS=2.0), night(BOS=1.0, DEN=5.0), night(LAL=9.0)]

    assert team_pairs("pace", {"BOS": 3.0, "DEN": 6.0, "UTA": 7.0}, nights) == [(3.0, 2.0), (6.0, 5.0)]
    assert team_pairs("usage_rate", {"BOS": 3.0}, nights) == []
