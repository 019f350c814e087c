"""Every rule of the cell, one small night at a time: a literal table in, the published row out."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from statemachine.model import BuildMode, FailureKind, State
from tests.support.recomputed import tenths
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.builds.steps import run_build
from worker.builds.upstream import probe
from worker.errors import Fenced
from worker.features.model import BuildKey, BuildOutcome, BuildRequest, Statement
from worker.features.quality import QualityPolicy
from worker.pipelines.shipped import (
    BLOCKS,
    EXECUTION_TABLE,
    FEATURES,
    PLAYER_GAMES,
    PUBLISHED_TABLE,
    ROSTER,
    SCHEDULE,
    TEAM_DEFENSE,
    TEAM_OFFENSE,
    UPSTREAM,
    features_of,
)

NIGHT = date(2024, 12, 15)
NOW = datetime(2024, 12, 16, 4, 25, tzinfo=UTC)
EVENING = datetime(2024, 12, 16, 4, 10, tzinfo=UTC)
MORNING = datetime(2024, 12, 15, 11, 30, tzinfo=UTC)

TABLES = {block.name: block.table for block in BLOCKS}
DUCKDB_TYPES = {
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "STRING": "VARCHAR",
    "TIMESTAMP": "TIMESTAMPTZ",
}

OPEN_GATE = QualityPolicy(rows_min=1, score_min=0.0)

JOKIC, MURRAY = 203999, 1627750


class World:
    """A warehouse with empty upstream tables, and a short way to fill and to build it."""

    def __init__(self) -> None:
        self.warehouse = DuckDbWarehouse(":memory:")
        self.warehouse.ensure_tables()
        for table, columns in UPSTREAM.items():
            declared = ", ".join(f"{name} {DUCKDB_TYPES[kind]}" for name, kind in columns.items())
            self.execute(f"CREATE TABLE {table} ({declared})")

    def execute(self, sql: str, values: list[object] | None = None) -> None:
        with self.warehouse.writing("preparing the test") as cursor:
            cursor.execute(sql, values or [])

    def insert(self, table: str, **row: object) -> None:
        marks = ", ".join("?" for _ in row)
        self.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))  # noqa: S608 -- this file's own names

    def player(self, player_id: int = JOKIC, team: str | None = "DEN", **row: object) -> None:
        listed = {
            "snapshot_date": NIGHT,
            "player_id": player_id,
            "player_name": f"P{player_id}",
            "processed_at": MORNING,
        }
        self.insert(ROSTER, **(listed | {"team_abbreviation": team} | row))

    def game(self, home: str = "DEN", away: str = "LAL", day: date = NIGHT, game_id: str = "0022400001") -> None:
        self.insert(
            SCHEDULE,
            game_date=day,
            game_id=game_id,
            home_team_abbreviation=home,
            away_team_abbreviation=away,
            processed_at=MORNING,
        )

    def phase4(
        self, block: str, value: float, *, of: object = JOKIC, at: datetime = EVENING, **changed: object
    ) -> None:
        """A Phase 4 row with *value* in each of the block's features, but for those *changed*."""
        key = next(each.key for each in BLOCKS if each.name == block)
        row: dict[str, object] = {"analysis_date": NIGHT, key: of, "processed_at": at}
        self.insert(TABLES[block], **(row | {f.name: value for f in features_of(block)} | changed))

    def phase3(
        self,
        table: str,
        value: float,
        *,
        of: object = JOKIC,
        age_days: int = 1,
        at: datetime | None = None,
        **changed: object,
    ) -> None:
        """A Phase 3 row of a game *age_days* before the night, processed on the morning after it."""
        key = "player_id" if table == PLAYER_GAMES else "team_abbreviation"
        played = NIGHT - timedelta(days=age_days)
        processed = at or datetime(played.year, played.month, played.day, 11, 30, tzinfo=UTC) + timedelta(days=1)
        row: dict[str, object] = {"game_date": played, key: of, "processed_at": processed}
        values = {f.phase3.sql: value for f in FEATURES if f.phase3_table == table}
        self.insert(table, **(row | values | changed))

    def full_phase4(self, value: float = 4.0, player_id: int = JOKIC, opponent: str = "LAL") -> None:
        for block in ("composite", "player_shot", "daily_cache"):
            self.phase4(block, value, of=player_id)
        self.phase4("team_defense", value, of=opponent)

    def full_phase3(self, value: float = 3.0, player_id: int = JOKIC, team: str = "DEN", opponent: str = "LAL") -> None:
        self.phase3(PLAYER_GAMES, value, of=player_id)
        self.phase3(TEAM_OFFENSE, value, of=team)
        self.phase3(TEAM_DEFENSE, value, of=opponent)

    def build(
        self,
        generation: int = 1,
        attempt: int = 1,
        mode: BuildMode = BuildMode.NORMAL,
        *,
        as_of: datetime | None = None,
        lookback_days: int = 30,
        policy: QualityPolicy = OPEN_GATE,
        publish: bool = True,
        steps: list[str] | None = None,
    ) -> BuildOutcome:
        request = BuildRequest(
            key=BuildKey(analysis_date=NIGHT, generation=generation, attempt=attempt),
            mode=mode,
            trigger="join",
            phase3_lookback_days=lookback_days,
            as_of=as_of,
            started_at=NOW,
            claimant="worker-a",
        )
        said = [] if steps is None else steps
        return run_build(self.warehouse, request, now=lambda: NOW, progress=said.append, policy=policy, publish=publish)

    def select(self, table: str) -> list[Mapping[str, Any]]:
        sql = "SELECT * FROM that_table".replace("that_table", table)
        return list(self.warehouse.query(Statement(name="all", sql=sql)))

    def rows(self) -> dict[int, Mapping[str, Any]]:
        return {row["player_id"]: row for row in self.select(PUBLISHED_TABLE)}

    def row(self, generation: int = 1, **options: Any) -> Mapping[str, Any]:
        """Build, and give the one published row."""
        self.build(generation, **options)
        [row] = self.rows().values()
        return row

    def staged_tables(self) -> list[str]:
        with self.warehouse.writing("looking for staging tables") as cursor:
            found = cursor.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'mlfs_staging'")
            return [name for (name,) in found.fetchall()]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.warehouse.close()


