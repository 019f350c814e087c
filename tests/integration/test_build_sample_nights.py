"""Generated nights, whole and with faults drawn at random, built and worked out a second time, cell by cell.

What the real nights prove where they are at hand (`test_build_real_nights`), this proves anywhere.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from random import Random

import pytest

from tests.support.faulty_nights import Season, assert_built_as_worked_out, gate_lets_through, random_case
from tests.support.recomputed import Question, work_out_night
from worker.features.quality import DEFAULT_POLICY

NIGHTS = [date(2024, 12, 13), date(2024, 12, 14), date(2024, 12, 15)]
SEEDS = range(24)


@pytest.fixture(scope="module")
def season(sample_folder: Path) -> Iterator[Season]:
    made = Season(sample_folder)
    yield made
    made.warehouse.close()


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_a_whole_night(season: Season, night: date, *, forced: bool) -> None:
    assert_built_as_worked_out(season, Question(night=night, forced=forced), season.sources)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_night_with_faults(season: Season, seed: int) -> None:
    random = Random(seed)  # noqa: S311 -- a test's own dice
    asked, changes = random_case(random, season, random.choice(NIGHTS))

    with season.spoiled(asked.night, changes) as sources:
        assert_built_as_worked_out(season, asked, sources)


@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_the_gate_lets_through_what_the_ruling_lets_through(season: Season, night: date) -> None:
    random = Random(night.toordinal())  # noqa: S311 -- a test's own dice
    for _ in range(3):
        asked, changes = random_case(random, season, night)
        with season.spoiled(night, changes) as sources:
            outcome = season.build(asked, DEFAULT_POLICY, publish=False)
            assert outcome.report.gate_passed == gate_lets_through(work_out_night(sources, asked))
