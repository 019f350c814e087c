-- Purpose:     the upstream rows that decide the cells of one row: per table the row that a build by the same rule takes.
-- Parameters:  @analysis_date DATE; @player_id INT64; @team, @opponent STRING or NULL; @lookback_start, @previous_date
--              DATE (the Phase 3 window, both ends included); @as_of TIMESTAMP or NULL (rows processed later are not
--              seen); @built_at TIMESTAMP (the build's).
-- Reads:       the four Phase 4 tables, three Phase 3 tables.
-- Result:      two rows: seen TRUE from what had been processed by the build, FALSE from what was processed since. Per
--              table whether it has a row, its date and processed_at; phase4_ and phase3_ values of every feature.
-- Second run:  reads only.
WITH moments AS (
  SELECT TRUE AS seen
  UNION ALL
  SELECT FALSE AS seen
),
composite AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen, processed_at,
    offensive_rating, usage_rate, true_shooting_pct, points_per_36, defensive_rating, defensive_win_shares,
    steal_rate, block_rate, points_projection, rebounds_projection, assists_projection, pace
  FROM nba_precompute.player_composite_factors
  WHERE analysis_date = @analysis_date AND player_id = @player_id AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY processed_at DESC
  ) = 1
),
player_shot AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen, processed_at,
    restricted_area_shot_pct, paint_shot_pct, mid_range_shot_pct, three_point_attempt_rate
  FROM nba_precompute.player_shot_zone_analysis
  WHERE analysis_date = @analysis_date AND player_id = @player_id AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY processed_at DESC
  ) = 1
),
daily_cache AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen, processed_at,
    last_5_games_ppg, last_10_games_ppg, season_avg_ppg
  FROM nba_precompute.player_daily_cache
  WHERE analysis_date = @analysis_date AND player_id = @player_id AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY processed_at DESC
  ) = 1
),
team_defense AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen, processed_at,
    opponent_def_rating, opponent_rim_protection_rating, opponent_perimeter_def_rating
  FROM nba_precompute.team_defense_zone_analysis
  WHERE analysis_date = @analysis_date AND team_abbreviation = @opponent AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY processed_at DESC
  ) = 1
),
player_game AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen, processed_at, game_date,
    offensive_rating, usage_rate, true_shooting_pct, points_per_36, defensive_rating, defensive_win_shares,
    steal_rate, block_rate, points_projection, rebounds_projection, assists_projection, restricted_area_shot_pct,
    paint_shot_pct, mid_range_shot_pct, three_point_attempt_rate, last_5_games_ppg, last_10_games_ppg, season_avg_ppg
  FROM nba_analytics.player_game_summary
  WHERE
    game_date BETWEEN @lookback_start AND @previous_date AND player_id = @player_id
    AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY game_date DESC, processed_at DESC
  ) = 1
),
team_offense_game AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen, processed_at, game_date,
    pace
  FROM nba_analytics.team_offense_game_summary
  WHERE
    game_date BETWEEN @lookback_start AND @previous_date AND team_abbreviation = @team
    AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY game_date DESC, processed_at DESC
  ) = 1
),
team_defense_game AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen, processed_at, game_date,
    opponent_def_rating, opponent_rim_protection_rating, opponent_perimeter_def_rating
  FROM nba_analytics.team_defense_game_summary
  WHERE
    game_date BETWEEN @lookback_start AND @previous_date AND team_abbreviation = @opponent
    AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY game_date DESC, processed_at DESC
  ) = 1
)
SELECT
  moments.seen,
  composite.seen IS NOT NULL AS composite_found,
  composite.processed_at AS composite_processed_at,
  player_shot.seen IS NOT NULL AS player_shot_found,
  player_shot.processed_at AS player_shot_processed_at,
  daily_cache.seen IS NOT NULL AS daily_cache_found,
  daily_cache.processed_at AS daily_cache_processed_at,
  team_defense.seen IS NOT NULL AS team_defense_found,
  team_defense.processed_at AS team_defense_processed_at,
  player_game.seen IS NOT NULL AS player_game_found,
  player_game.game_date AS player_game_date,
  player_game.processed_at AS player_game_processed_at,
  team_offense_game.seen IS NOT NULL AS team_offense_game_found,
  team_offense_game.game_date AS team_offense_game_date,
  team_offense_game.processed_at AS team_offense_game_processed_at,
  team_defense_game.seen IS NOT NULL AS team_defense_game_found,
  team_defense_game.game_date AS team_defense_game_date,
  team_defense_game.processed_at AS team_defense_game_processed_at,
  composite.offensive_rating AS phase4_offensive_rating,
  composite.usage_rate AS phase4_usage_rate,
  composite.true_shooting_pct AS phase4_true_shooting_pct,
  composite.points_per_36 AS phase4_points_per_36,
  composite.defensive_rating AS phase4_defensive_rating,
  composite.defensive_win_shares AS phase4_defensive_win_shares,
  composite.steal_rate AS phase4_steal_rate,
  composite.block_rate AS phase4_block_rate,
  composite.points_projection AS phase4_points_projection,
  composite.rebounds_projection AS phase4_rebounds_projection,
  composite.assists_projection AS phase4_assists_projection,
  composite.pace AS phase4_pace,
  player_shot.restricted_area_shot_pct AS phase4_restricted_area_shot_pct,
  player_shot.paint_shot_pct AS phase4_paint_shot_pct,
  player_shot.mid_range_shot_pct AS phase4_mid_range_shot_pct,
  player_shot.three_point_attempt_rate AS phase4_three_point_attempt_rate,
  team_defense.opponent_def_rating AS phase4_opponent_def_rating,
  team_defense.opponent_rim_protection_rating AS phase4_opponent_rim_protection_rating,
  team_defense.opponent_perimeter_def_rating AS phase4_opponent_perimeter_def_rating,
  daily_cache.last_5_games_ppg AS phase4_last_5_games_ppg,
  daily_cache.last_10_games_ppg AS phase4_last_10_games_ppg,
  daily_cache.season_avg_ppg AS phase4_season_avg_ppg,
  player_game.offensive_rating AS phase3_offensive_rating,
  player_game.usage_rate AS phase3_usage_rate,
  player_game.true_shooting_pct AS phase3_true_shooting_pct,
  player_game.points_per_36 AS phase3_points_per_36,
  player_game.defensive_rating AS phase3_defensive_rating,
  player_game.defensive_win_shares AS phase3_defensive_win_shares,
  player_game.steal_rate AS phase3_steal_rate,
  player_game.block_rate AS phase3_block_rate,
  player_game.points_projection AS phase3_points_projection,
  player_game.rebounds_projection AS phase3_rebounds_projection,
  player_game.assists_projection AS phase3_assists_projection,
  team_offense_game.pace AS phase3_pace,
  player_game.restricted_area_shot_pct AS phase3_restricted_area_shot_pct,
  player_game.paint_shot_pct AS phase3_paint_shot_pct,
  player_game.mid_range_shot_pct AS phase3_mid_range_shot_pct,
  player_game.three_point_attempt_rate AS phase3_three_point_attempt_rate,
  team_defense_game.opponent_def_rating AS phase3_opponent_def_rating,
  team_defense_game.opponent_rim_protection_rating AS phase3_opponent_rim_protection_rating,
  team_defense_game.opponent_perimeter_def_rating AS phase3_opponent_perimeter_def_rating,
  player_game.last_5_games_ppg AS phase3_last_5_games_ppg,
  player_game.last_10_games_ppg AS phase3_last_10_games_ppg,
  player_game.season_avg_ppg AS phase3_season_avg_ppg
FROM moments
LEFT JOIN composite ON composite.seen = moments.seen
LEFT JOIN player_shot ON player_shot.seen = moments.seen
LEFT JOIN daily_cache ON daily_cache.seen = moments.seen
LEFT JOIN team_defense ON team_defense.seen = moments.seen
LEFT JOIN player_game ON player_game.seen = moments.seen
LEFT JOIN team_offense_game ON team_offense_game.seen = moments.seen
LEFT JOIN team_defense_game ON team_defense_game.seen = moments.seen
ORDER BY moments.seen DESC
