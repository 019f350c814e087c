-- Purpose:     statistics of each feature in each generation, against which later nights are judged.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_feature_profile
-- Result:      one row per analysis_date, build_id and feature; bins counts the values in each bin of the catalogue.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_predictions.ml_feature_store_v2_feature_profile (
  analysis_date DATE NOT NULL,
  build_id STRING NOT NULL,
  generation INT64 NOT NULL,
  feature STRING NOT NULL,
  row_count INT64 NOT NULL,
  null_count INT64 NOT NULL,
  not_finite_count INT64 NOT NULL,
  mean FLOAT64,
  deviation FLOAT64,
  lowest FLOAT64,
  highest FLOAT64,
  bins ARRAY<INT64>
)
PARTITION BY analysis_date
CLUSTER BY feature