def values(row: Mapping[str, Any], block: str) -> set[float | None]:
    return {row[feature.name] for feature in features_of(block)}


def test_phase4_comes_first(world: World) -> None:
    world.player()
    world.game()
    world.full_phase4(4.0)
    world.full_phase3(3.0)

    row = world.row()

    assert {row[feature.name] for feature in FEATURES} == {4.0}
    assert (row["data_source"], row["phase4_available"], row["phase3_fallback_used"]) == ("phase4", True, False)
    assert {row[f"{block.name}_source"] for block in BLOCKS} == {"phase4"}
    assert (row["phase3_features"], row["missing_features"]) == ([], [])
    assert (row["source_data_date"], row["quality_score"]) == (NIGHT, 100.0)
    assert (row["analysis_date"], row["player_name"]) == (NIGHT, "P203999")
    assert (row["team_abbreviation"], row["opponent_abbreviation"], row["has_game"]) == ("DEN", "LAL", True)
    assert (row["build_generation"], row["build_id"], row["processed_at"]) == (1, "2024-12-15-g1-a1", NOW)


def test_phase3_fills_what_phase4_lacks(world: World) -> None:
    world.player()
    world.game()
    world.full_phase3(3.0)

    row = world.row()

    assert {row[feature.name] for feature in FEATURES} == {3.0}
    assert (row["data_source"], row["phase4_available"], row["phase3_fallback_used"]) == ("phase3", False, True)
    assert {row[f"{block.name}_source"] for block in BLOCKS} == {"phase3"}
    assert row["phase3_features"] == [feature.name for feature in FEATURES]
    assert (row["source_data_date"], row["quality_score"]) == (NIGHT - timedelta(days=1), 75.0)


