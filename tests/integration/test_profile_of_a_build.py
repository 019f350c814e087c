"""The statistics of built nights, worked out a second time from the published rows: lists, loops and plain formulas."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from math import isclose, sqrt
from typing import Any

import pytest

from statemachine.model import BuildMode
from tests.support.league import FRIDAY, NIGHTS, SATURDAY, SUNDAY, League, built_at
from worker.builds.steps import run_build
from worker.features.model import BuildOutcome
from worker.features.profile import FeatureProfile
from worker.features.profile_reading import plan_nights, read_nights
from worker.pipelines.shipped import HISTORY_TABLE, SHIPPED

Rows = Mapping[int, Mapping[str, Any]]
FEATURES = SHIPPED.judged_features
PROFILE = SHIPPED.tables.profile


@pytest.fixture(scope="module")
def league() -> Iterator[League]:
    made = League()
    yield made
    made.warehouse.close()


@pytest.fixture(scope="module")
def outcomes(league: League) -> Mapping[date, BuildOutcome]:
    return {night: league.build(night) for night in NIGHTS}


@pytest.fixture(scope="module")
def published(league: League, outcomes: Mapping[date, BuildOutcome]) -> Mapping[date, Rows]:
    assert len(outcomes) == len(NIGHTS)
    return {night: league.published(night) for night in NIGHTS}


def values(rows: Rows, feature: Any) -> dict[Any, float]:
    """The values from Phase 4 by whom they belong to: the player, or the team that shares them."""
    column = SHIPPED.team_of(feature) or "player_id"
    return {
        row[column]: row[feature.name]
        for row in rows.values()
        if row[f"{feature.block}_source"] == "phase4" and row[feature.name] is not None and row[column] is not None
    }


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def correlation(pairs: list[tuple[float, float]]) -> float:
    left, right = mean([x for x, _ in pairs]), mean([y for _, y in pairs])
    product = sum((x - left) * (y - right) for x, y in pairs)
    return product / sqrt(sum((x - left) ** 2 for x, _ in pairs) * sum((y - right) ** 2 for _, y in pairs))


@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_the_distribution_of_every_feature(
    outcomes: Mapping[date, BuildOutcome], published: Mapping[date, Rows], night: date
) -> None:
    profiles = outcomes[night].stats.profile.features
    assert list(profiles) == [feature.name for feature in FEATURES]
    for feature in FEATURES:
        found, numbers = profiles[feature.name], list(values(published[night], feature).values())
        middle = mean(numbers)
        assert found.row_count == len(published[night])
        assert found.present_count == sum(row[feature.name] is not None for row in published[night].values())
        assert (found.value_count, found.out_of_range_count) == (len(numbers), 0)
        assert (found.lowest, found.highest) == (min(numbers), max(numbers))
        assert isclose(found.mean or 0.0, middle, rel_tol=1e-9, abs_tol=1e-12)
        spread = sqrt(mean([(number - middle) ** 2 for number in numbers]))
        assert isclose(found.deviation or 0.0, spread, rel_tol=1e-6, abs_tol=1e-9)
        assert found.mode_share == max(Counter(numbers).values()) / len(numbers)
        edges = [-1e99, *feature.bins, 1e99]
        inside = [sum(low <= n < high for n in numbers) for low, high in pairwise(edges)]
        assert list(found.bins) == inside


@pytest.mark.parametrize("night", [SATURDAY, SUNDAY], ids=str)
def test_the_pairs_of_every_feature(
    outcomes: Mapping[date, BuildOutcome], published: Mapping[date, Rows], night: date
) -> None:
    before = night - timedelta(days=1)
    for feature in FEATURES:
        found = outcomes[night].stats.profile.features[feature.name]
        assert found.compared_date == before
        if SHIPPED.team_of(feature):
            continue
        now, then = values(published[night], feature), values(published[before], feature)
        both = [player for player in now if player in then]
        played = [player for player in both if published[before][player]["has_game"]]
        still = [player for player in both if not published[before][player]["has_game"]]
        assert found.pair_count == len(both)
        assert isclose(found.correlation or 0, correlation([(now[p], then[p]) for p in both]), abs_tol=1e-9)
        assert (found.played_count, found.still_count) == (len(played), len(still))
        assert found.unmoved_count == sum(now[player] == then[player] for player in played)
        assert found.moved_count == sum(abs(now[player] - then[player]) > feature.step for player in still)


def test_the_pairs_of_teams(outcomes: Mapping[date, BuildOutcome], published: Mapping[date, Rows]) -> None:
    for feature in FEATURES:
        if not SHIPPED.team_of(feature):
            continue
        found = outcomes[SUNDAY].stats.profile.features[feature.name]
        last, first = values(published[SATURDAY], feature), values(published[FRIDAY], feature)
        now, latest = values(published[SUNDAY], feature), first | last
        assert dict(zip(found.teams, found.team_values, strict=True)) == now
        assert found.pair_count == sum(team in latest for team in now)
        again = [team for team in now if team in last] if SHIPPED.team_of(feature) == "opponent_abbreviation" else []
        assert (found.played_count, found.still_count) == (len(again), 0)
        assert found.unmoved_count == sum(now[team] == last[team] for team in again)
        usual = [*first.values(), *last.values()]
        square = mean([(now[team] - latest[team]) ** 2 for team in now if team in latest])
        spread = mean([(value - mean(usual)) ** 2 for value in usual])
        assert isclose(found.correlation or 0, 1 - square / (2 * spread), rel_tol=1e-9)


def test_the_first_night_has_nothing_to_be_compared_with(outcomes: Mapping[date, BuildOutcome]) -> None:
    profile = outcomes[FRIDAY].stats.profile

    assert profile.nights == ()
    assert {(one.compared_date, one.pair_count) for one in profile.features.values()} == {(None, 0)}


def test_a_publication_keeps_its_statistics(league: League, outcomes: Mapping[date, BuildOutcome]) -> None:
    nights = read_nights(league.warehouse.query(plan_nights(SUNDAY + timedelta(days=1), SHIPPED)))

    assert [night.analysis_date for night in nights] == [SUNDAY, SATURDAY, FRIDAY]
    for night in nights:
        stats = outcomes[night.analysis_date].stats
        assert night.features == dict(stats.profile.features)
        assert night.active_count == stats.row_count + stats.left_out_count


def test_a_dry_run_counts_what_a_build_counts(league: League, outcomes: Mapping[date, BuildOutcome]) -> None:
    published = outcomes[SUNDAY].request
    request = replace(published, key=replace(published.key, generation=7))

    dry = run_build(league.warehouse, request, now=lambda: built_at(SUNDAY), publish=False)

    assert dry.stats.profile.features == outcomes[SUNDAY].stats.profile.features


@pytest.fixture
def own() -> Iterator[League]:
    made = League()
    yield made
    made.warehouse.close()


def features_of(outcome: BuildOutcome) -> Mapping[str, FeatureProfile]:
    return outcome.stats.profile.features


def test_a_night_that_cannot_be_believed_is_compared_with_by_none(own: League) -> None:
    """After it the pairs are those of the night before it, and nobody is said to have moved without a game."""
    own.build(FRIDAY)
    own.execute("UPDATE nba_precompute.player_composite_factors SET usage_rate = usage_rate * 100")
    assert {one.check for one in own.build(SATURDAY).report.findings if one.severity == "critical"} == {"out_of_range"}
    own.execute("UPDATE nba_precompute.player_composite_factors SET usage_rate = usage_rate / 100")

    sunday = own.build(SUNDAY)

    assert [night.analysis_date for night in sunday.stats.profile.nights] == [FRIDAY]
    assert {one.compared_date for one in features_of(sunday).values()} == {FRIDAY}
    assert {one.still_count for one in features_of(sunday).values()} == {0}


def test_values_from_phase_3_are_another_distribution(own: League) -> None:
    own.build(FRIDAY)

    forced = features_of(own.build(SATURDAY, mode=BuildMode.FORCED_FALLBACK))

    assert {(one.value_count, one.pair_count, one.correlation) for one in forced.values()} == {(0, 0, None)}
    assert {one.present_count > 0 for one in forced.values()} == {True}


def test_lost_statistics_are_a_night_less_and_no_fault(own: League) -> None:
    own.build(FRIDAY)
    own.execute(f"DELETE FROM {PROFILE}")  # noqa: S608 -- from the catalogue

    saturday = own.build(SATURDAY)

    assert saturday.published
    assert [len(night.features) for night in saturday.stats.profile.nights] == [0]


def test_statistics_that_cannot_be_read_stop_no_build(own: League) -> None:
    own.execute(f"ALTER TABLE {HISTORY_TABLE} RENAME COLUMN findings TO told")
    own.execute(f"ALTER TABLE {HISTORY_TABLE} ADD COLUMN findings BLOB")

    outcome = own.build(FRIDAY)

    assert outcome.published
    assert outcome.stats.row_count > 200
