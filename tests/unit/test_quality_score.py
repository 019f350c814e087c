"""The score follows the ruling to the decimal; the expected figures were worked out by hand."""

from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from statemachine.model import BuildMode, State
from worker.features.model import BlockCounts, BuildStats
from worker.features.quality import (
    COMPONENTS,
    REQUIRED_FIELD_COUNT,
    QualityPolicy,
    penalty,
    score,
    score_sentence,
    severity,
)
from worker.pipelines.shipped import BLOCKS, PROCESSORS, REQUIRED_FIELDS, features_of

NIGHT = date(2024, 12, 15)
CELLS = {block.name: len(features_of(block.name)) for block in BLOCKS}
ALL_FOUR = dict.fromkeys(PROCESSORS, 30)


def night(
    players: int = 400,
    *,
    phase4: float | dict[str, float] = 1.0,
    phase3: float | dict[str, float] = 0.0,
    rows: int | None = None,
    with_game: int | None = None,
    nulls: int = 0,
    newest: date | None = NIGHT,
    dependencies: dict[str, int] = ALL_FOUR,
) -> BuildStats:
    """A night with the given shares of each block's cells."""
    applies = {block.name: players for block in BLOCKS} | {"team_defense": players if with_game is None else with_game}

    def cells(shares: float | dict[str, float], block: str) -> int:
        share = shares if isinstance(shares, float) else shares.get(block, 0.0)
        return round(share * applies[block] * CELLS[block])

    return BuildStats(
        analysis_date=NIGHT,
        row_count=players if rows is None else rows,
        dependency_rows=dependencies,
        blocks={
            name: BlockCounts(
                players=applies[name],
                cells_each=CELLS[name],
                phase4_cells=cells(phase4, name),
                phase3_cells=cells(phase3, name),
            )
            for name in applies
        },
        required_nulls=nulls,
        newest_source_date=newest,
        left_out_count=players - (players if rows is None else rows),
        left_out=(),
    )


def components(report_components: dict[str, float]) -> list[float]:
    return [report_components[name] for name in COMPONENTS]


def test_a_full_night_is_worth_a_hundred() -> None:
    report = score(night(), BuildMode.NORMAL)

    assert components(dict(report.components)) == [40.0, 20.0, 15.0, 15.0, 5.0, 5.0]
    assert (report.quality_score, report.severity, report.earned_state) == (100.0, None, State.DONE)


def test_the_documents_worked_example_gives_96_8() -> None:
    """380 of 400 players from Phase 4, 20 from Phase 3, 80 of 2,000 required fields NULL."""
    report = score(night(phase4=0.95, phase3=0.05, nulls=80), BuildMode.NORMAL)

    assert components(dict(report.components)) == [38.0, 19.0, 15.0, 15.0, 5.0, 4.8]
    assert report.component_total == 96.8
    assert report.quality_score == 96.8


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (["team_defense"], 92.9),  # x = 219 / 1647 = 0.13297, penalty 5 + 25 (x - 0.05) = 7.074
        (["player_shot"], 88.4),  # x = 476 / 1647 = 0.28901, penalty 10 + 40 (x - 0.25) = 11.561
        (["composite"], 88.4),
        (["daily_cache"], 88.4),
        (["composite", "daily_cache"], 79.2),  # x = 0.57802, penalty 20 + 10 (x - 0.5) = 20.780
        (["team_defense", "player_shot", "composite", "daily_cache"], 75.0),
    ],
)
def test_a_usable_fallback_costs_what_the_adjustment_table_says(lost: list[str], expected: float) -> None:
    """476 players, 219 of them with a game, as on the real night of 2024-12-15, without its few missing cells."""
    shares4 = {name: 0.0 if name in lost else 1.0 for name in CELLS}
    shares3 = {name: 1.0 - share for name, share in shares4.items()}

    report = score(night(476, with_game=219, phase4=shares4, phase3=shares3), BuildMode.NORMAL)

    assert report.quality_score == expected


def test_a_forced_fallback_is_worth_exactly_75_and_degraded() -> None:
    report = score(night(phase4=0.0, phase3=1.0, newest=NIGHT - timedelta(days=1)), BuildMode.FORCED_FALLBACK)

    assert report.quality_score == 75.0
    assert report.component_total == 37.0
    assert report.gate_passed
    assert (report.severity, report.earned_state) == ("P1", State.DEGRADED)


@pytest.mark.parametrize(
    ("x", "points"),
    [
        ("0", 0),
        ("0.025", 2.5),
        ("0.05", 5),
        ("0.15", 7.5),
        ("0.25", 10),
        ("0.4", 16),
        ("0.5", 20),
        ("0.75", 22.5),
        ("1", 25),
    ],
)
def test_the_penalty_is_a_line_through_the_documents_corners(x: str, points: float) -> None:
    assert penalty(Fraction(x)) == Fraction(points)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [(0.10, 75.0), (0.11, 74.0), (0.20, 65.0)],
)
def test_what_neither_phase_has_costs_a_point_per_cent_beyond_ten(missing: float, expected: float) -> None:
    report = score(night(phase4=0.0, phase3=1.0 - missing, newest=None), BuildMode.NORMAL)

    assert report.quality_score == expected