def test_the_rule_is_per_cell(world: World) -> None:
    """One NULL cell of a block of n comes from Phase 3: x = 1/4n, so the row loses 100/4n points (n = 12: 100/48)."""
    world.player()
    world.game()
    world.full_phase3(3.0)
    for block in ("player_shot", "daily_cache"):
        world.phase4(block, 4.0)
    world.phase4("team_defense", 4.0, of="LAL")
    world.phase4("composite", 4.0, usage_rate=None)

    row = world.row()

    assert (row["usage_rate"], row["offensive_rating"]) == (3.0, 4.0)
    assert (row["composite_source"], row["daily_cache_source"], row["data_source"]) == ("mixed", "phase4", "mixed")
    assert row["phase3_features"] == ["usage_rate"]
    assert row["source_data_date"] == NIGHT
    assert row["quality_score"] == tenths(100 - Fraction(100, 4 * len(features_of("composite"))))


def test_a_cell_in_neither_phase_is_missing(world: World) -> None:
    world.player()
    world.phase4("composite", 4.0, usage_rate=None)

    row = world.row()

    assert row["usage_rate"] is None
    assert (row["composite_source"], row["player_shot_source"], row["daily_cache_source"]) == (
        "phase4",
        "missing",
        "missing",
    )
    assert row["data_source"] == "phase4"
    assert row["missing_features"] == [
        "usage_rate",
        *(feature.name for feature in FEATURES if feature.block in {"player_shot", "daily_cache"}),
    ]
    assert row["quality_score"] == 78.1  # x = (1/12 + 1 + 1) / 3 = 25/36, penalty 20 + 10 (x - 0.5)


def test_without_a_game_team_defense_does_not_apply(world: World) -> None:
    world.player(team="CHI")
    world.game("DEN", "LAL")
    world.full_phase4()

    row = world.row()

    assert (row["has_game"], row["opponent_abbreviation"], row["team_defense_source"]) == (False, None, None)
    assert values(row, "team_defense") == {None}
    assert (row["missing_features"], row["quality_score"], row["data_source"]) == ([], 100.0, "phase4")


@pytest.mark.parametrize("team", ["CHI", None])
def test_a_block_that_does_not_apply_does_not_count(world: World, team: str | None) -> None:
    world.player(team=team)
    world.game("DEN", "LAL")
    world.full_phase4()

    assert world.build().stats.blocks["team_defense"].players == 0
    assert world.build(2).report.quality_score == 95.0  # all but row_completeness
    assert world.build(3).report.fallback_rate == 0.0


@pytest.mark.parametrize(("team", "opponent"), [("DEN", "LAL"), ("LAL", "DEN")])
def test_the_opponent_is_the_other_team_of_the_game(world: World, team: str, opponent: str) -> None:
    world.player(team=team)
    world.game("DEN", "LAL")
    world.full_phase4(4.0, opponent=opponent)
    world.phase4("team_defense", 9.0, of=team)

    row = world.row()

    assert (row["opponent_abbreviation"], values(row, "team_defense")) == (opponent, {4.0})


def test_another_days_game_is_no_game(world: World) -> None:
    world.player()
    world.game(day=NIGHT - timedelta(days=1))
    world.game(day=NIGHT + timedelta(days=1))
    world.full_phase4()

    assert world.row()["has_game"] is False


def test_the_latest_phase3_row_counts(world: World) -> None:
    world.player()
    world.phase3(PLAYER_GAMES, 1.0, age_days=9)
    world.phase3(PLAYER_GAMES, 3.0, age_days=4)
    world.phase3(PLAYER_GAMES, 2.0, age_days=5)

    row = world.row()

    assert row["points_projection"] == 3.0
    assert row["source_data_date"] == NIGHT - timedelta(days=4)


