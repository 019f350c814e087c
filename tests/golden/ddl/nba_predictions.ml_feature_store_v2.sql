-- Purpose:     the features that Phase 5 reads: the rows of each date's published generation.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2
-- Result:      one row per analysis_date and player_id. The ledger says which generation; a publication changes rows,
--              score and dependencies of its date in one step.
-- Second run:  changes nothing.
CREATE OR REPLACE VIEW nba_predictions.ml_feature_store_v2 AS
SELECT
  made.analysis_date,
  made.player_id,
  made.player_name,
  made.team_abbreviation,
  made.opponent_abbreviation,
  made.has_game,
  made.offensive_rating,
  made.usage_rate,
  made.true_shooting_pct,
  made.points_per_36,
  made.defensive_rating,
  made.defensive_win_shares,
  made.steal_rate,
  made.block_rate,
  made.points_projection,
  made.rebounds_projection,
  made.assists_projection,
  made.pace,
  made.restricted_area_shot_pct,
  made.paint_shot_pct,
  made.mid_range_shot_pct,
  made.three_point_attempt_rate,
  made.opponent_def_rating,
  made.opponent_rim_protection_rating,
  made.opponent_perimeter_def_rating,
  made.last_5_games_ppg,
  made.last_10_games_ppg,
  made.season_avg_ppg,
  made.quality_score,
  made.data_source,
  made.phase4_available,
  made.phase3_fallback_used,
  made.team_defense_source,
  made.player_shot_source,
  made.composite_source,
  made.daily_cache_source,
  made.phase3_features,
  made.missing_features,
  made.source_data_date,
  made.build_generation,
  made.build_id,
  made.processed_at
FROM nba_predictions.ml_feature_store_v2_generations AS made
JOIN (
  SELECT DISTINCT analysis_date, build_id
  FROM nba_predictions.ml_feature_store_v2_ledger
  WHERE generation > 0
) AS published
  ON made.analysis_date = published.analysis_date AND made.build_id = published.build_id
WHERE made.left_out_reason IS NULL
