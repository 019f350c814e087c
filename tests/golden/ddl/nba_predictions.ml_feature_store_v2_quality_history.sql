-- Purpose:     how the rows of every attempt were made, and what they were worth; published or not.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_quality_history
-- Result:      one row per build_id, written before the attempt is published; points 0 to 100, rates 0 to 1. The state
--              is failed where the gate refused the rows.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_predictions.ml_feature_store_v2_quality_history (
  analysis_date DATE NOT NULL,
  build_id STRING NOT NULL,
  generation INT64 NOT NULL,
  attempt INT64 NOT NULL,
  trigger STRING NOT NULL,
  mode STRING NOT NULL,
  phase3_lookback_days INT64 NOT NULL,
  as_of TIMESTAMP,
  ignored_processors STRING,
  state STRING NOT NULL,
  row_count INT64 NOT NULL,
  left_out INT64 NOT NULL,
  quality_score FLOAT64 NOT NULL,
  phase4_availability_score FLOAT64 NOT NULL,
  phase3_fallback_score FLOAT64 NOT NULL,
  data_freshness_score FLOAT64 NOT NULL,
  dependency_completeness_score FLOAT64 NOT NULL,
  row_completeness_score FLOAT64 NOT NULL,
  null_field_rate_score FLOAT64 NOT NULL,
  component_total FLOAT64 NOT NULL,
  fallback_rate FLOAT64 NOT NULL,
  missing_rate FLOAT64 NOT NULL,
  severity STRING,
  findings STRING,
  team_defense_rows INT64 NOT NULL,
  player_shot_rows INT64 NOT NULL,
  composite_rows INT64 NOT NULL,
  daily_cache_rows INT64 NOT NULL,
  started_at TIMESTAMP NOT NULL,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY build_id
