"""Claims about the generated sample data: its shape, its rules, and that the same seed always gives the same files."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from worker.adapters.duckdb.dialect import to_bigquery_type
from worker.local.sample.data import SampleSummary, write_sample_data
from worker.local.sample.league import season_of
from worker.pipelines.shipped import SHIPPED

NIGHT = date(2024, 12, 15)
# The first night on winter time: the clocks go back at 02:00 on this day.
DARK_NIGHT = date(2024, 11, 3)
REAL_TABLES = Path(os.environ.get("NBA_DATA") or Path(__file__).parents[3] / "shared" / "nba")
PLAYER_TABLES = ("player_composite_factors", "player_daily_cache", "player_shot_zone_analysis")

# Columns in order, runs of the same type together: "name name: TYPE; name: TYPE".
SCHEMAS = {
    "nba_analytics.player_game_summary": """
        game_date: DATE; game_id: VARCHAR; player_id: BIGINT; player_name: VARCHAR; team_id: BIGINT;
        team_abbreviation opponent_abbreviation: VARCHAR; is_home: BOOLEAN; minutes points rebounds assists steals
        blocks turnovers personal_fouls offensive_rebounds defensive_rebounds field_goals_made
        field_goals_attempted three_pointers_made three_pointers_attempted free_throws_made free_throws_attempted
        plus_minus: BIGINT; offensive_rating usage_rate true_shooting_pct points_per_36 defensive_rating
        defensive_win_shares steal_rate block_rate effective_fg_pct free_throw_rate assist_rate rebound_rate
        turnover_rate restricted_area_shot_pct paint_shot_pct mid_range_shot_pct three_point_attempt_rate
        corner_three_attempt_rate restricted_area_fg_pct paint_fg_pct mid_range_fg_pct three_point_fg_pct
        last_5_games_ppg last_5_games_rpg last_5_games_apg last_5_games_mpg last_10_games_ppg last_10_games_rpg
        last_10_games_apg last_10_games_mpg season_avg_ppg season_avg_rpg season_avg_apg season_avg_mpg
        points_projection rebounds_projection assists_projection: DOUBLE; stat_version: BIGINT; processed_at:
        TIMESTAMPTZ
    """,
    "nba_analytics.team_defense_game_summary": """
        game_date: DATE; game_id: VARCHAR; team_id: BIGINT; team_abbreviation opponent_abbreviation: VARCHAR;
        is_home: BOOLEAN; points_allowed field_goals_allowed field_goal_attempts_allowed steals blocks
        defensive_rebounds turnovers_forced: BIGINT; opponent_possessions opponent_def_rating
        opponent_rim_protection_rating opponent_perimeter_def_rating opponent_pace
        restricted_area_attempt_rate_allowed paint_attempt_rate_allowed mid_range_attempt_rate_allowed
        three_point_attempt_rate_allowed corner_three_attempt_rate_allowed restricted_area_fg_pct_allowed
        paint_fg_pct_allowed mid_range_fg_pct_allowed three_point_fg_pct_allowed: DOUBLE; processed_at:
        TIMESTAMPTZ
    """,
    "nba_analytics.team_offense_game_summary": """
        game_date: DATE; game_id: VARCHAR; team_id: BIGINT; team_abbreviation opponent_abbreviation: VARCHAR;
        is_home: BOOLEAN; points field_goals_made field_goals_attempted three_pointers_made
        three_pointers_attempted free_throws_made free_throws_attempted offensive_rebounds assists turnovers
        team_minutes: BIGINT; possessions possessions_estimated offensive_rating pace true_shooting_pct
        effective_fg_pct restricted_area_shot_pct paint_shot_pct mid_range_shot_pct three_point_attempt_rate
        corner_three_attempt_rate restricted_area_fg_pct paint_fg_pct mid_range_fg_pct three_point_fg_pct: DOUBLE;
        processed_at: TIMESTAMPTZ
    """,
    "nba_analytics.upcoming_player_game_context": """
        game_date: DATE; player_id: BIGINT; player_name team_abbreviation opponent_abbreviation game_id: VARCHAR;
        is_home is_neutral_site: BOOLEAN; days_rest games_in_last_7_days: BIGINT; points_avg_last_5
        points_avg_last_10 points_avg_season minutes_avg_last_5: DOUBLE; back_to_back: BOOLEAN; processed_at:
        TIMESTAMPTZ
    """,
    "nba_analytics.upcoming_team_game_context": """
        game_date: DATE; game_id: VARCHAR; team_id: BIGINT; team_abbreviation opponent_abbreviation: VARCHAR;
        is_home is_neutral_site: BOOLEAN; days_rest: BIGINT; back_to_back: BOOLEAN; games_in_last_7_days wins
        losses: BIGINT; pace_season offensive_rating_season defensive_rating_season: DOUBLE; processed_at:
        TIMESTAMPTZ
    """,
    "nba_precompute.player_composite_factors": """
        analysis_date: DATE; player_id: BIGINT; player_name team_abbreviation opponent_abbreviation: VARCHAR;
        has_game: BOOLEAN; games_played: BIGINT; minutes_per_game offensive_rating usage_rate true_shooting_pct
        points_per_36 defensive_rating defensive_win_shares steal_rate block_rate effective_fg_pct free_throw_rate
        assist_rate rebound_rate turnover_rate pace points_projection rebounds_projection assists_projection:
        DOUBLE; processed_at: TIMESTAMPTZ
    """,
    "nba_precompute.player_daily_cache": """
        analysis_date: DATE; player_id: BIGINT; player_name team_abbreviation opponent_abbreviation: VARCHAR;
        has_game: BOOLEAN; games_played_season: BIGINT; last_5_games_ppg last_5_games_rpg last_5_games_apg
        last_5_games_mpg last_10_games_ppg last_10_games_rpg last_10_games_apg last_10_games_mpg season_avg_ppg
        season_avg_rpg season_avg_apg season_avg_mpg points_std_last_10: DOUBLE; last_game_date: DATE; days_rest:
        BIGINT; processed_at: TIMESTAMPTZ
    """,
    "nba_precompute.player_shot_zone_analysis": """
        analysis_date: DATE; player_id: BIGINT; player_name team_abbreviation opponent_abbreviation: VARCHAR;
        has_game: BOOLEAN; games_played field_goal_attempts: BIGINT; restricted_area_shot_pct paint_shot_pct
        mid_range_shot_pct three_point_attempt_rate corner_three_attempt_rate restricted_area_fg_pct paint_fg_pct
        mid_range_fg_pct three_point_fg_pct: DOUBLE; processed_at: TIMESTAMPTZ
    """,
    "nba_precompute.team_defense_zone_analysis": """
        analysis_date: DATE; team_id: BIGINT; team_abbreviation: VARCHAR; games_played: BIGINT;
        opponent_def_rating opponent_rim_protection_rating opponent_perimeter_def_rating opponent_pace
        restricted_area_attempt_rate_allowed paint_attempt_rate_allowed mid_range_attempt_rate_allowed
        three_point_attempt_rate_allowed corner_three_attempt_rate_allowed restricted_area_fg_pct_allowed
        paint_fg_pct_allowed mid_range_fg_pct_allowed three_point_fg_pct_allowed points_allowed_per_game: DOUBLE;
        processed_at: TIMESTAMPTZ
    """,
    "nba_raw.nbac_boxscore_traditional": """
        game_date: DATE; game_id: VARCHAR; player_id: BIGINT; player_name: VARCHAR; team_id: BIGINT;
        team_abbreviation matchup wl: VARCHAR; minutes fgm fga fg3m fg3a ftm fta oreb dreb reb ast stl blk tov pf
        pts plus_minus: BIGINT; processed_at: TIMESTAMPTZ
    """,
    "nba_raw.nbac_player_list": """
        snapshot_date: DATE; player_id: BIGINT; player_name: VARCHAR; team_id: BIGINT; team_abbreviation: VARCHAR;
        last_game_date: DATE; games_last_30_days: BIGINT; season: VARCHAR; processed_at: TIMESTAMPTZ
    """,
    "nba_raw.nbac_schedule": """
        game_date: DATE; game_id game_type: VARCHAR; is_neutral_site: BOOLEAN; home_team_id: BIGINT;
        home_team_abbreviation: VARCHAR; away_team_id: BIGINT; away_team_abbreviation season: VARCHAR;
        processed_at: TIMESTAMPTZ
    """,
    "nba_raw.nbac_team_list": """
        team_id: BIGINT; team_abbreviation team_name season: VARCHAR; processed_at: TIMESTAMPTZ
    """,
}


class Sample:
    """Written sample data, with a view per table (named without its dataset) to ask questions of."""

    def __init__(self, directory: Path, summary: SampleSummary) -> None:
        self.directory = directory
        self.summary = summary
        self._connection = duckdb.connect()
        for table in summary.tables:
            self._connection.read_parquet(str(table.path)).create_view(table.name.split(".")[1])

    def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        return self._connection.execute(sql, list(values)).fetchall()

    def row(self, sql: str, *values: object) -> tuple[object, ...]:
        (row,) = self.rows(sql, *values)
        return row

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sample")
    made = Sample(directory, write_sample_data(directory, analysis_date=NIGHT))
    yield made
    made.close()


@pytest.fixture(scope="module")
def dark(tmp_path_factory):
    """A night without games, for another seed."""
    directory = tmp_path_factory.mktemp("dark")
    made = Sample(directory, write_sample_data(directory, analysis_date=DARK_NIGHT, seed=7, games_tonight=0))
    yield made
    made.close()


def columns_of(path: Path) -> list[tuple[str, str]]:
    with duckdb.connect() as connection:
        relation = connection.read_parquet(str(path))
        return list(zip(relation.columns, map(str, relation.types), strict=True))


def columns_listed(schema: str) -> list[tuple[str, str]]:
    runs = [run.split(":") for run in schema.split(";")]
    longer = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
    return [(name, longer.get(kind.strip(), kind.strip())) for names, kind in runs for name in names.split()]


def test_one_file_is_written_per_table_and_nothing_else(sample):
    assert {f"{name}.parquet" for name in SCHEMAS} == {path.name for path in sample.directory.iterdir()}
    assert sorted(SCHEMAS) == [table.name for table in sample.summary.tables]


@pytest.mark.parametrize("table", SCHEMAS)
def test_columns_and_types_are_the_documented_ones(sample, table):
    assert columns_listed(SCHEMAS[table]) == columns_of(sample.directory / f"{table}.parquet")


@pytest.mark.skipif(not REAL_TABLES.is_dir(), reason="the real data set is not beside the repository")
@pytest.mark.parametrize("table", SCHEMAS)
def test_columns_and_types_are_those_of_the_real_tables(sample, table):
    assert columns_of(REAL_TABLES / f"{table}.parquet") == columns_of(sample.directory / f"{table}.parquet")


def test_the_tables_are_those_of_the_upstream_ddl(sample):
    for name in SHIPPED.upstream:
        tree = sqlglot.parse_one(SHIPPED.ddl_of(name), read="bigquery")
        declared = [(c.name, c.kind.sql(dialect="bigquery")) for c in tree.find_all(exp.ColumnDef)]
        [file] = sample.directory.glob(f"{name}.parquet")
        written = duckdb.read_parquet(str(file))
        assert [(c, to_bigquery_type(str(t))) for c, t in zip(written.columns, written.types, strict=True)] == declared


def test_the_same_seed_writes_the_same_bytes_in_another_process_with_other_hashes(sample, tmp_path):
    elsewhere = tmp_path / "with [odd] *{characters}'"
    code = (
        "import sys; from datetime import date; from pathlib import Path;"
        "from worker.local.sample.data import write_sample_data;"
        "write_sample_data(Path(sys.argv[1]), analysis_date=date.fromisoformat(sys.argv[2]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(elsewhere), NIGHT.isoformat()],
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"},
    )
    assert len(SCHEMAS) == len(list(elsewhere.iterdir()))
    for path in elsewhere.iterdir():
        assert (sample.directory / path.name).read_bytes() == path.read_bytes(), path.name


def test_another_seed_is_another_league(sample, dark):
    names = "SELECT DISTINCT player_name FROM nbac_player_list ORDER BY ALL"
    assert sample.rows(names) != dark.rows(names)


def test_writing_again_replaces_the_tables_and_keeps_other_files(tmp_path):
    other = tmp_path / "mine.parquet"
    other.write_text("not ours")
    stale = tmp_path / "nba_raw.nbac_schedule.parquet"
    stale.write_text("half a file")
    summary = write_sample_data(tmp_path, analysis_date=NIGHT)
    assert other.read_text() == "not ours"
    assert columns_listed(SCHEMAS["nba_raw.nbac_schedule"]) == columns_of(stale)
    assert len(summary.tables) + 1 == len(list(tmp_path.iterdir()))


@pytest.mark.parametrize("games", [-1, 16])
def test_more_games_than_thirty_teams_can_play_are_refused(tmp_path, games):
    with pytest.raises(ValueError, match="0 to 15"):
        write_sample_data(tmp_path / "none", analysis_date=NIGHT, games_tonight=games)
    assert not (tmp_path / "none").exists()


def test_the_summary_counts_what_the_files_hold(sample):
    summary = sample.summary
    assert (date(2024, 12, 13), date(2024, 12, 14), NIGHT) == summary.nights
    roster = sample.row("SELECT count(*) FROM nbac_player_list WHERE snapshot_date = ?", NIGHT)
    assert roster == (summary.active_players,)
    for table in summary.tables:
        assert table.rows == sample.row("SELECT count(*) FROM read_parquet(?)", str(table.path))[0]


def test_the_scale_is_that_of_a_real_season(sample):
    assert 430 <= sample.summary.active_players <= 460
    games, days = sample.row("SELECT count(*), count(DISTINCT game_date) FROM nbac_schedule")
    assert 300 <= games <= 360
    assert 40 <= days <= 44, "some nights have no game"
    assert 19 <= sample.row("SELECT count(*) / count(DISTINCT game_id) FROM player_game_summary")[0] <= 22
    assert sample.row("SELECT count(DISTINCT team_id) FROM player_game_summary") == (30,)


def test_the_night_has_seven_games_that_are_not_played_yet(sample):
    assert sample.row("SELECT count(*) FROM nbac_schedule WHERE game_date = ?", NIGHT) == (7,)
    assert sample.row("SELECT count(*) FROM player_game_summary WHERE game_date >= ?", NIGHT) == (0,)
    assert sample.row("SELECT count(*) FROM upcoming_team_game_context WHERE game_date = ?", NIGHT) == (14,)
    playing = "SELECT count(*), count(opponent_abbreviation) FROM player_composite_factors WHERE has_game"
    rows, opponents = sample.row(playing + " AND analysis_date = ?", NIGHT)
    assert rows == opponents
    assert 180 <= rows <= 220


def test_a_night_without_games_has_rosters_and_phase_4_but_no_opponents(dark):
    assert dark.row("SELECT count(*) FROM nbac_schedule WHERE game_date = ?", DARK_NIGHT) == (0,)
    assert dark.row("SELECT count(*) FROM upcoming_player_game_context WHERE game_date = ?", DARK_NIGHT) == (0,)
    rows, opponents, playing = dark.row(
        "SELECT count(*), count(opponent_abbreviation), count(*) FILTER (has_game)"
        " FROM player_composite_factors WHERE analysis_date = ?",
        DARK_NIGHT,
    )
    assert (opponents, playing) == (0, 0)
    assert rows > 400


def test_no_team_plays_twice_a_night_and_no_game_ends_level(sample):
    assert not sample.rows(
        "SELECT game_date, team_abbreviation FROM team_offense_game_summary GROUP BY ALL HAVING count(*) > 1"
    )
    assert not sample.rows(
        "SELECT game_id FROM team_offense_game_summary GROUP BY ALL HAVING count(*) <> 2 OR min(points) = max(points)"
    )


def test_team_totals_are_the_sums_of_the_players(sample):
    assert not sample.rows(
        "SELECT p.game_id FROM player_game_summary p JOIN team_offense_game_summary t USING (game_id, team_id)"
        " JOIN team_defense_game_summary d ON d.game_id = p.game_id"
        "  AND d.opponent_abbreviation = p.team_abbreviation"
        " GROUP BY p.game_id, p.team_id, t.points, d.points_allowed"
        " HAVING sum(p.points) <> t.points OR t.points <> d.points_allowed"
    )


def test_a_full_phase_3_fallback_yields_over_400_rows_with_under_2_percent_nulls(sample):
    rows, *present = sample.row(
        "SELECT count(*), count(points_projection), count(rebounds_projection), count(assists_projection),"
        " count(offensive_rating), count(defensive_rating) FROM ("
        "  SELECT * FROM player_game_summary WHERE game_date BETWEEN ?::DATE - 30 AND ?::DATE - 1"
        "  QUALIFY row_number() OVER (PARTITION BY player_id ORDER BY game_date DESC) = 1)",
        NIGHT,
        NIGHT,
    )
    assert rows > 400
    assert min(present) > 0.98 * rows


def test_one_or_two_active_players_a_night_have_no_projection_in_either_phase(sample, dark):
    for made in (sample, dark):
        unknown = made.rows(
            "SELECT snapshot_date, count(*) FROM nbac_player_list WHERE"
            " (snapshot_date, player_id) NOT IN (SELECT (analysis_date, player_id) FROM player_composite_factors)"
            " AND player_id NOT IN (SELECT player_id FROM player_game_summary) GROUP BY ALL ORDER BY ALL"
        )
        assert list(zip(made.summary.nights, (1, 1, 2), strict=True)) == unknown
        assert made.summary.unprojected_players == 2


def test_the_rest_of_the_roster_played_in_the_thirty_days_before(sample):
    assert not sample.rows(
        "SELECT * FROM nbac_player_list WHERE last_game_date NOT BETWEEN snapshot_date - 30 AND snapshot_date - 1"
        " OR (last_game_date IS NULL) <> (games_last_30_days = 0)"
    )


@pytest.mark.parametrize("table", PLAYER_TABLES)
def test_phase_4_holds_a_player_of_the_roster_once_a_night(sample, table):
    keys = sample.rows(f"SELECT analysis_date, player_id FROM {table}")  # noqa: S608 - one of PLAYER_TABLES
    assert len(keys) == len(set(keys))
    assert set(keys) <= set(sample.rows("SELECT snapshot_date, player_id FROM nbac_player_list"))


def test_phase_4_knows_only_games_before_its_date(sample):
    """The figures of a night are those of Phase 3 after the player's last game before it, but for the opponent."""
    compared, different = sample.row(
        "SELECT count(*), count(*) FILTER ("
        "  c.rebounds_projection <> p.rebounds_projection OR c.assists_projection <> p.assists_projection"
        "  OR d.last_5_games_ppg <> p.last_5_games_ppg OR d.last_10_games_ppg <> p.last_10_games_ppg"
        "  OR d.season_avg_ppg <> p.season_avg_ppg"
        "  OR (NOT c.has_game AND c.points_projection <> p.points_projection))"
        " FROM player_composite_factors c JOIN player_daily_cache d USING (analysis_date, player_id)"
        " JOIN player_game_summary p ON p.player_id = c.player_id AND p.game_date = d.last_game_date"
        " WHERE d.last_game_date < c.analysis_date"
    )
    assert (compared, different) == (sample.row("SELECT count(*) FROM player_composite_factors")[0], 0)


