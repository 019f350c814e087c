-- Purpose:     every attempt that ended, published or not.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_execution_log
-- Result:      appended to, never changed.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_predictions.ml_feature_store_v2_execution_log (
  analysis_date DATE NOT NULL,
  build_id STRING NOT NULL,
  generation INT64 NOT NULL,
  attempt INT64 NOT NULL,
  trigger STRING NOT NULL,
  mode STRING NOT NULL,
  phase3_lookback_days INT64 NOT NULL,
  as_of TIMESTAMP,
  state STRING NOT NULL,
  started_at TIMESTAMP NOT NULL,
  completed_at TIMESTAMP NOT NULL,
  row_count INT64,
  left_out INT64,
  quality_score FLOAT64,
  component_total FLOAT64,
  fallback_rate FLOAT64,
  missing_rate FLOAT64,
  severity STRING,
  error STRING,
  ignored_processors STRING
)
PARTITION BY analysis_date
CLUSTER BY state
