"""Forty-nine real nights, built both ways and worked out a second time here, cell by cell, in plain Python.

The second calculation shares no code with the build: lists of dictionaries, loops and exact decimals, written from the
rules. It reads the Parquet files with DuckDB as a file reader only. Skipped where the data is not at hand.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import pytest

from statemachine.model import BuildMode
from worker.adapters.warehouse_duckdb import DuckDbWarehouse
from worker.building import run_build
from worker.features.model import BuildKey, BuildOutcome, BuildRequest, Statement
from worker.local.warehouse_loading import delete_slice, load_parquet_folder, load_parquet_slice

DATA = Path(__file__).parents[3] / "shared" / "nba"

pytestmark = pytest.mark.skipif(
    not (DATA / "nba_precompute.player_composite_factors.parquet").is_file(),
    reason="the real NBA nights are not beside the project (../shared/nba)",
)

NIGHTS = [date(2024, 11, 1) + timedelta(days=day) for day in range(49)]
GOLDEN = date(2024, 12, 15)
NOW = datetime(2024, 12, 20, 12, tzinfo=UTC)
LOOKBACK_DAYS = 30

Row = Mapping[str, Any]

PROCESSORS = {
    "team_defense": "team_defense_zone_analysis",
    "player_shot": "player_shot_zone_analysis",
    "composite": "player_composite_factors",
    "daily_cache": "player_daily_cache",
}
CELLS = {
    "team_defense": ["opponent_def_rating", "opponent_rim_protection_rating", "opponent_perimeter_def_rating"],
    "player_shot": [
        "restricted_area_shot_pct",
        "paint_shot_pct",
        "mid_range_shot_pct",
        "three_point_attempt_rate",
    ],
    "composite": [
        "offensive_rating",
        "usage_rate",
        "true_shooting_pct",
        "points_per_36",
        "defensive_rating",
        "defensive_win_shares",
        "steal_rate",
        "block_rate",
        "points_projection",
        "rebounds_projection",
        "assists_projection",
        "pace",
    ],
    "daily_cache": ["last_5_games_ppg", "last_10_games_ppg", "season_avg_ppg"],
}
REQUIRED = ["points_projection", "rebounds_projection", "assists_projection", "offensive_rating", "defensive_rating"]


def read(table: str) -> list[Row]:
    relation = duckdb.read_parquet(str(DATA / f"{table}.parquet"))
    return [dict(zip(relation.columns, values, strict=True)) for values in relation.fetchall()]


@dataclass
class Sources:
    """The files as Python rows, by what the rules look them up with."""

    roster: dict[date, list[Row]]
    opponents: dict[date, dict[str, str]]
    phase4: dict[str, dict[tuple[date, Any], Row]]
    player_games: dict[int, list[Row]]
    offense: dict[str, list[Row]]
    defense: dict[str, list[Row]]


def grouped(rows: list[Row], key: str) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


@pytest.fixture(scope="module")
def sources() -> Sources:
    opponents: dict[date, dict[str, str]] = {}
    for game in read("nba_raw.nbac_schedule"):
        tonight = opponents.setdefault(game["game_date"], {})
        tonight[game["home_team_abbreviation"]] = game["away_team_abbreviation"]
        tonight[game["away_team_abbreviation"]] = game["home_team_abbreviation"]
    phase4 = {}
    for block, processor in PROCESSORS.items():
        key = "team_abbreviation" if block == "team_defense" else "player_id"
        phase4[block] = {(row["analysis_date"], row[key]): row for row in read(f"nba_precompute.{processor}")}
    return Sources(
        roster=grouped(read("nba_raw.nbac_player_list"), "snapshot_date"),
        opponents=opponents,
        phase4=phase4,
        player_games=grouped(read("nba_analytics.player_game_summary"), "player_id"),
        offense=grouped(read("nba_analytics.team_offense_game_summary"), "team_abbreviation"),
        defense=grouped(read("nba_analytics.team_defense_game_summary"), "team_abbreviation"),
    )


class Night:
    """A real warehouse that knows how often each date was built."""

    def __init__(self) -> None:
        self.warehouse = DuckDbWarehouse(":memory:")
        self.warehouse.ensure_tables()
        load_parquet_folder(self.warehouse, DATA)
        self.generations: dict[date, int] = {}

    def build(self, night: date, mode: BuildMode = BuildMode.NORMAL) -> BuildOutcome:
        self.generations[night] = self.generations.get(night, 0) + 1
        request = BuildRequest(
            key=BuildKey(analysis_date=night, generation=self.generations[night], attempt=1),
            mode=mode,
            trigger="join",
            phase3_lookback_days=LOOKBACK_DAYS,
            as_of=None,
            started_at=NOW,
            claimant="worker-a",
        )
        return run_build(self.warehouse, request, now=lambda: NOW)

    @contextmanager
    def without(self, blocks: Collection[str], night: date) -> Iterator[None]:
        """Take the night's rows out of these processors' tables for the length of a block."""
        tables = [f"nba_precompute.{PROCESSORS[block]}" for block in blocks]
        for table in tables:
            delete_slice(self.warehouse, table, night)
        try:
            yield
        finally:
            for table in tables:
                load_parquet_slice(self.warehouse, DATA / f"{table}.parquet", night)

    def published(self, night: date) -> dict[int, Row]:
        sql = "SELECT * FROM nba_predictions.ml_feature_store_v2 WHERE analysis_date = @night"
        rows = self.warehouse.query(Statement(name="published", sql=sql, parameters={"night": night}))
        return {row["player_id"]: row for row in rows}


@pytest.fixture(scope="module")
def night() -> Iterator[Night]:
    made = Night()
    yield made
    made.warehouse.close()


def latest(rows: list[Row] | None, night: date) -> Row:
    within = [row for row in rows or [] if night - timedelta(days=LOOKBACK_DAYS) <= row["game_date"] < night]
    return max(within, key=lambda row: (row["game_date"], row["processed_at"]), default={})


def label(phases: set[int]) -> str:
    return {frozenset(): "missing", frozenset({4}): "phase4", frozenset({3}): "phase3"}.get(frozenset(phases), "mixed")


def tenths(value: Fraction) -> float:
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return float(exact.quantize(Decimal("0.1"), rounding=ROUND_HALF_UP))


def points_lost(x: Fraction) -> Fraction:
    if x <= Fraction("0.05"):
        return 100 * x
    if x <= Fraction("0.25"):
        return 5 + (x - Fraction("0.05")) / Fraction("0.20") * 5
    if x <= Fraction("0.50"):
        return 10 + (x - Fraction("0.25")) / Fraction("0.25") * 10
    return 20 + (x - Fraction("0.50")) / Fraction("0.50") * 5


@dataclass
class Player:
    """One active player, worked out by hand."""

    row: dict[str, Any]
    applicable: list[str]
    from_phase: dict[str, int]
    """Feature -> 4 or 3; absent where neither phase has a value."""

    def share(self, phase: int) -> Fraction:
        """The player's blocks filled from a phase, each counted by its share of cells."""
        return sum(
            (
                Fraction(sum(1 for cell in CELLS[block] if self.from_phase.get(cell) == phase), len(CELLS[block]))
                for block in self.applicable
            ),
            Fraction(0),
        )


