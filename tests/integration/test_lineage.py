"""`mlfs lineage` is true: each cell's source, evidence and reason agree with the tables and with what was published."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from statemachine.model import BuildMode
from tests.support.league import SATURDAY, SUNDAY, League, built_at
from worker.errors import Refused
from worker.features.model import Statement
from worker.features.pipeline import Block, Feature
from worker.features.profile import Profile
from worker.lineage.cells import NO_GAME, FeatureLineage
from worker.lineage.row import RowLineage, find_player, trace_row
from worker.pipelines.shipped import BLOCKS, FEATURES, PUBLISHED_TABLE

DAILY_CACHE = "nba_precompute.player_daily_cache"
LATER = built_at(SUNDAY) + timedelta(hours=1)
ROWS_CHECKED = 12


@pytest.fixture
def league() -> Iterator[League]:
    league = League()
    yield league
    league.warehouse.close()


@pytest.fixture(scope="module")
def mixed() -> Iterator[League]:
    """Sunday with holes in Phase 4: rows and values that are not there, and one table without a row."""
    league = League()
    league.execute(
        "DELETE FROM nba_precompute.player_composite_factors WHERE analysis_date = ? AND player_id % 3 = 0", [SUNDAY]
    )
    league.execute(
        "UPDATE nba_precompute.player_composite_factors SET usage_rate = NULL, pace = NULL WHERE player_id % 3 = 1"
    )
    league.execute("DELETE FROM nba_precompute.player_daily_cache WHERE analysis_date = ?", [SUNDAY])
    league.build(SUNDAY)
    yield league
    league.warehouse.close()


def by_name(traced: RowLineage) -> Mapping[str, FeatureLineage]:
    return {feature.name: feature for feature in traced.features}


def players(league: League, where: str) -> list[int]:
    sql = f"SELECT player_id FROM {PUBLISHED_TABLE} WHERE analysis_date = @night AND {where} ORDER BY player_id"  # noqa: S608
    return [row["player_id"] for row in league.query(sql, night=SUNDAY)]


def one_in(league: League, feature: FeatureLineage, of: Feature, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The upstream row that the lineage names, read straight from its table."""
    day = "analysis_date" if feature.source == "phase4" else "game_date"
    block = next(block for block in BLOCKS if block.name == of.block)
    is_player = "player_game" in str(feature.source_table) or (feature.source == "phase4" and block.key == "player_id")
    team = row["team_abbreviation"] if of.name == "pace" else row["opponent_abbreviation"]
    key, value = ("player_id", row["player_id"]) if is_player else ("team_abbreviation", team)
    [found] = league.query(
        f"SELECT * FROM {feature.source_table} WHERE {day} = @day AND {key} = @key",  # noqa: S608
        day=feature.source_date,
        key=value,
    )
    return found


@pytest.mark.parametrize("where", ["player_id > 0 AND has_game", "NOT has_game", "ARRAY_LENGTH(missing_features) > 0"])
def test_every_cell_names_the_row_that_holds_its_value(mixed: League, where: str) -> None:
    published = mixed.published(SUNDAY)
    chosen = players(mixed, where)[:ROWS_CHECKED]
    assert chosen

    for player_id in chosen:
        row, traced = published[player_id], trace_row(mixed.warehouse, SUNDAY, player_id)
        assert [feature.name for feature in traced.features] == [feature.name for feature in FEATURES]
        assert traced.changes == ()
        for feature, told in zip(FEATURES, traced.features, strict=True):
            assert (told.value, told.unit, told.changed) == (row[feature.name], feature.unit, None)
            if told.source in {"phase4", "phase3"}:
                source = one_in(mixed, told, feature, row)
                assert (source[feature.name], source["processed_at"]) == (told.value, told.source_processed_at)
            else:
                assert told.value is told.source_table is told.source_processed_at is None
            assert (told.source == "phase3") == (feature.name in row["phase3_features"])
            assert (told.source == "missing") == (feature.name in row["missing_features"])


