-- Purpose:     which Phase 4 tables had rows when each published date was built.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_dependency_tracking
-- Result:      one row per analysis_date: that of the published generation.
-- Second run:  changes nothing.
CREATE OR REPLACE VIEW nba_predictions.ml_feature_store_v2_dependency_tracking AS
SELECT DISTINCT
  made.analysis_date,
  made.team_defense_rows > 0 AS team_defense_available,
  made.player_shot_rows > 0 AS player_shot_available,
  made.composite_rows > 0 AS composite_available,
  made.daily_cache_rows > 0 AS daily_cache_available,
  made.team_defense_rows,
  made.player_shot_rows,
  made.composite_rows,
  made.daily_cache_rows,
  made.generation,
  made.build_id,
  made.processed_at
FROM nba_predictions.ml_feature_store_v2_quality_history AS made
JOIN (
  SELECT DISTINCT analysis_date, build_id
  FROM nba_predictions.ml_feature_store_v2_ledger
  WHERE generation > 0
) AS published
  ON made.analysis_date = published.analysis_date AND made.build_id = published.build_id
