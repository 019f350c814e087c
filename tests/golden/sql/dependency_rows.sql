-- Purpose:     how many rows each Phase 4 table holds for the date: what the build relies on, and the deadline's probe.
-- Parameters:  analysis_date DATE; as_of TIMESTAMP (rows processed later are not seen; without it the condition is left
--              out).
-- Reads:       nba_precompute.team_defense_zone_analysis, nba_precompute.player_shot_zone_analysis,
--              nba_precompute.player_composite_factors, nba_precompute.player_daily_cache.
-- Result:      (processor, row_count, not_finite), one row per processor, 0 where there is nothing; not_finite holds
--              the number of NaN and infinite values of each FLOAT64 feature, in the order of the catalogue.
-- Second run:  reads only.
SELECT
  'team_defense_zone_analysis' AS processor,
  COUNT(*) AS row_count,
  [
    COUNT(IF(IS_NAN(opponent_def_rating) OR IS_INF(opponent_def_rating), 1, NULL)),
    COUNT(IF(IS_NAN(opponent_rim_protection_rating) OR IS_INF(opponent_rim_protection_rating), 1, NULL)),
    COUNT(IF(IS_NAN(opponent_perimeter_def_rating) OR IS_INF(opponent_perimeter_def_rating), 1, NULL))
  ] AS not_finite
FROM nba_precompute.team_defense_zone_analysis
WHERE analysis_date = @analysis_date AND processed_at <= @as_of
UNION ALL
SELECT
  'player_shot_zone_analysis' AS processor,
  COUNT(*) AS row_count,
  [
    COUNT(IF(IS_NAN(restricted_area_shot_pct) OR IS_INF(restricted_area_shot_pct), 1, NULL)),
    COUNT(IF(IS_NAN(paint_shot_pct) OR IS_INF(paint_shot_pct), 1, NULL)),
    COUNT(IF(IS_NAN(mid_range_shot_pct) OR IS_INF(mid_range_shot_pct), 1, NULL)),
    COUNT(IF(IS_NAN(three_point_attempt_rate) OR IS_INF(three_point_attempt_rate), 1, NULL))
  ] AS not_finite
FROM nba_precompute.player_shot_zone_analysis
WHERE analysis_date = @analysis_date AND processed_at <= @as_of
UNION ALL
SELECT
  'player_composite_factors' AS processor,
  COUNT(*) AS row_count,
  [
    COUNT(IF(IS_NAN(offensive_rating) OR IS_INF(offensive_rating), 1, NULL)),
    COUNT(IF(IS_NAN(usage_rate) OR IS_INF(usage_rate), 1, NULL)),
    COUNT(IF(IS_NAN(true_shooting_pct) OR IS_INF(true_shooting_pct), 1, NULL)),
    COUNT(IF(IS_NAN(points_per_36) OR IS_INF(points_per_36), 1, NULL)),
    COUNT(IF(IS_NAN(defensive_rating) OR IS_INF(defensive_rating), 1, NULL)),
    COUNT(IF(IS_NAN(defensive_win_shares) OR IS_INF(defensive_win_shares), 1, NULL)),
    COUNT(IF(IS_NAN(steal_rate) OR IS_INF(steal_rate), 1, NULL)),
    COUNT(IF(IS_NAN(block_rate) OR IS_INF(block_rate), 1, NULL)),
    COUNT(IF(IS_NAN(points_projection) OR IS_INF(points_projection), 1, NULL)),
    COUNT(IF(IS_NAN(rebounds_projection) OR IS_INF(rebounds_projection), 1, NULL)),
    COUNT(IF(IS_NAN(assists_projection) OR IS_INF(assists_projection), 1, NULL)),
    COUNT(IF(IS_NAN(pace) OR IS_INF(pace), 1, NULL))
  ] AS not_finite
FROM nba_precompute.player_composite_factors
WHERE analysis_date = @analysis_date AND processed_at <= @as_of
UNION ALL
SELECT
  'player_daily_cache' AS processor,
  COUNT(*) AS row_count,
  [
    COUNT(IF(IS_NAN(last_5_games_ppg) OR IS_INF(last_5_games_ppg), 1, NULL)),
    COUNT(IF(IS_NAN(last_10_games_ppg) OR IS_INF(last_10_games_ppg), 1, NULL)),
    COUNT(IF(IS_NAN(season_avg_ppg) OR IS_INF(season_avg_ppg), 1, NULL))
  ] AS not_finite
FROM nba_precompute.player_daily_cache
WHERE analysis_date = @analysis_date AND processed_at <= @as_of
