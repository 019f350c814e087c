-- Purpose: the yardstick of `mlfs bench build`: the same 6 identity columns and 22 feature cells, and nothing else.
-- Inputs:  $analysis_date, $lookback_start DATE; the tables of entities.sql. Dialect: DuckDB.
-- Result:  nba_predictions.bare_join, one row per player of the roster. A second run replaces it.
CREATE OR REPLACE TABLE nba_predictions.bare_join AS
WITH tonight AS (
  SELECT home_team_abbreviation AS team, away_team_abbreviation AS opponent
  FROM nba_raw.nbac_schedule WHERE game_date = $analysis_date
  UNION ALL
  SELECT away_team_abbreviation, home_team_abbreviation
  FROM nba_raw.nbac_schedule WHERE game_date = $analysis_date
),
player_game AS (
  SELECT * FROM nba_analytics.player_game_summary
  WHERE game_date >= $lookback_start AND game_date < $analysis_date
  QUALIFY row_number() OVER (PARTITION BY player_id ORDER BY game_date DESC) = 1
),
offense_game AS (
  SELECT * FROM nba_analytics.team_offense_game_summary
  WHERE game_date >= $lookback_start AND game_date < $analysis_date
  QUALIFY row_number() OVER (PARTITION BY team_abbreviation ORDER BY game_date DESC) = 1
),
defense_game AS (
  SELECT * FROM nba_analytics.team_defense_game_summary
  WHERE game_date >= $lookback_start AND game_date < $analysis_date
  QUALIFY row_number() OVER (PARTITION BY team_abbreviation ORDER BY game_date DESC) = 1
)
SELECT
  roster.snapshot_date AS analysis_date, roster.player_id, roster.player_name, roster.team_abbreviation,
  tonight.opponent AS opponent_abbreviation, tonight.team IS NOT NULL AS has_game,
  coalesce(composite.offensive_rating, player_game.offensive_rating) AS offensive_rating,
  coalesce(composite.usage_rate, player_game.usage_rate) AS usage_rate,
  coalesce(composite.true_shooting_pct, player_game.true_shooting_pct) AS true_shooting_pct,
  coalesce(composite.points_per_36, player_game.points_per_36) AS points_per_36,
  coalesce(composite.defensive_rating, player_game.defensive_rating) AS defensive_rating,
  coalesce(composite.defensive_win_shares, player_game.defensive_win_shares) AS defensive_win_shares,
  coalesce(composite.steal_rate, player_game.steal_rate) AS steal_rate,
  coalesce(composite.block_rate, player_game.block_rate) AS block_rate,
  coalesce(composite.points_projection, player_game.points_projection) AS points_projection,
  coalesce(composite.rebounds_projection, player_game.rebounds_projection) AS rebounds_projection,
  coalesce(composite.assists_projection, player_game.assists_projection) AS assists_projection,
  coalesce(composite.pace, offense_game.pace) AS pace,
  coalesce(shot.restricted_area_shot_pct, player_game.restricted_area_shot_pct) AS restricted_area_shot_pct,
  coalesce(shot.paint_shot_pct, player_game.paint_shot_pct) AS paint_shot_pct,
  coalesce(shot.mid_range_shot_pct, player_game.mid_range_shot_pct) AS mid_range_shot_pct,
  coalesce(shot.three_point_attempt_rate, player_game.three_point_attempt_rate) AS three_point_attempt_rate,
  coalesce(defense.opponent_def_rating, defense_game.opponent_def_rating) AS opponent_def_rating,
  coalesce(defense.opponent_rim_protection_rating, defense_game.opponent_rim_protection_rating)
    AS opponent_rim_protection_rating,
  coalesce(defense.opponent_perimeter_def_rating, defense_game.opponent_perimeter_def_rating)
    AS opponent_perimeter_def_rating,
  coalesce(cache.last_5_games_ppg, player_game.last_5_games_ppg) AS last_5_games_ppg,
  coalesce(cache.last_10_games_ppg, player_game.last_10_games_ppg) AS last_10_games_ppg,
  coalesce(cache.season_avg_ppg, player_game.season_avg_ppg) AS season_avg_ppg
FROM nba_raw.nbac_player_list roster
LEFT JOIN tonight ON tonight.team = roster.team_abbreviation
LEFT JOIN nba_precompute.player_composite_factors composite
  ON composite.player_id = roster.player_id AND composite.analysis_date = $analysis_date
LEFT JOIN nba_precompute.player_shot_zone_analysis shot
  ON shot.player_id = roster.player_id AND shot.analysis_date = $analysis_date
LEFT JOIN nba_precompute.player_daily_cache cache
  ON cache.player_id = roster.player_id AND cache.analysis_date = $analysis_date
LEFT JOIN nba_precompute.team_defense_zone_analysis defense
  ON defense.team_abbreviation = tonight.opponent AND defense.analysis_date = $analysis_date
LEFT JOIN player_game ON player_game.player_id = roster.player_id
LEFT JOIN offense_game ON offense_game.team_abbreviation = roster.team_abbreviation
LEFT JOIN defense_game ON defense_game.team_abbreviation = tonight.opponent
WHERE roster.snapshot_date = $analysis_date
