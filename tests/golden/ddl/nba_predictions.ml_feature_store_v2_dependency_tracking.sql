-- Purpose:     which Phase 4 tables had rows for each published date.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_dependency_tracking
-- Result:      one row per analysis_date, replaced by each commit.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_predictions.ml_feature_store_v2_dependency_tracking (
  analysis_date DATE NOT NULL,
  team_defense_available BOOL NOT NULL,
  player_shot_available BOOL NOT NULL,
  composite_available BOOL NOT NULL,
  daily_cache_available BOOL NOT NULL,
  team_defense_rows INT64 NOT NULL,
  player_shot_rows INT64 NOT NULL,
  composite_rows INT64 NOT NULL,
  daily_cache_rows INT64 NOT NULL,
  generation INT64 NOT NULL,
  build_id STRING NOT NULL,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY analysis_date