def test_players_left_out_count_with_every_block_missing() -> None:
    report = score(night(400, rows=300, phase4=0.75), BuildMode.NORMAL)

    assert report.missing_rate == 0.25
    assert report.fallback_rate == 0.25


@pytest.mark.parametrize(
    ("rows", "nulls", "lifted"),
    [(200, 0, True), (199, 0, False), (400, 200, True), (400, 201, False)],
)
def test_only_a_usable_fallback_is_lifted(rows: int, nulls: int, *, lifted: bool) -> None:
    """Usable: 200 rows or more, and no more than 10 % of the required fields NULL."""
    report = score(night(rows, phase4=0.0, phase3=1.0, nulls=nulls), BuildMode.NORMAL)

    assert report.quality_score == (75.0 if lifted else report.component_total)
    assert report.gate_passed is lifted


@pytest.mark.parametrize(("age_days", "points"), [(0, 15), (1, 12), (2, 8), (3, 0), (30, 0)])
def test_freshness_falls_with_the_age_of_the_newest_source(age_days: int, points: float) -> None:
    report = score(night(newest=NIGHT - timedelta(days=age_days)), BuildMode.NORMAL)

    assert report.components["data_freshness"] == points


@pytest.mark.parametrize(
    ("rows", "points"), [(1000, 5), (400, 5), (399, 4), (300, 4), (299, 3), (200, 3), (199, 1), (100, 1), (99, 0)]
)
def test_row_completeness_falls_in_steps(rows: int, points: float) -> None:
    assert score(night(rows), BuildMode.NORMAL).components["row_completeness"] == points


@pytest.mark.parametrize(("filled", "points"), [(4, 15.0), (3, 11.3), (2, 7.5), (1, 3.8), (0, 0.0)])
def test_halves_round_away_from_zero(filled: int, points: float) -> None:
    """Three of four tables are worth 11.25 points, one is worth 3.75."""
    dependencies = {processor: int(place < filled) for place, processor in enumerate(PROCESSORS)}

    report = score(night(dependencies=dependencies), BuildMode.NORMAL)

    assert report.components["dependency_completeness"] == points


@pytest.mark.parametrize("players", [0, 480])
def test_without_rows_only_the_dependencies_count(players: int) -> None:
    report = score(night(players, rows=0, phase4=0.0, newest=None), BuildMode.NORMAL)

    assert components(dict(report.components)) == [0.0, 0.0, 0.0, 15.0, 0.0, 0.0]
    assert (report.quality_score, report.severity, report.missing_rate) == (15.0, "P0", 1.0)
    assert not report.gate_passed


def test_the_gate_says_what_is_lacking() -> None:
    report = score(night(150, phase4=0.0, phase3=1.0), BuildMode.NORMAL)

    assert report.gate_message == "150 rows, 200 needed; quality score 36.0, 75 needed"


def test_the_gate_is_a_policy() -> None:
    report = score(night(4), BuildMode.NORMAL, QualityPolicy(rows_min=4, score_min=95.0))

    assert report.quality_score == 95.0
    assert report.gate_passed


@pytest.mark.parametrize(
    ("quality", "rows", "fallback", "expected"),
    [
        ("49.9", 400, "0", "P0"),
        ("100", 99, "0", "P0"),
        ("50", 400, "0", "P1"),
        ("74.9", 400, "0", "P1"),
        ("100", 199, "0", "P1"),
        ("100", 400, "0.501", "P1"),
        ("75", 400, "0.5", "P2"),
        ("100", 400, "0.26", "P2"),
        ("80", 400, "0.25", "P3"),
        ("100", 400, "0.11", "P3"),
        ("90", 400, "0.1", None),
    ],
)
def test_severity_is_the_worst_level_that_applies(quality: str, rows: int, fallback: str, expected: str | None) -> None:
    assert severity(Fraction(quality), rows, Fraction(fallback)) == expected


@pytest.mark.parametrize(
    ("stats", "mode", "expected"),
    [
        (night(phase4=0.9, phase3=0.1), BuildMode.NORMAL, State.DONE),
        (night(phase4=0.899, phase3=0.1), BuildMode.NORMAL, State.DEGRADED),
        (night(), BuildMode.FORCED_FALLBACK, State.DEGRADED),
        (night(), BuildMode.YESTERDAY, State.DEGRADED),
        (night(dependencies=ALL_FOUR | {"player_daily_cache": 0}), BuildMode.NORMAL, State.DEGRADED),
    ],
)
def test_done_takes_four_tables_no_force_and_little_fallback(
    stats: BuildStats, mode: BuildMode, expected: State
) -> None:
    assert score(stats, mode).earned_state is expected