def work_out(sources: Sources, night: date, listed: Row, absent: set[str]) -> Player:
    player, team = listed["player_id"], listed["team_abbreviation"]
    opponent = sources.opponents.get(night, {}).get(team)
    applicable = [block for block in CELLS if block != "team_defense" or opponent]
    game = latest(sources.player_games.get(player), night)
    offense = latest(sources.offense.get(team), night)
    defense = latest(sources.defense.get(opponent), night) if opponent else {}
    row: dict[str, Any] = {cell: None for cells in CELLS.values() for cell in cells}
    from_phase: dict[str, int] = {}
    dates: list[date] = []
    for block in applicable:
        key = opponent if block == "team_defense" else player
        phase4 = {} if block in absent else sources.phase4[block].get((night, key), {})
        for cell in CELLS[block]:
            phase3 = defense if block == "team_defense" else offense if cell == "pace" else game
            if phase4.get(cell) is not None:
                row[cell], from_phase[cell] = phase4[cell], 4
                dates.append(night)
            elif phase3.get(cell) is not None:
                row[cell], from_phase[cell] = phase3[cell], 3
                dates.append(phase3["game_date"])
    worked_out = Player(row=row, applicable=applicable, from_phase=from_phase)
    row |= {
        "analysis_date": night,
        "player_id": player,
        "player_name": listed["player_name"],
        "team_abbreviation": team,
        "opponent_abbreviation": opponent,
        "has_game": opponent is not None,
        "data_source": label(set(from_phase.values())),
        "phase4_available": 4 in from_phase.values(),
        "phase3_fallback_used": 3 in from_phase.values(),
        "source_data_date": max(dates, default=None),
        "quality_score": tenths(100 - points_lost(1 - worked_out.share(4) / len(applicable))),
    }
    for block, cells in CELLS.items():
        phases = {from_phase[cell] for cell in cells if cell in from_phase}
        row[f"{block}_source"] = label(phases) if block in applicable else None
    return worked_out


def worked_out_night(sources: Sources, night: date, absent: set[str]) -> list[Player]:
    return [work_out(sources, night, listed, absent) for listed in sources.roster[night]]