def test_a_weak_opponent_raises_the_points_projection_and_a_strong_one_lowers_it(sample):
    wrong = sample.rows(
        "WITH factor AS ("
        "  SELECT analysis_date, o.team_abbreviation, o.opponent_def_rating / avg(o.opponent_def_rating)"
        "    OVER (PARTITION BY analysis_date) AS expected FROM team_defense_zone_analysis o)"
        " SELECT c.player_name FROM player_composite_factors c"
        " JOIN player_daily_cache d USING (analysis_date, player_id)"
        " JOIN factor f ON f.analysis_date = c.analysis_date AND f.team_abbreviation = c.opponent_abbreviation"
        " WHERE abs(c.points_projection - f.expected * (0.5 * d.last_5_games_ppg + 0.3 * d.last_10_games_ppg"
        "   + 0.2 * d.season_avg_ppg)) > 0.01 * c.points_projection"
    )
    assert wrong == []


def test_a_few_players_have_no_attempts_and_no_shot_zones(sample):
    missing, rows = sample.row(
        "SELECT count(*) FILTER (z.player_id IS NULL), count(*) FROM player_daily_cache d"
        " LEFT JOIN player_shot_zone_analysis z USING (analysis_date, player_id) WHERE analysis_date = ?",
        NIGHT,
    )
    assert 1 <= missing <= 20
    assert rows > 400
    empty, wrong = sample.row(
        "SELECT count(*) FILTER (paint_shot_pct IS NULL),"
        " count(*) FILTER ((paint_shot_pct IS NULL) <> (field_goals_attempted = 0)) FROM player_game_summary"
    )
    assert empty > 0
    assert wrong == 0