def test_the_latest_row_counts_also_where_it_is_null(world: World) -> None:
    world.player()
    world.phase3(PLAYER_GAMES, 1.0, age_days=2)
    world.phase3(PLAYER_GAMES, 3.0, age_days=1, usage_rate=None)

    row = world.row()

    assert (row["usage_rate"], row["points_projection"]) == (None, 3.0)
    assert "usage_rate" in row["missing_features"]


def test_a_corrected_game_counts_in_its_last_version(world: World) -> None:
    """Two versions of one game: the one processed later stands, whatever order they were written in."""
    world.player()
    world.phase3(PLAYER_GAMES, 8.0, age_days=3, at=MORNING)
    world.phase3(PLAYER_GAMES, 7.0, age_days=3)

    assert world.row()["points_projection"] == 8.0


@pytest.mark.parametrize(("age_days", "kept"), [(0, False), (1, True), (30, True), (31, False)])
def test_the_lookback_ends_the_day_before_and_begins_30_days_before(world: World, age_days: int, *, kept: bool) -> None:
    world.player()
    world.phase3(PLAYER_GAMES, 3.0, age_days=age_days)

    outcome = world.build()

    assert outcome.stats.row_count == int(kept)


def test_the_lookback_can_be_one_day(world: World) -> None:
    world.player()
    world.phase3(PLAYER_GAMES, 3.0, age_days=2)

    assert world.build(lookback_days=1).failure is FailureKind.NO_DATA
    assert world.build(2, lookback_days=2).published


def test_pace_falls_back_to_the_players_own_team(world: World) -> None:
    world.player(team="DEN")
    world.phase3(PLAYER_GAMES, 3.0)
    world.phase3(TEAM_OFFENSE, 98.5, of="DEN")
    world.phase3(TEAM_OFFENSE, 101.5, of="LAL")

    assert world.row()["pace"] == 98.5


def test_a_traded_player_takes_his_new_team(world: World) -> None:
    """Two entries on one list: the newer one gives the team, and with it opponent and pace."""
    world.player(team="BKN")
    world.player(team="GSW", processed_at=MORNING + timedelta(hours=4))
    world.game("GSW", "MEM")
    world.phase3(PLAYER_GAMES, 3.0)
    world.phase3(TEAM_OFFENSE, 98.0, of="BKN")
    world.phase3(TEAM_OFFENSE, 101.0, of="GSW")
    world.phase4("team_defense", 4.0, of="MEM")

    row = world.row()

    assert (row["team_abbreviation"], row["opponent_abbreviation"], row["pace"]) == ("GSW", "MEM", 101.0)


def test_the_newest_of_two_phase4_rows_counts_and_rows_never_multiply(world: World) -> None:
    world.player()
    world.game()
    world.game(game_id="0022400002")
    world.full_phase4(4.0)
    for block in ("composite", "player_shot", "daily_cache"):
        world.phase4(block, 5.0, at=EVENING + timedelta(minutes=5))
    world.phase4("team_defense", 5.0, of="LAL", at=EVENING + timedelta(minutes=5))
    world.phase4("composite", 1.0, at=EVENING - timedelta(minutes=5))

    row = world.row()

    assert {row[feature.name] for feature in FEATURES} == {5.0}


def test_phase4_of_another_date_is_not_used(world: World) -> None:
    world.player()
    world.phase3(PLAYER_GAMES, 3.0)
    for days in (-1, 1):
        world.phase4("composite", 4.0, analysis_date=NIGHT + timedelta(days=days))

    assert world.row()["data_source"] == "phase3"