def test_the_reason_says_which_rule_applied(mixed: League) -> None:
    gone, holed, whole = (players(mixed, f"has_game AND MOD(player_id, 3) = {rest}")[0] for rest in range(3))
    lineages = [by_name(trace_row(mixed.warehouse, SUNDAY, player_id)) for player_id in (gone, holed, whole)]

    reasons = [features["usage_rate"].why for features in lineages]
    assert reasons == [
        "Phase 4 had no row, latest Phase 3 row within 30 days",
        "Phase 4 value was NULL, NaN or infinite, latest Phase 3 row within 30 days",
        "Phase 4 has a value for the date",
    ]
    assert lineages[0]["pace"].source_table == "nba_analytics.team_offense_game_summary"
    assert lineages[0]["last_5_games_ppg"].why.startswith("Phase 4 had no row")


def test_a_block_that_does_not_apply_says_so(mixed: League) -> None:
    told = by_name(trace_row(mixed.warehouse, SUNDAY, players(mixed, "NOT has_game")[0]))["opponent_def_rating"]

    assert (told.source, told.source_table, told.why, told.changed) == (None, None, NO_GAME, None)


def test_a_forced_build_ignored_phase_4(league: League) -> None:
    league.build(SUNDAY, mode=BuildMode.FORCED_FALLBACK)
    traced = trace_row(league.warehouse, SUNDAY, players(league, "has_game")[0])

    assert {feature.source for feature in traced.features} <= {"phase3", "missing"}
    assert all(feature.why.startswith("Phase 4 was ignored (forced fallback)") for feature in traced.features)
    assert {feature.changed for feature in traced.features} == {None}


def test_a_backtest_is_explained_by_what_it_could_see(league: League) -> None:
    """Everything of Phase 4 came after 23:00, so a build as of then fell back, and nothing has changed since."""
    league.build(SUNDAY, as_of=built_at(SUNDAY) - timedelta(minutes=40))
    traced = trace_row(league.warehouse, SUNDAY, players(league, "has_game")[0])

    assert {feature.source for feature in traced.features} == {"phase3"}
    assert traced.features[0].why == "Phase 4 had no row, latest Phase 3 row within 30 days"
    assert {feature.changed for feature in traced.features} == {None}