def test_figures_stay_in_the_documented_ranges(sample):
    assert sample.row(
        "SELECT count(*) FROM player_game_summary WHERE minutes NOT BETWEEN 0 AND 48 OR personal_fouls > 6"
        " OR offensive_rating NOT BETWEEN 0 AND 300 OR true_shooting_pct NOT BETWEEN 0 AND 1.5"
        " OR abs(restricted_area_shot_pct + paint_shot_pct + mid_range_shot_pct + three_point_attempt_rate - 1) > 1e-5"
        " OR corner_three_attempt_rate > three_point_attempt_rate OR length(player_id::VARCHAR) <> 7"
    ) == (0,)
    inside, rows = sample.row(
        "SELECT count(*) FILTER (offensive_rating BETWEEN 60 AND 160 AND defensive_rating BETWEEN 60 AND 160), count(*)"
        " FROM player_composite_factors"
    )
    assert inside > 0.9 * rows
    low, mean, high = sample.row("SELECT min(pace), avg(pace), max(pace) FROM player_composite_factors")
    assert 90 < low < mean < high < 112
    assert 95 < mean < 105


def test_some_names_have_diacritics(sample):
    names = [str(name) for (name,) in sample.rows("SELECT DISTINCT player_name FROM nbac_player_list")]
    assert 10 < sum(not name.isascii() for name in names) < len(names) / 3
    assert len(names) == sample.row("SELECT count(DISTINCT player_id) FROM nbac_player_list")[0]