def test_a_forced_fallback_ignores_phase4_but_reports_it(world: World) -> None:
    world.player()
    world.game()
    world.full_phase4(4.0)
    world.full_phase3(3.0)

    outcome = world.build(mode=BuildMode.FORCED_FALLBACK)
    [row] = world.rows().values()

    assert {row[feature.name] for feature in FEATURES} == {3.0}
    assert row["quality_score"] == 75.0
    assert set(outcome.stats.dependency_rows.values()) == {1}
    assert outcome.report.components["dependency_completeness"] == 15.0
    assert outcome.report.earned_state is State.DEGRADED


def test_as_of_hides_what_was_processed_later(world: World) -> None:
    world.player()
    world.phase4("composite", 4.0, at=EVENING)
    world.phase3(PLAYER_GAMES, 2.0, age_days=2)
    world.phase3(PLAYER_GAMES, 3.0, age_days=1, at=EVENING - timedelta(minutes=1))

    before = world.row(1, as_of=EVENING - timedelta(minutes=2))
    between = world.row(2, as_of=EVENING - timedelta(minutes=1))
    exactly = world.row(3, as_of=EVENING)

    assert [row["points_projection"] for row in (before, between, exactly)] == [2.0, 3.0, 4.0]


def test_as_of_also_limits_the_dependencies(world: World) -> None:
    world.player()
    world.phase3(PLAYER_GAMES, 2.0)
    world.phase4("composite", 4.0, at=EVENING)

    outcome = world.build(as_of=EVENING - timedelta(minutes=2))

    assert outcome.stats.dependency_rows["player_composite_factors"] == 0
    assert probe(world.warehouse, NIGHT)["player_composite_factors"] == 1


def test_a_player_without_a_projection_is_left_out_and_reported(world: World) -> None:
    world.player(JOKIC)
    world.player(MURRAY)
    world.full_phase4(player_id=JOKIC)
    world.phase4("composite", 4.0, of=MURRAY, points_projection=None)
    world.phase4("player_shot", 4.0, of=MURRAY)

    outcome = world.build()

    assert set(world.rows()) == {JOKIC}
    [left_out] = outcome.stats.left_out
    assert (outcome.stats.left_out_count, left_out.key, left_out.identity["team_abbreviation"]) == (1, MURRAY, "DEN")
    assert left_out.reason == "no points_projection in Phase 4 or Phase 3"
    assert outcome.report.missing_rate == 0.5
    assert outcome.report.fallback_rate == 0.5


def test_a_player_on_no_list_gets_no_row(world: World) -> None:
    world.player(JOKIC)
    world.player(MURRAY, snapshot_date=NIGHT - timedelta(days=1))
    world.full_phase4(player_id=JOKIC)
    world.full_phase4(player_id=MURRAY)

    world.build()

    assert set(world.rows()) == {JOKIC}


@pytest.mark.parametrize(
    ("from_phase4", "expected"),
    [
        (("composite", "player_shot", "daily_cache", "team_defense"), 100.0),
        (("composite", "player_shot", "daily_cache"), 90.0),
        (("composite", "player_shot"), 80.0),
        (("composite",), 77.5),
        ((), 75.0),
    ],
)
def test_the_row_score_follows_the_penalty_line(world: World, from_phase4: tuple[str, ...], expected: float) -> None:
    world.player()
    world.game()
    world.full_phase3()
    for block in from_phase4:
        world.phase4(block, 4.0, of="LAL" if block == "team_defense" else JOKIC)

    assert world.row()["quality_score"] == expected


@pytest.mark.parametrize(
    ("lacking", "intercept", "slope"),
    [
        (2, 100, 100),  # x = 2/48, on the first stretch: 95.8
        (3, Fraction("96.25"), 25),  # x = 3/48, on the second: 94.7
        (None, 100, 40),  # all, x = 1/4, where the second meets the third: 90.0
    ],
)
def test_a_few_cells_from_phase3_cost_a_few_points(
    world: World, lacking: int | None, intercept: Fraction | int, slope: int
) -> None:
    composite = [feature.name for feature in features_of("composite")]
    blank = composite[:lacking]
    world.player()
    world.game()
    world.full_phase3()
    for block in ("player_shot", "daily_cache"):
        world.phase4(block, 4.0)
    world.phase4("team_defense", 4.0, of="LAL")
    world.phase4("composite", 4.0, **dict.fromkeys(blank))

    assert world.row()["quality_score"] == tenths(intercept - slope * Fraction(len(blank), 4 * len(composite)))