def expected_report(
    players: list[Player], night: date, filled_tables: int
) -> tuple[list[float], float, float, Fraction, Fraction]:
    """Components in the document's order, their total, the score, the fallback rate and the missing rate."""
    rows = [player for player in players if player.row["points_projection"] is not None]
    blocks = sum(len(player.applicable) for player in players)
    p4 = sum((player.share(4) for player in rows), Fraction(0)) / blocks
    p3 = sum((player.share(3) for player in rows), Fraction(0)) / blocks
    x, missing = 1 - p4, 1 - p4 - p3
    nulls = sum(1 for player in rows for field in REQUIRED if player.row[field] is None)
    age = (night - max(player.row["source_data_date"] for player in rows)).days
    steps = [points for rows_min, points in ((400, 5), (300, 4), (200, 3), (100, 1), (0, 0)) if len(rows) >= rows_min]
    components = [
        tenths(40 * p4),
        tenths(20 - 20 * x),
        float({0: 15, 1: 12, 2: 8}.get(age, 0)),
        tenths(Fraction(15 * filled_tables, 4)),
        float(steps[0]),
        tenths(5 - Fraction(5 * nulls, 5 * len(rows))),
    ]
    total = round(sum(components), 1)
    score = total
    if len(rows) >= 200 and Fraction(nulls, 5 * len(rows)) <= Fraction("0.1"):
        score = max(total, tenths(100 - points_lost(x) - 100 * max(Fraction(0), missing - Fraction("0.1"))))
    return components, total, score, x, missing


def assert_built_as_worked_out(
    sources: Sources, night: Night, outcome: BuildOutcome, absent: set[str], filled_tables: int
) -> None:
    day = outcome.request.key.analysis_date
    players = worked_out_night(sources, day, absent)
    expected = {p.row["player_id"]: p for p in players if p.row["points_projection"] is not None}
    published = night.published(day)
    assert outcome.published, outcome.message
    assert set(published) == set(expected)
    assert outcome.stats.left_out_count == len(players) - len(expected)
    for player_id, worked_out in expected.items():
        row = published[player_id]
        wanted_cells = {cell for block in worked_out.applicable for cell in CELLS[block]}
        assert {name: row[name] for name in worked_out.row} == worked_out.row
        assert sorted(row["phase3_features"]) == sorted(c for c, phase in worked_out.from_phase.items() if phase == 3)
        assert sorted(row["missing_features"]) == sorted(wanted_cells - set(worked_out.from_phase))
    components, total, score, x, missing = expected_report(players, day, filled_tables)
    report = outcome.report
    assert list(report.components.values()) == components
    assert (report.row_count, report.component_total, report.quality_score) == (len(expected), total, score)
    assert (report.fallback_rate, report.missing_rate) == (float(x), float(missing))


@pytest.mark.parametrize("day", NIGHTS, ids=str)
def test_a_real_night_from_phase4(sources: Sources, night: Night, day: date) -> None:
    outcome = night.build(day)

    assert_built_as_worked_out(sources, night, outcome, absent=set(), filled_tables=4)
    assert outcome.report.earned_state == "done"


@pytest.mark.parametrize("day", NIGHTS, ids=str)
def test_a_real_night_forced_to_phase3(sources: Sources, night: Night, day: date) -> None:
    outcome = night.build(day, BuildMode.FORCED_FALLBACK)

    assert_built_as_worked_out(sources, night, outcome, absent=set(CELLS), filled_tables=4)
    assert outcome.report.earned_state == "degraded"


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
def test_the_golden_night_without_some_tables(sources: Sources, night: Night, lost: frozenset[str]) -> None:
    """2024-12-15 without any subset of the four tables; the ruling names the scores of nine of the sixteen."""
    with night.without(lost, GOLDEN):
        outcome = night.build(GOLDEN)

    assert_built_as_worked_out(sources, night, outcome, absent=set(lost), filled_tables=4 - len(lost))
    assert outcome.report.quality_score == GOLDEN_SCORES.get(lost, outcome.report.quality_score)


def test_the_golden_night_forced_is_worth_exactly_75(night: Night) -> None:
    assert night.build(GOLDEN, BuildMode.FORCED_FALLBACK).report.quality_score == 75.0


def test_a_lost_table_that_comes_back_restores_the_score(night: Night) -> None:
    with night.without({"daily_cache"}, GOLDEN):
        without = night.build(GOLDEN).report.quality_score

    assert (without, night.build(GOLDEN).report.quality_score) == (88.4, 99.9)


def test_as_of_the_evening_sees_what_was_there_then(night: Night) -> None:
    """At 23:12 on the night itself two of the four processors had written: exactly their blocks are from Phase 4."""
    request = BuildRequest(
        key=BuildKey(analysis_date=GOLDEN, generation=1, attempt=1),
        mode=BuildMode.NORMAL,
        trigger="replay",
        phase3_lookback_days=LOOKBACK_DAYS,
        as_of=datetime(2024, 12, 16, 4, 12, tzinfo=UTC),
        started_at=NOW,
        claimant="worker-a",
    )

    outcome = run_build(night.warehouse, request, now=lambda: NOW, publish=False)

    assert {name: rows > 0 for name, rows in outcome.stats.dependency_rows.items()} == {
        "team_defense_zone_analysis": True,
        "player_shot_zone_analysis": True,
        "player_composite_factors": False,
        "player_daily_cache": False,
    }
    assert outcome.report.quality_score == 79.2
