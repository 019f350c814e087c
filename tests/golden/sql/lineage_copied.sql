-- Purpose:     the row that the statement yesterday copies for one player_id, with the current values.
-- Parameters:  earliest_date, previous_date DATE (the nights that may be copied, both ends included); player_id INT64.
-- Reads:       nba_predictions.ml_feature_store_v2.
-- Result:      one row with every published column; none if the copied build has no row of this player_id.
-- Second run:  reads only.
WITH night AS (
  SELECT MAX(analysis_date) AS copied_date
  FROM nba_predictions.ml_feature_store_v2
  WHERE analysis_date BETWEEN @earliest_date AND @previous_date AND data_source <> 'yesterday'
)
SELECT
  published.analysis_date,
  published.player_id,
  published.player_name,
  published.team_abbreviation,
  published.opponent_abbreviation,
  published.has_game,
  IF(IS_NAN(published.offensive_rating) OR IS_INF(published.offensive_rating), NULL, published.offensive_rating)
    AS offensive_rating,
  IF(IS_NAN(published.usage_rate) OR IS_INF(published.usage_rate), NULL, published.usage_rate) AS usage_rate,
  IF(IS_NAN(published.true_shooting_pct) OR IS_INF(published.true_shooting_pct), NULL, published.true_shooting_pct)
    AS true_shooting_pct,
  IF(IS_NAN(published.points_per_36) OR IS_INF(published.points_per_36), NULL, published.points_per_36)
    AS points_per_36,
  IF(IS_NAN(published.defensive_rating) OR IS_INF(published.defensive_rating), NULL, published.defensive_rating)
    AS defensive_rating,
  IF(IS_NAN(published.defensive_win_shares) OR IS_INF(published.defensive_win_shares), NULL,
    published.defensive_win_shares) AS defensive_win_shares,
  IF(IS_NAN(published.steal_rate) OR IS_INF(published.steal_rate), NULL, published.steal_rate) AS steal_rate,
  IF(IS_NAN(published.block_rate) OR IS_INF(published.block_rate), NULL, published.block_rate) AS block_rate,
  IF(IS_NAN(published.points_projection) OR IS_INF(published.points_projection), NULL, published.points_projection)
    AS points_projection,
  IF(IS_NAN(published.rebounds_projection) OR IS_INF(published.rebounds_projection), NULL,
    published.rebounds_projection) AS rebounds_projection,
  IF(IS_NAN(published.assists_projection) OR IS_INF(published.assists_projection), NULL,
    published.assists_projection) AS assists_projection,
  IF(IS_NAN(published.pace) OR IS_INF(published.pace), NULL, published.pace) AS pace,
  IF(IS_NAN(published.restricted_area_shot_pct) OR IS_INF(published.restricted_area_shot_pct), NULL,
    published.restricted_area_shot_pct) AS restricted_area_shot_pct,
  IF(IS_NAN(published.paint_shot_pct) OR IS_INF(published.paint_shot_pct), NULL, published.paint_shot_pct)
    AS paint_shot_pct,
  IF(IS_NAN(published.mid_range_shot_pct) OR IS_INF(published.mid_range_shot_pct), NULL,
    published.mid_range_shot_pct) AS mid_range_shot_pct,
  IF(IS_NAN(published.three_point_attempt_rate) OR IS_INF(published.three_point_attempt_rate), NULL,
    published.three_point_attempt_rate) AS three_point_attempt_rate,
  IF(IS_NAN(published.opponent_def_rating) OR IS_INF(published.opponent_def_rating), NULL,
    published.opponent_def_rating) AS opponent_def_rating,
  IF(IS_NAN(published.opponent_rim_protection_rating) OR IS_INF(published.opponent_rim_protection_rating), NULL,
    published.opponent_rim_protection_rating) AS opponent_rim_protection_rating,
  IF(IS_NAN(published.opponent_perimeter_def_rating) OR IS_INF(published.opponent_perimeter_def_rating), NULL,
    published.opponent_perimeter_def_rating) AS opponent_perimeter_def_rating,
  IF(IS_NAN(published.last_5_games_ppg) OR IS_INF(published.last_5_games_ppg), NULL, published.last_5_games_ppg)
    AS last_5_games_ppg,
  IF(IS_NAN(published.last_10_games_ppg) OR IS_INF(published.last_10_games_ppg), NULL, published.last_10_games_ppg)
    AS last_10_games_ppg,
  IF(IS_NAN(published.season_avg_ppg) OR IS_INF(published.season_avg_ppg), NULL, published.season_avg_ppg)
    AS season_avg_ppg,
  published.quality_score,
  published.data_source,
  published.phase4_available,
  published.phase3_fallback_used,
  published.team_defense_source,
  published.player_shot_source,
  published.composite_source,
  published.daily_cache_source,
  published.phase3_features,
  published.missing_features,
  published.source_data_date,
  published.build_generation,
  published.build_id,
  published.processed_at
FROM nba_predictions.ml_feature_store_v2 AS published
JOIN night ON night.copied_date = published.analysis_date
WHERE published.analysis_date BETWEEN @earliest_date AND @previous_date AND published.player_id = @player_id