@pytest.mark.parametrize(("offense_age", "defense_age", "expected_age"), [(2, 4, 2), (4, 1, 1), (9, 9, 5)])
def test_the_source_date_is_the_newest_of_the_rows_used(
    world: World, offense_age: int, defense_age: int, expected_age: int
) -> None:
    world.player()
    world.game()
    world.phase3(PLAYER_GAMES, 3.0, age_days=5)
    world.phase3(TEAM_OFFENSE, 3.0, of="DEN", age_days=offense_age)
    world.phase3(TEAM_DEFENSE, 3.0, of="LAL", age_days=defense_age)

    assert world.row()["source_data_date"] == NIGHT - timedelta(days=expected_age)


def test_a_row_that_gave_no_cell_gives_no_date(world: World) -> None:
    world.player()
    world.phase3(PLAYER_GAMES, 3.0, age_days=5)
    world.phase3(TEAM_OFFENSE, 3.0, of="DEN", age_days=1, pace=None)

    assert world.row()["source_data_date"] == NIGHT - timedelta(days=5)


def test_a_defense_row_that_gave_no_cell_gives_no_date(world: World) -> None:
    world.player()
    world.game()
    world.phase3(PLAYER_GAMES, 3.0, age_days=5)
    blank = dict.fromkeys(feature.name for feature in features_of("team_defense"))
    world.phase3(TEAM_DEFENSE, 3.0, of="LAL", age_days=1, **blank)

    assert world.row()["source_data_date"] == NIGHT - timedelta(days=5)


def test_of_two_rows_of_one_instant_one_counts_whole(world: World) -> None:
    """Which of them is left open; a mixture of both would be a row that nobody wrote."""
    world.player()
    for value in (4.0, 5.0):
        world.phase4("composite", value)
        world.phase4("daily_cache", value)

    row = world.row()

    assert [len(values(row, block)) for block in ("composite", "daily_cache")] == [1, 1]
    assert values(row, "composite") | values(row, "daily_cache") <= {4.0, 5.0}


def test_a_row_score_on_the_half_rounds_away_from_zero(world: World) -> None:
    """Six of twelve composite cells and nothing else: x = 42/48 = 0.875, 100 - 23.75 = 76.25."""
    world.player()
    world.game()
    world.full_phase3()
    lacking = dict.fromkeys([feature.name for feature in features_of("composite")][:6])
    world.phase4("composite", 4.0, **lacking)

    assert world.row()["quality_score"] == 76.3


def test_the_steps_are_reported_with_what_they_counted(world: World) -> None:
    world.player()
    world.game()
    world.full_phase4()
    steps: list[str] = []

    world.build(steps=steps)

    assert steps == ["validate 9 tables", "dependencies 4 of 4", "stage 1 rows", "score 95.0", "publish 1 rows"]


@pytest.mark.parametrize("attempt", [1, 2])
def test_building_a_committed_generation_again_changes_nothing(world: World, attempt: int) -> None:
    """Also not the same attempt: whoever lost the reply reads it off the ledger."""
    world.player()
    world.full_phase4(4.0)
    world.build()
    before = (world.select(PUBLISHED_TABLE), world.select(EXECUTION_TABLE))
    world.phase4("composite", 9.0, at=EVENING + timedelta(hours=1))

    with pytest.raises(Fenced, match="2024-12-15-g1-a1 already did"):
        world.build(attempt=attempt)

    assert (world.select(PUBLISHED_TABLE), world.select(EXECUTION_TABLE)) == before
    assert world.staged_tables() == []