def test_the_constants_agree_with_the_catalogue() -> None:
    assert len(REQUIRED_FIELDS) == REQUIRED_FIELD_COUNT


@st.composite
def any_night(draw: st.DrawFn) -> BuildStats:
    players = draw(st.integers(0, 500))
    with_game = draw(st.integers(0, players))
    rows = draw(st.integers(0, players))
    blocks = {}
    for name, cells_each in CELLS.items():
        applies = with_game if name == "team_defense" else players
        phase4 = draw(st.integers(0, min(rows, applies) * cells_each))
        phase3 = draw(st.integers(0, min(rows, applies) * cells_each - phase4))
        blocks[name] = BlockCounts(players=applies, cells_each=cells_each, phase4_cells=phase4, phase3_cells=phase3)
    return BuildStats(
        analysis_date=NIGHT,
        row_count=rows,
        dependency_rows={processor: draw(st.integers(0, 1)) for processor in PROCESSORS},
        blocks=blocks,
        required_nulls=draw(st.integers(0, 5 * rows)),
        newest_source_date=NIGHT - timedelta(days=draw(st.integers(0, 5))) if rows else None,
        left_out_count=players - rows,
        left_out=(),
    )


@given(any_night())
def test_every_figure_stays_in_its_range(stats: BuildStats) -> None:
    report = score(stats, BuildMode.NORMAL)

    assert 0 <= report.component_total <= report.quality_score <= 100
    assert 0 <= report.missing_rate <= report.fallback_rate <= 1
    assert round(sum(report.components.values()), 1) == report.component_total


@st.composite
def usable_night(draw: st.DrawFn) -> BuildStats:
    """Rows enough, required fields mostly filled, a tenth of each block missing at most; any part of it fallback."""
    rows = draw(st.integers(200, 500))
    with_game = draw(st.integers(0, rows))
    blocks = {}
    for name, cells_each in CELLS.items():
        applies = with_game if name == "team_defense" else rows
        present = applies * cells_each - draw(st.integers(0, applies * cells_each // 10))
        phase4 = draw(st.integers(0, present))
        blocks[name] = BlockCounts(
            players=applies, cells_each=cells_each, phase4_cells=phase4, phase3_cells=present - phase4
        )
    return BuildStats(
        analysis_date=NIGHT,
        row_count=rows,
        dependency_rows={processor: draw(st.integers(0, 1)) for processor in PROCESSORS},
        blocks=blocks,
        required_nulls=draw(st.integers(0, rows // 2)),
        newest_source_date=NIGHT - timedelta(days=draw(st.integers(0, 5))),
        left_out_count=0,
        left_out=(),
    )


@given(usable_night())
def test_no_fallback_alone_stops_a_usable_night(stats: BuildStats) -> None:
    report = score(stats, BuildMode.NORMAL)

    assert report.missing_rate <= 0.10
    assert report.quality_score >= 75


@given(any_night(), st.sampled_from(sorted(CELLS)))
def test_losing_a_cell_never_raises_the_score(stats: BuildStats, block: str) -> None:
    counts = stats.blocks[block]
    assume(counts.phase4_cells > 0)
    poorer = replace(counts, phase4_cells=counts.phase4_cells - 1, phase3_cells=counts.phase3_cells + 1)
    poorest = replace(counts, phase4_cells=counts.phase4_cells - 1)

    best, fallback, missing = (
        score(replace(stats, blocks={**stats.blocks, block: each}), BuildMode.NORMAL).quality_score
        for each in (counts, poorer, poorest)
    )

    assert best >= fallback >= missing


@pytest.mark.parametrize(
    ("stats", "sentence"),
    [
        (night(), "The score is the sum of the components."),
        (
            night(phase4=0.5, phase3=0.5),
            "The score is the higher of two counts: the sum of the components, 70.0, or, as models can use the rows, "
            "100 less the penalty for a fallback rate of 50.0%, 80.0.",
        ),
        (
            night(phase4=0.75, phase3=0.25),
            "The score is the higher of two counts: the sum of the components, 85.0, or, as models can use the rows, "
            "100 less the penalty for a fallback rate of 25.0%, 90.0.",
        ),
        (
            night(phase4=0.85, phase3=0.0),
            "The score is the sum of the components.",
        ),
        (
            night(phase4=0.5, phase3=0.35),
            "The score is the higher of two counts: the sum of the components, 70.0, or, as models can use the rows, "
            "100 less the penalty for a fallback rate of 50.0% and for 15.0% of missing blocks, 75.0.",
        ),
    ],
)
def test_one_sentence_explains_a_score_beside_the_sum_of_its_components(stats: BuildStats, sentence: str) -> None:
    report = score(stats, BuildMode.NORMAL)

    told = score_sentence(report.quality_score, report.component_total, report.fallback_rate, report.missing_rate)
    assert told == sentence