CHANGES = {
    "another value": (
        "UPDATE nba_precompute.player_composite_factors SET usage_rate = 0.5, processed_at = ?",
        "0.5 from",
    ),
    "another value under the old time": (
        "UPDATE nba_precompute.player_composite_factors SET usage_rate = ? IS NULL",
        "0.0 from",
    ),
    "the same value, later": (
        "UPDATE nba_precompute.player_composite_factors SET processed_at = ?",
        "processed after the build",
    ),
    "the row is gone": (
        "DELETE FROM nba_precompute.player_composite_factors WHERE processed_at < ?",
        "from nba_analytics.player_game_summary",
    ),
    "a second row": (
        "INSERT INTO nba_precompute.player_composite_factors BY NAME SELECT * REPLACE "
        "(0.25 AS usage_rate, ? AS processed_at) FROM nba_precompute.player_composite_factors",
        "0.25 from",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_since_the_build_is_told(league: League, change: str) -> None:
    league.build(SUNDAY)
    player_id = players(league, "has_game AND usage_rate > 0")[0]
    before = by_name(trace_row(league.warehouse, SUNDAY, player_id))["usage_rate"]
    sql, said = CHANGES[change]
    league.execute(sql, [LATER])
    after = by_name(trace_row(league.warehouse, SUNDAY, player_id))["usage_rate"]

    assert before.changed is None
    assert said in str(after.changed)
    assert (after.value, after.source) == (before.value, before.source)


def test_phase_4_that_came_after_the_build_is_told(league: League) -> None:
    league.execute(
        "CREATE TABLE kept AS SELECT * FROM nba_precompute.player_daily_cache WHERE analysis_date = ?", [SUNDAY]
    )
    league.execute("DELETE FROM nba_precompute.player_daily_cache WHERE analysis_date = ?", [SUNDAY])
    league.build(SUNDAY)
    league.execute(
        "INSERT INTO nba_precompute.player_daily_cache SELECT * REPLACE (? AS processed_at) FROM kept", [LATER]
    )
    told = by_name(trace_row(league.warehouse, SUNDAY, players(league, "has_game")[0]))["season_avg_ppg"]

    assert told.source == "phase3"
    assert told.why == "Phase 4 had no row, latest Phase 3 row within 30 days"
    assert f"from {DAILY_CACHE} (2024-12-15, processed 2024-12-16 05:30:00Z)" in str(told.changed)


def test_a_changed_schedule_is_told(league: League) -> None:
    league.build(SUNDAY)
    player_id = players(league, "has_game")[0]
    team = league.published(SUNDAY)[player_id]["team_abbreviation"]
    league.execute(
        "DELETE FROM nba_raw.nbac_schedule"
        " WHERE game_date = ? AND ? IN (home_team_abbreviation, away_team_abbreviation)",
        [SUNDAY, team],
    )
    [change] = trace_row(league.warehouse, SUNDAY, player_id).changes

    assert change.startswith("opponent is now none, was ")


def test_a_copied_row_leads_to_the_night_it_was_copied_from(league: League) -> None:
    league.build(SATURDAY)
    league.build(SUNDAY, mode=BuildMode.YESTERDAY)
    player_id = players(league, "ARRAY_LENGTH(missing_features) > 0")[0]
    traced = trace_row(league.warehouse, SUNDAY, player_id)
    pace = by_name(traced)["pace"]

    assert (pace.source, pace.source_table, pace.source_date) == ("yesterday", PUBLISHED_TABLE, SATURDAY)
    assert pace.source_processed_at == built_at(SATURDAY)
    assert {feature.changed for feature in traced.features} == {None}
    assert any(feature.source == "missing" for feature in traced.features)

    league.execute("UPDATE nba_precompute.player_composite_factors SET pace = 1.5")
    league.build(SATURDAY, generation=2)
    assert (
        by_name(trace_row(league.warehouse, SUNDAY, player_id))["pace"].changed == "the row of 2024-12-14 has 1.5 now"
    )


def left_out(league: League) -> int:
    outcome = league.build(SUNDAY)
    return outcome.stats.left_out[0].key


def test_a_player_left_out_is_told_why(league: League) -> None:
    player_id = left_out(league)
    traced = trace_row(league.warehouse, SUNDAY, player_id)

    assert (traced.published, traced.features) == (False, ())
    assert traced.left_out_reason == "no points_projection: Phase 4 had no row, no Phase 3 row within 30 days"


def test_a_player_who_would_be_built_now_is_told(league: League) -> None:
    player_id = left_out(league)
    league.execute(
        "INSERT INTO nba_precompute.player_composite_factors "
        "(analysis_date, player_id, points_projection, processed_at) VALUES (?, ?, 9.5, ?)",
        [SUNDAY, player_id, LATER],
    )
    traced = trace_row(league.warehouse, SUNDAY, player_id)

    assert "points_projection is 9.5 now" in str(traced.left_out_reason)
    assert "mlfs replay 2024-12-15" in str(traced.left_out_reason)


@pytest.mark.parametrize(
    ("night", "player_id", "said"),
    [
        (SATURDAY, 1, "nothing is published for 2024-12-14; see how it stands: mlfs explain 2024-12-14"),
        (SUNDAY, 1, "1 has no row in 2024-12-15, .* mlfs features 2024-12-15 --out players.csv"),
    ],
)
def test_an_unknown_night_or_player_is_refused_with_the_next_step(
    mixed: League, night: date, player_id: int, said: str
) -> None:
    with pytest.raises(Refused, match=said):
        trace_row(mixed.warehouse, night, player_id)


def test_a_player_is_found_by_a_name_of_one_player_and_several_are_listed(mixed: League) -> None:
    published = mixed.published(SUNDAY)
    player_id, row = next(iter(published.items()))
    first_name = row["player_name"].split()[0]
    alike = [other for other in published.values() if first_name in other["player_name"]]
    assert len(alike) > 1

    assert find_player(mixed.warehouse, SUNDAY, row["player_name"].upper()) == player_id
    with pytest.raises(Refused, match=rf"{alike[0]['player_name']} \({alike[0]['player_id']}\)"):
        find_player(mixed.warehouse, SUNDAY, first_name)
    with pytest.raises(Refused, match="no published player is named 'Nemo Nowhere'"):
        find_player(mixed.warehouse, SUNDAY, "Nemo Nowhere")


class CountingWarehouse:
    """Hands queries on and counts them."""

    def __init__(self, warehouse: Any) -> None:
        self.warehouse = warehouse
        self.pipeline = warehouse.pipeline
        self.names: list[str] = []

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        self.names.append(statement.name)
        rows: Sequence[Mapping[str, Any]] = self.warehouse.query(statement)
        return rows

    def columns_of(self, tables: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        found: Mapping[str, Mapping[str, str]] = self.warehouse.columns_of(tables)
        return found


def test_the_number_of_statements_does_not_follow_the_number_of_features(mixed: League) -> None:
    counting = CountingWarehouse(mixed.warehouse)
    trace_row(counting, SUNDAY, players(mixed, "has_game")[0])  # type: ignore[arg-type] # what a lineage needs of it

    assert counting.names == ["publications", "lineage_build", "lineage_row", "lineage_player", "lineage_sources"]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_table_whose_run_was_taken_back_is_as_if_it_were_empty(league: League, block: Block) -> None:
    """Rows, score and dependency count are those of a build after the rows were deleted; lineage gives the reason."""
    outcome = league.build(SUNDAY, ignored=frozenset({block.processor}))
    ignored = league.published(SUNDAY)
    player_id = next(player_id for player_id, row in ignored.items() if row["has_game"])
    traced = trace_row(league.warehouse, SUNDAY, player_id)
    league.execute(f"DELETE FROM {block.table} WHERE analysis_date = ?", [SUNDAY])  # noqa: S608 - our own names
    deleted = league.build(SUNDAY, 2)

    assert deleted.report == outcome.report
    assert "degraded" == outcome.report.earned_state
    assert 0 == outcome.stats.dependency_rows[block.processor]
    # The mean of a feature has another last digit where the rows come in another order.
    assert replace(deleted.stats, profile=Profile()) == replace(outcome.stats, profile=Profile())
    named = {"build_generation", "build_id"}
    rows = [
        [{**row, **dict.fromkeys(named)} for row in built.values()] for built in (ignored, league.published(SUNDAY))
    ]
    assert rows[0] == rows[1]
    assert any("its run was taken back" in one.why for one in traced.features if one.block == block.name)
    assert [None] * len(traced.features) == [one.changed for one in traced.features]


def test_the_lineage_of_a_row_does_without_a_table_that_is_gone(league: League) -> None:
    """The build fell back to Phase 3 for the table; the explanation reads neither."""
    table = next(block.table for block in BLOCKS if block.name == "daily_cache")
    league.execute(f"DROP TABLE {table}")
    league.execute("ALTER TABLE nba_raw.nbac_schedule RENAME home_team_abbreviation TO home_team")
    league.build(SUNDAY)

    traced = trace_row(league.warehouse, SUNDAY, next(iter(league.published(SUNDAY))))

    cached = [one for one in traced.features if one.block == "daily_cache"]
    assert {one.source for one in cached} <= {"phase3", "missing"}
    assert [None] * len(cached) == [one.changed for one in cached]
