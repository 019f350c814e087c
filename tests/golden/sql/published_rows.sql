-- Purpose:     the rows of one published build, the published one or one before it.
-- Parameters:  analysis_date DATE; build_id STRING.
-- Reads:       nba_predictions.ml_feature_store_v2_generations.
-- Result:      one row per player_id, every published column, in this order; none where the rows were deleted.
-- Second run:  reads only; the same rows each time, for as long as they are there.
SELECT
  analysis_date, player_id, player_name, team_abbreviation, opponent_abbreviation, has_game, offensive_rating,
  usage_rate, true_shooting_pct, points_per_36, defensive_rating, defensive_win_shares, steal_rate, block_rate,
  points_projection, rebounds_projection, assists_projection, pace, restricted_area_shot_pct, paint_shot_pct,
  mid_range_shot_pct, three_point_attempt_rate, opponent_def_rating, opponent_rim_protection_rating,
  opponent_perimeter_def_rating, last_5_games_ppg, last_10_games_ppg, season_avg_ppg, quality_score, data_source,
  phase4_available, phase3_fallback_used, team_defense_source, player_shot_source, composite_source,
  daily_cache_source, phase3_features, missing_features, source_data_date, build_generation, build_id, processed_at
FROM nba_predictions.ml_feature_store_v2_generations
WHERE analysis_date = @analysis_date AND build_id = @build_id AND left_out_reason IS NULL
ORDER BY player_id
