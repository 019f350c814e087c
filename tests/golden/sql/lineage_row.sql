-- Purpose:     one row of one published build, whole.
-- Parameters:  analysis_date DATE; build_id STRING; player_id INT64.
-- Reads:       nba_predictions.ml_feature_store_v2_generations.
-- Result:      one row; none if the build has no row of this player_id.
-- Second run:  reads only.
SELECT
  analysis_date,
  player_id,
  player_name,
  team_abbreviation,
  opponent_abbreviation,
  has_game,
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
  IF(IS_NAN(pace) OR IS_INF(pace), NULL, pace) AS pace,
  IF(IS_NAN(restricted_area_shot_pct) OR IS_INF(restricted_area_shot_pct), NULL, restricted_area_shot_pct)
    AS restricted_area_shot_pct,
  IF(IS_NAN(paint_shot_pct) OR IS_INF(paint_shot_pct), NULL, paint_shot_pct) AS paint_shot_pct,
  IF(IS_NAN(mid_range_shot_pct) OR IS_INF(mid_range_shot_pct), NULL, mid_range_shot_pct) AS mid_range_shot_pct,
  IF(IS_NAN(three_point_attempt_rate) OR IS_INF(three_point_attempt_rate), NULL, three_point_attempt_rate)
    AS three_point_attempt_rate,
  IF(IS_NAN(opponent_def_rating) OR IS_INF(opponent_def_rating), NULL, opponent_def_rating) AS opponent_def_rating,
  IF(IS_NAN(opponent_rim_protection_rating) OR IS_INF(opponent_rim_protection_rating), NULL,
    opponent_rim_protection_rating) AS opponent_rim_protection_rating,
  IF(IS_NAN(opponent_perimeter_def_rating) OR IS_INF(opponent_perimeter_def_rating), NULL,
    opponent_perimeter_def_rating) AS opponent_perimeter_def_rating,
  IF(IS_NAN(last_5_games_ppg) OR IS_INF(last_5_games_ppg), NULL, last_5_games_ppg) AS last_5_games_ppg,
  IF(IS_NAN(last_10_games_ppg) OR IS_INF(last_10_games_ppg), NULL, last_10_games_ppg) AS last_10_games_ppg,
  IF(IS_NAN(season_avg_ppg) OR IS_INF(season_avg_ppg), NULL, season_avg_ppg) AS season_avg_ppg,
  quality_score,
  data_source,
  phase4_available,
  phase3_fallback_used,
  team_defense_source,
  player_shot_source,
  composite_source,
  daily_cache_source,
  phase3_features,
  missing_features,
  source_data_date,
  build_generation,
  build_id,
  processed_at
FROM nba_predictions.ml_feature_store_v2_generations
WHERE
  analysis_date = @analysis_date AND build_id = @build_id AND left_out_reason IS NULL
  AND player_id = @player_id
