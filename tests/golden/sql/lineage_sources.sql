-- Purpose:     the upstream rows that decide the cells of one row: per table the row that a build would use.
-- Parameters:  analysis_date DATE; player_id INT64; team_abbreviation STRING; opponent_abbreviation STRING (the rows to
--              find; a missing parameter finds no rows); lookback_start, previous_date DATE (the Phase 3 window, both
--              ends included); as_of TIMESTAMP (rows processed later are not seen; without it the condition is left
--              out); built_at TIMESTAMP (the build's).
-- Reads:       nba_precompute.team_defense_zone_analysis, nba_precompute.player_shot_zone_analysis,
--              nba_precompute.player_composite_factors, nba_precompute.player_daily_cache,
--              nba_analytics.player_game_summary, nba_analytics.team_offense_game_summary,
--              nba_analytics.team_defense_game_summary.
-- Result:      two rows: seen TRUE from what had been processed by the build, FALSE from what was processed since. Per
--              table whether it has a row, its date and processed_at; phase4_ and phase3_ values of every feature.
-- Second run:  reads only.
WITH moments AS (
  SELECT TRUE AS seen
  UNION ALL
  SELECT FALSE AS seen
),
from_team_defense AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen,
    processed_at,
    IF(IS_NAN(opponent_def_rating) OR IS_INF(opponent_def_rating), NULL, opponent_def_rating) AS opponent_def_rating,
    IF(IS_NAN(opponent_rim_protection_rating) OR IS_INF(opponent_rim_protection_rating), NULL,
      opponent_rim_protection_rating) AS opponent_rim_protection_rating,
    IF(IS_NAN(opponent_perimeter_def_rating) OR IS_INF(opponent_perimeter_def_rating), NULL,
      opponent_perimeter_def_rating) AS opponent_perimeter_def_rating
  FROM nba_precompute.team_defense_zone_analysis
  WHERE
    analysis_date = @analysis_date AND team_abbreviation = @opponent_abbreviation
    AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY processed_at DESC
  ) = 1
),
from_player_shot AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen,
    processed_at,
    IF(IS_NAN(restricted_area_shot_pct) OR IS_INF(restricted_area_shot_pct), NULL, restricted_area_shot_pct)
      AS restricted_area_shot_pct,
    IF(IS_NAN(paint_shot_pct) OR IS_INF(paint_shot_pct), NULL, paint_shot_pct) AS paint_shot_pct,
    IF(IS_NAN(mid_range_shot_pct) OR IS_INF(mid_range_shot_pct), NULL, mid_range_shot_pct) AS mid_range_shot_pct,
    IF(IS_NAN(three_point_attempt_rate) OR IS_INF(three_point_attempt_rate), NULL, three_point_attempt_rate)
      AS three_point_attempt_rate
  FROM nba_precompute.player_shot_zone_analysis
  WHERE
    analysis_date = @analysis_date AND player_id = @player_id
    AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY processed_at DESC
  ) = 1
),
from_composite AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen,
    processed_at,
    IF(IS_NAN(offensive_rating) OR IS_INF(offensive_rating), NULL, offensive_rating) AS offensive_rating,
    IF(IS_NAN(usage_rate) OR IS_INF(usage_rate), NULL, usage_rate) AS usage_rate,
    IF(IS_NAN(true_shooting_pct) OR IS_INF(true_shooting_pct), NULL, true_shooting_pct) AS true_shooting_pct,
    IF(IS_NAN(points_per_36) OR IS_INF(points_per_36), NULL, points_per_36) AS points_per_36,
    IF(IS_NAN(defensive_rating) OR IS_INF(defensive_rating), NULL, defensive_rating) AS defensive_rating,
    IF(IS_NAN(defensive_win_shares) OR IS_INF(defensive_win_shares), NULL, defensive_win_shares)
      AS defensive_win_shares,
    IF(IS_NAN(steal_rate) OR IS_INF(steal_rate), NULL, steal_rate) AS steal_rate,
    IF(IS_NAN(block_rate) OR IS_INF(block_rate), NULL, block_rate) AS block_rate,
    IF(IS_NAN(points_projection) OR IS_INF(points_projection), NULL, points_projection) AS points_projection,
    IF(IS_NAN(rebounds_projection) OR IS_INF(rebounds_projection), NULL, rebounds_projection) AS rebounds_projection,
    IF(IS_NAN(assists_projection) OR IS_INF(assists_projection), NULL, assists_projection) AS assists_projection,
    IF(IS_NAN(pace) OR IS_INF(pace), NULL, pace) AS pace
  FROM nba_precompute.player_composite_factors
  WHERE
    analysis_date = @analysis_date AND player_id = @player_id
    AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY processed_at DESC
  ) = 1
),
from_daily_cache AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen,
    processed_at,
    IF(IS_NAN(last_5_games_ppg) OR IS_INF(last_5_games_ppg), NULL, last_5_games_ppg) AS last_5_games_ppg,
    IF(IS_NAN(last_10_games_ppg) OR IS_INF(last_10_games_ppg), NULL, last_10_games_ppg) AS last_10_games_ppg,
    IF(IS_NAN(season_avg_ppg) OR IS_INF(season_avg_ppg), NULL, season_avg_ppg) AS season_avg_ppg
  FROM nba_precompute.player_daily_cache
  WHERE
    analysis_date = @analysis_date AND player_id = @player_id
    AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY processed_at DESC
  ) = 1
),
from_player_game_summary AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen,
    processed_at,
    game_date,
    IF(IS_NAN(offensive_rating) OR IS_INF(offensive_rating), NULL, offensive_rating) AS offensive_rating,
    IF(IS_NAN(usage_rate) OR IS_INF(usage_rate), NULL, usage_rate) AS usage_rate,
    IF(IS_NAN(true_shooting_pct) OR IS_INF(true_shooting_pct), NULL, true_shooting_pct) AS true_shooting_pct,
    IF(IS_NAN(points_per_36) OR IS_INF(points_per_36), NULL, points_per_36) AS points_per_36,
    IF(IS_NAN(defensive_rating) OR IS_INF(defensive_rating), NULL, defensive_rating) AS defensive_rating,
    IF(IS_NAN(defensive_win_shares) OR IS_INF(defensive_win_shares), NULL, defensive_win_shares)
      AS defensive_win_shares,
    IF(IS_NAN(steal_rate) OR IS_INF(steal_rate), NULL, steal_rate) AS steal_rate,
    IF(IS_NAN(block_rate) OR IS_INF(block_rate), NULL, block_rate) AS block_rate,
    IF(IS_NAN(points_projection) OR IS_INF(points_projection), NULL, points_projection) AS points_projection,
    IF(IS_NAN(rebounds_projection) OR IS_INF(rebounds_projection), NULL, rebounds_projection) AS rebounds_projection,
    IF(IS_NAN(assists_projection) OR IS_INF(assists_projection), NULL, assists_projection) AS assists_projection,
    IF(IS_NAN(restricted_area_shot_pct) OR IS_INF(restricted_area_shot_pct), NULL, restricted_area_shot_pct)
      AS restricted_area_shot_pct,
    IF(IS_NAN(paint_shot_pct) OR IS_INF(paint_shot_pct), NULL, paint_shot_pct) AS paint_shot_pct,
    IF(IS_NAN(mid_range_shot_pct) OR IS_INF(mid_range_shot_pct), NULL, mid_range_shot_pct) AS mid_range_shot_pct,
    IF(IS_NAN(three_point_attempt_rate) OR IS_INF(three_point_attempt_rate), NULL, three_point_attempt_rate)
      AS three_point_attempt_rate,
    IF(IS_NAN(last_5_games_ppg) OR IS_INF(last_5_games_ppg), NULL, last_5_games_ppg) AS last_5_games_ppg,
    IF(IS_NAN(last_10_games_ppg) OR IS_INF(last_10_games_ppg), NULL, last_10_games_ppg) AS last_10_games_ppg,
    IF(IS_NAN(season_avg_ppg) OR IS_INF(season_avg_ppg), NULL, season_avg_ppg) AS season_avg_ppg
  FROM nba_analytics.player_game_summary
  WHERE
    game_date BETWEEN @lookback_start AND @previous_date AND player_id = @player_id
    AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY game_date DESC, processed_at DESC
  ) = 1
),
from_team_offense_game_summary AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen,
    processed_at,
    game_date,
    IF(IS_NAN(pace) OR IS_INF(pace), NULL, pace) AS pace
  FROM nba_analytics.team_offense_game_summary
  WHERE
    game_date BETWEEN @lookback_start AND @previous_date AND team_abbreviation = @team_abbreviation
    AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY game_date DESC, processed_at DESC
  ) = 1
),
from_team_defense_game_summary AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen,
    processed_at,
    game_date,
    IF(IS_NAN(opponent_def_rating) OR IS_INF(opponent_def_rating), NULL, opponent_def_rating) AS opponent_def_rating,
    IF(IS_NAN(opponent_rim_protection_rating) OR IS_INF(opponent_rim_protection_rating), NULL,
      opponent_rim_protection_rating) AS opponent_rim_protection_rating,
    IF(IS_NAN(opponent_perimeter_def_rating) OR IS_INF(opponent_perimeter_def_rating), NULL,
      opponent_perimeter_def_rating) AS opponent_perimeter_def_rating
  FROM nba_analytics.team_defense_game_summary
  WHERE
    game_date BETWEEN @lookback_start AND @previous_date AND team_abbreviation = @opponent_abbreviation
    AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY game_date DESC, processed_at DESC
  ) = 1
)
SELECT
  moments.seen,
  from_team_defense.seen IS NOT NULL AS team_defense_found,
  from_team_defense.processed_at AS team_defense_processed_at,
  from_player_shot.seen IS NOT NULL AS player_shot_found,
  from_player_shot.processed_at AS player_shot_processed_at,
  from_composite.seen IS NOT NULL AS composite_found,
  from_composite.processed_at AS composite_processed_at,
  from_daily_cache.seen IS NOT NULL AS daily_cache_found,
  from_daily_cache.processed_at AS daily_cache_processed_at,
  from_player_game_summary.seen IS NOT NULL AS player_game_summary_found,
  from_player_game_summary.game_date AS player_game_summary_date,
  from_player_game_summary.processed_at AS player_game_summary_processed_at,
  from_team_offense_game_summary.seen IS NOT NULL AS team_offense_game_summary_found,
  from_team_offense_game_summary.game_date AS team_offense_game_summary_date,
  from_team_offense_game_summary.processed_at AS team_offense_game_summary_processed_at,
  from_team_defense_game_summary.seen IS NOT NULL AS team_defense_game_summary_found,
  from_team_defense_game_summary.game_date AS team_defense_game_summary_date,
  from_team_defense_game_summary.processed_at AS team_defense_game_summary_processed_at,
  from_composite.offensive_rating AS phase4_offensive_rating,
  from_composite.usage_rate AS phase4_usage_rate,
  from_composite.true_shooting_pct AS phase4_true_shooting_pct,
  from_composite.points_per_36 AS phase4_points_per_36,
  from_composite.defensive_rating AS phase4_defensive_rating,
  from_composite.defensive_win_shares AS phase4_defensive_win_shares,
  from_composite.steal_rate AS phase4_steal_rate,
  from_composite.block_rate AS phase4_block_rate,
  from_composite.points_projection AS phase4_points_projection,
  from_composite.rebounds_projection AS phase4_rebounds_projection,
  from_composite.assists_projection AS phase4_assists_projection,
  from_composite.pace AS phase4_pace,
  from_player_shot.restricted_area_shot_pct AS phase4_restricted_area_shot_pct,
  from_player_shot.paint_shot_pct AS phase4_paint_shot_pct,
  from_player_shot.mid_range_shot_pct AS phase4_mid_range_shot_pct,
  from_player_shot.three_point_attempt_rate AS phase4_three_point_attempt_rate,
  from_team_defense.opponent_def_rating AS phase4_opponent_def_rating,
  from_team_defense.opponent_rim_protection_rating AS phase4_opponent_rim_protection_rating,
  from_team_defense.opponent_perimeter_def_rating AS phase4_opponent_perimeter_def_rating,
  from_daily_cache.last_5_games_ppg AS phase4_last_5_games_ppg,
  from_daily_cache.last_10_games_ppg AS phase4_last_10_games_ppg,
  from_daily_cache.season_avg_ppg AS phase4_season_avg_ppg,
  from_player_game_summary.offensive_rating AS phase3_offensive_rating,
  from_player_game_summary.usage_rate AS phase3_usage_rate,
  from_player_game_summary.true_shooting_pct AS phase3_true_shooting_pct,
  from_player_game_summary.points_per_36 AS phase3_points_per_36,
  from_player_game_summary.defensive_rating AS phase3_defensive_rating,
  from_player_game_summary.defensive_win_shares AS phase3_defensive_win_shares,
  from_player_game_summary.steal_rate AS phase3_steal_rate,
  from_player_game_summary.block_rate AS phase3_block_rate,
  from_player_game_summary.points_projection AS phase3_points_projection,
  from_player_game_summary.rebounds_projection AS phase3_rebounds_projection,
  from_player_game_summary.assists_projection AS phase3_assists_projection,
  from_team_offense_game_summary.pace AS phase3_pace,
  from_player_game_summary.restricted_area_shot_pct AS phase3_restricted_area_shot_pct,
  from_player_game_summary.paint_shot_pct AS phase3_paint_shot_pct,
  from_player_game_summary.mid_range_shot_pct AS phase3_mid_range_shot_pct,
  from_player_game_summary.three_point_attempt_rate AS phase3_three_point_attempt_rate,
  from_team_defense_game_summary.opponent_def_rating AS phase3_opponent_def_rating,
  from_team_defense_game_summary.opponent_rim_protection_rating AS phase3_opponent_rim_protection_rating,
  from_team_defense_game_summary.opponent_perimeter_def_rating AS phase3_opponent_perimeter_def_rating,
  from_player_game_summary.last_5_games_ppg AS phase3_last_5_games_ppg,
  from_player_game_summary.last_10_games_ppg AS phase3_last_10_games_ppg,
  from_player_game_summary.season_avg_ppg AS phase3_season_avg_ppg
FROM moments
LEFT JOIN from_team_defense ON from_team_defense.seen = moments.seen
LEFT JOIN from_player_shot ON from_player_shot.seen = moments.seen
LEFT JOIN from_composite ON from_composite.seen = moments.seen
LEFT JOIN from_daily_cache ON from_daily_cache.seen = moments.seen
LEFT JOIN from_player_game_summary ON from_player_game_summary.seen = moments.seen
LEFT JOIN from_team_offense_game_summary ON from_team_offense_game_summary.seen = moments.seen
LEFT JOIN from_team_defense_game_summary ON from_team_defense_game_summary.seen = moments.seen
ORDER BY moments.seen DESC
