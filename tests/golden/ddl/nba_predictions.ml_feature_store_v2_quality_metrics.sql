-- Purpose:     what each published date is worth.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_quality_metrics
-- Result:      one row per analysis_date, replaced by each commit; points 0 to 100, rates 0 to 1.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_predictions.ml_feature_store_v2_quality_metrics (
  analysis_date DATE NOT NULL,
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
  state STRING NOT NULL,
  row_count INT64 NOT NULL,
  left_out INT64 NOT NULL,
  generation INT64 NOT NULL,
  build_id STRING NOT NULL,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY analysis_date
