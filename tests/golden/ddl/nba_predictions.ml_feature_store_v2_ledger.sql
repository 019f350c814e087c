-- Purpose:     for each date the newest claim and the last commit; guards every publication.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_ledger
-- Result:      one row per analysis_date. (claimed_generation, claimed_attempt) is the fencing token and only ever
--              rises; claimed_by holds it; generation is the last committed one, rises with each commit, and is 0
--              before the first.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_predictions.ml_feature_store_v2_ledger (
  analysis_date DATE NOT NULL,
  claimed_generation INT64 NOT NULL,
  claimed_attempt INT64 NOT NULL,
  claimed_by STRING NOT NULL,
  generation INT64 NOT NULL,
  attempt INT64 NOT NULL,
  build_id STRING NOT NULL,
  state STRING NOT NULL,
  row_count INT64 NOT NULL,
  quality_score FLOAT64 NOT NULL,
  component_total FLOAT64 NOT NULL,
  phase4_availability_score FLOAT64 NOT NULL,
  phase3_fallback_score FLOAT64 NOT NULL,
  data_freshness_score FLOAT64 NOT NULL,
  dependency_completeness_score FLOAT64 NOT NULL,
  row_completeness_score FLOAT64 NOT NULL,
  null_field_rate_score FLOAT64 NOT NULL,
  fallback_rate FLOAT64 NOT NULL,
  missing_rate FLOAT64 NOT NULL,
  severity STRING,
  team_defense_rows INT64 NOT NULL,
  player_shot_rows INT64 NOT NULL,
  composite_rows INT64 NOT NULL,
  daily_cache_rows INT64 NOT NULL,
  left_out INT64 NOT NULL,
  started_at TIMESTAMP NOT NULL,
  committed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY analysis_date