def test_rows_are_stamped_with_the_wall_clock_of_new_york_on_both_sides_of_a_clock_change(dark):
    def stamps(sql: str) -> list[object]:
        return [dark.row(sql, night)[0] for night in dark.summary.nights[1:]]

    for minute, sql in (
        (5, "SELECT DISTINCT processed_at FROM team_defense_zone_analysis WHERE analysis_date = ?"),
        (10, "SELECT DISTINCT processed_at FROM player_shot_zone_analysis WHERE analysis_date = ?"),
        (15, "SELECT DISTINCT processed_at FROM player_composite_factors WHERE analysis_date = ?"),
        (15, "SELECT DISTINCT processed_at FROM player_daily_cache WHERE analysis_date = ?"),
    ):
        at = [datetime(2024, 11, 3, 3, minute, tzinfo=UTC), datetime(2024, 11, 4, 4, minute, tzinfo=UTC)]
        assert at == stamps(sql), sql
    roster = "SELECT DISTINCT processed_at FROM nbac_player_list WHERE snapshot_date = ?"
    at = [datetime(2024, 11, 2, 9, 0, tzinfo=UTC), datetime(2024, 11, 3, 10, 0, tzinfo=UTC)]
    assert at == stamps(roster)


def test_summaries_are_stamped_the_morning_after_the_game(sample):
    assert not sample.rows(
        "SELECT * FROM player_game_summary WHERE (processed_at AT TIME ZONE 'America/New_York')"
        " <> game_date + 1 + TIME '06:30'"
    )


@pytest.mark.parametrize(
    ("day", "season"),
    [(date(2024, 12, 15), "2024-25"), (date(2025, 4, 1), "2024-25"), (date(1999, 11, 2), "1999-00")],
)
def test_a_season_is_named_after_both_its_years(day, season):
    assert season == season_of(day)