def test_an_older_attempt_is_fenced_and_leaves_nothing_behind(world: World) -> None:
    world.player()
    world.full_phase4(4.0)
    world.build(generation=2)
    before = (world.select(PUBLISHED_TABLE), world.select(EXECUTION_TABLE))

    with pytest.raises(Fenced):
        world.build(generation=1, attempt=7)

    assert (world.select(PUBLISHED_TABLE), world.select(EXECUTION_TABLE)) == before
    assert world.staged_tables() == []


def test_a_newer_generation_replaces_the_rows(world: World) -> None:
    world.player(JOKIC)
    world.player(MURRAY)
    world.phase3(PLAYER_GAMES, 3.0, of=JOKIC)
    world.phase3(PLAYER_GAMES, 3.0, of=MURRAY)
    world.build()
    world.execute("DELETE FROM nba_raw.nbac_player_list WHERE player_id = ?", [MURRAY])
    world.full_phase4(4.0)

    row = world.row(2)

    assert (row["points_projection"], row["build_generation"]) == (4.0, 2)


def test_a_refused_build_leaves_the_published_rows_visible(world: World) -> None:
    world.player()
    world.full_phase4(4.0)
    world.build()
    before = world.select(PUBLISHED_TABLE)

    outcome = world.build(generation=2, policy=QualityPolicy())

    assert (outcome.published, outcome.failure) == (False, FailureKind.GATE_REFUSED)
    assert outcome.message == "1 rows, 200 needed"
    assert world.select(PUBLISHED_TABLE) == before
    assert world.staged_tables() == []
    assert [(row["state"], row["error"]) for row in world.select(EXECUTION_TABLE)] == [
        ("degraded", None),
        ("failed", "1 rows, 200 needed"),
    ]


@pytest.mark.parametrize(
    ("listed", "failure", "says"),
    [
        (True, FailureKind.NO_DATA, "2024-12-15: none of 1 active players has points_projection in either phase"),
        (False, FailureKind.NO_ROSTER, f"2024-12-15: {ROSTER} holds no active players of the date"),
    ],
)
def test_a_night_without_data_is_an_outcome(world: World, *, listed: bool, failure: FailureKind, says: str) -> None:
    if listed:
        world.player()

    outcome = world.build()

    assert (outcome.published, outcome.failure) == (False, failure)
    assert outcome.message.startswith(says)
    assert ("--source yesterday" in outcome.message) != listed
    assert world.warehouse.read_ledger(NIGHT) is None
    assert world.select(EXECUTION_TABLE)[0]["state"] == "failed"


def test_a_dry_run_writes_nothing_down(world: World) -> None:
    world.player()
    world.full_phase4(4.0)

    outcome = world.build(publish=False)

    assert (outcome.published, outcome.failure, outcome.report.quality_score) == (False, None, 95.0)
    assert (world.select(PUBLISHED_TABLE), world.select(EXECUTION_TABLE), world.staged_tables()) == ([], [], [])


def test_a_column_of_whole_numbers_is_no_drift(world: World) -> None:
    world.player()
    world.full_phase4(4.0)
    world.execute("ALTER TABLE nba_precompute.player_daily_cache ALTER season_avg_ppg TYPE BIGINT")

    assert world.row()["season_avg_ppg"] == 4.0


def test_the_probe_counts_rows_per_processor(world: World) -> None:
    world.player()
    world.phase4("player_shot", 4.0, of=JOKIC)
    world.phase4("player_shot", 4.0, of=MURRAY)
    world.phase4("team_defense", 4.0, of="LAL")

    assert probe(world.warehouse, NIGHT) == {
        "team_defense_zone_analysis": 1,
        "player_shot_zone_analysis": 2,
        "player_composite_factors": 0,
        "player_daily_cache": 0,
    }
