"""Forty-nine real nights, whole and with faults, built and worked out a second time, cell by cell, in plain Python.

Skipped where the data is not at hand. `EVERY_NIGHT=1` goes through all nights times all faults, some ten minutes.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import combinations, product
from pathlib import Path
from random import Random

import pytest

from tests.support.faulty_nights import FAULTS, Change, Season, assert_built_as_worked_out, case_of, random_case
from tests.support.recomputed import CELLS, PHASE4, Question

DATA = Path(os.environ.get("NBA_DATA") or Path(__file__).parents[3] / "shared" / "nba")

pytestmark = pytest.mark.skipif(
    not (DATA / "nba_precompute.player_composite_factors.parquet").is_file(),
    reason="the real NBA nights are not beside the project (../shared/nba), and NBA_DATA names no other folder",
)


def every_night(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that takes minutes."""
    skip = pytest.mark.skipif(not os.environ.get("EVERY_NIGHT"), reason="takes minutes; EVERY_NIGHT=1 runs it")
    return skip(pytest.mark.timeout(0)(test))


NIGHTS = [date(2024, 11, 1) + timedelta(days=day) for day in range(49)]
GOLDEN = date(2024, 12, 15)


@pytest.fixture(scope="module")
def season() -> Iterator[Season]:
    made = Season(DATA)
    yield made
    made.warehouse.close()


def without(blocks: frozenset[str], night: date) -> list[Change]:
    return [(PHASE4[block], "DELETE FROM {} WHERE analysis_date = ?", [night]) for block in sorted(blocks)]


@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_a_real_night_from_phase4(season: Season, night: date) -> None:
    outcome = assert_built_as_worked_out(season, Question(night=night), season.sources)

    assert (outcome.report.earned_state, outcome.report.gate_passed) == ("done", True)


@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_a_real_night_forced_to_phase3(season: Season, night: date) -> None:
    outcome = assert_built_as_worked_out(season, Question(night=night, forced=True), season.sources)

    assert outcome.report.earned_state == "degraded"


@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_a_real_night_with_faults(season: Season, night: date) -> None:
    random = Random(night.toordinal())  # noqa: S311 -- a test's own dice
    asked, changes = random_case(random, season, night)

    with season.spoiled(night, changes) as sources:
        assert_built_as_worked_out(season, asked, sources)


GOLDEN_SCORES = {
    frozenset[str](): 99.9,
    frozenset({"team_defense"}): 92.9,
    frozenset({"player_shot"}): 88.4,
    frozenset({"composite"}): 88.4,
    frozenset({"daily_cache"}): 88.4,
    frozenset({"player_shot", "composite"}): 79.2,
    frozenset({"player_shot", "daily_cache"}): 79.2,
    frozenset({"composite", "daily_cache"}): 79.2,
    frozenset(CELLS): 75.0,
}
SUBSETS = [frozenset(lost) for size in range(5) for lost in combinations(CELLS, size)]


@pytest.mark.parametrize("lost", SUBSETS, ids=lambda lost: "+".join(sorted(lost)) or "nothing")
def test_the_golden_night_without_some_tables(season: Season, lost: frozenset[str]) -> None:
    """2024-12-15 without any subset of the four tables; the ruling names the scores of nine of the sixteen."""
    with season.spoiled(GOLDEN, without(lost, GOLDEN)) as sources:
        outcome = assert_built_as_worked_out(season, Question(night=GOLDEN), sources)

    assert outcome.report.quality_score == GOLDEN_SCORES.get(lost, outcome.report.quality_score)


@every_night
def test_every_real_night_with_every_fault(season: Season) -> None:
    for night, fault, forced in product(NIGHTS, FAULTS, (False, True)):
        random = Random(night.toordinal())  # noqa: S311 -- a test's own dice
        asked, changes = case_of(fault, random, season, night, forced=forced)
        with season.spoiled(night, changes) as sources:
            assert_built_as_worked_out(season, asked, sources)


@every_night
def test_every_real_night_without_any_subset_of_the_tables(season: Season) -> None:
    for night, lost in product(NIGHTS, SUBSETS):
        with season.spoiled(night, without(lost, night)) as sources:
            assert_built_as_worked_out(season, Question(night=night), sources)


def test_the_golden_night_forced_is_worth_exactly_75(season: Season) -> None:
    assert season.build(Question(night=GOLDEN, forced=True)).report.quality_score == 75.0


def test_a_lost_table_that_comes_back_restores_the_score(season: Season) -> None:
    with season.spoiled(GOLDEN, without(frozenset({"daily_cache"}), GOLDEN)):
        lost = season.build(Question(night=GOLDEN)).report.quality_score

    assert (lost, season.build(Question(night=GOLDEN)).report.quality_score) == (88.4, 99.9)


def test_as_of_the_evening_sees_what_was_there_then(season: Season) -> None:
    """At 23:12 on the night itself two of the four processors had written: exactly their blocks are from Phase 4."""
    asked = Question(night=GOLDEN, as_of=datetime(2024, 12, 16, 4, 12, tzinfo=UTC))

    outcome = assert_built_as_worked_out(season, asked, season.sources)

    assert {name: rows > 0 for name, rows in outcome.stats.dependency_rows.items()} == {
        "team_defense_zone_analysis": True,
        "player_shot_zone_analysis": True,
        "player_composite_factors": False,
        "player_daily_cache": False,
    }
    assert outcome.report.quality_score == 79.2
