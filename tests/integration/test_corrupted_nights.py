"""A night whose rows are all there and wrong is noticed: the right check, state and severity, night after night."""

import os
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.support.corrupted_season import FIRST_JUDGED, CorruptedSeason, said
from tests.support.corruptions import CORRUPTIONS, Corruption
from worker.local.sample.data import write_sample_data

REAL = Path(os.environ.get("NBA_DATA") or Path(__file__).parents[3] / "shared" / "nba")
RELIABILITY = Path(__file__).parents[2] / "docs" / "reliability.md"
LAST = date(2024, 12, 15)
GENERATED_NIGHTS = [LAST - timedelta(days=days) for days in reversed(range(16))]
REAL_NIGHTS = [date(2024, 11, 1) + timedelta(days=day) for day in range(49)]
EVERY_NIGHT = bool(os.environ.get("EVERY_NIGHT"))
"""Each kind costs a build a night: a run spoils a few nights of each kind, in turn all nights; with this all."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CorruptedSeason]:
    folder = tmp_path_factory.mktemp("season")
    write_sample_data(folder, analysis_date=LAST, nights_before=len(GENERATED_NIGHTS) - 1)
    season = CorruptedSeason(folder, GENERATED_NIGHTS)
    yield season
    season.close()


@pytest.fixture(scope="module")
def real() -> Iterator[CorruptedSeason]:
    if not (REAL / "nba_precompute.player_composite_factors.parquet").is_file():
        pytest.skip(
            "the real NBA nights are not beside the project (../shared/nba), and NBA_DATA names no other folder"
        )
    season = CorruptedSeason(REAL, REAL_NIGHTS)
    yield season
    season.close()


def in_turn(kind: Corruption, season: CorruptedSeason, count: int) -> Sequence[date]:
    """Nights after the tenth to which a kind applies: all, or *count* of them, other ones for the next kind."""
    nights = [night for night in season.nights[FIRST_JUDGED:] if kind.applies(season.facts, night)]
    if EVERY_NIGHT or len(nights) <= count:
        return nights
    first = CORRUPTIONS.index(kind) * count % len(nights)
    return (nights + nights)[first : first + count]


def test_generated_nights_as_they_are_give_no_finding(generated: CorruptedSeason) -> None:
    assert {night: said(outcome) for night, outcome in generated.clean.items() if outcome.report.findings} == {}


def test_real_nights_as_they_are_give_no_critical_finding_and_two_with_a_warning_at_most(
    real: CorruptedSeason,
) -> None:
    findings = {night: outcome.report.findings for night, outcome in real.clean.items()}
    critical = {night: found for night, found in findings.items() if any(one.severity == "critical" for one in found)}
    warned = {night: found for night, found in findings.items() if any(one.severity == "warning" for one in found)}
    assert critical == {}
    assert len(warned) <= 2, warned


@pytest.mark.parametrize("kind", CORRUPTIONS, ids=lambda kind: kind.name)
def test_a_corrupted_generated_night_is_noticed(generated: CorruptedSeason, kind: Corruption) -> None:
    assert generated.judge(kind, in_turn(kind, generated, 2)).missed == []


@pytest.mark.parametrize("kind", CORRUPTIONS, ids=lambda kind: kind.name)
def test_a_corrupted_real_night_is_noticed(real: CorruptedSeason, kind: Corruption) -> None:
    assert real.judge(kind, in_turn(kind, real, 1)).missed == []


def test_every_kind_stands_in_the_table_of_the_documentation() -> None:
    table = RELIABILITY.read_text("utf-8")
    assert [kind.name for kind in CORRUPTIONS if f"| {kind.name} |" not in table] == []
    assert len(CORRUPTIONS) >= 20
