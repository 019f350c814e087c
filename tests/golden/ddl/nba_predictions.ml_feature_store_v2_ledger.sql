-- Purpose:     for each date the newest claim, and which attempt's rows are published; guards every publication.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_ledger
-- Result:      one row per analysis_date. (claimed_generation, claimed_attempt) is the fencing token and only ever
--              rises; claimed_by holds the claim. generation and build_id are what is published now: 0 and NULL before
--              the first publication. publications lists every publication of the date, oldest first.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_predictions.ml_feature_store_v2_ledger (
  analysis_date DATE NOT NULL,
  claimed_generation INT64 NOT NULL,
  claimed_attempt INT64 NOT NULL,
  claimed_by STRING NOT NULL,
  claimed_at TIMESTAMP NOT NULL,
  generation INT64 NOT NULL,
  build_id STRING,
  committed_at TIMESTAMP,
  publications ARRAY<STRUCT<generation INT64, build_id STRING, committed_at TIMESTAMP>>
)
PARTITION BY analysis_date
CLUSTER BY analysis_date
