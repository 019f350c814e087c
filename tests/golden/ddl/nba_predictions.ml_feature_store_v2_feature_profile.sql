-- Purpose:     statistics of each feature in each published generation, against which later nights are judged.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_feature_profile
-- Result:      one row per analysis_date, build_id and feature with a range, written with the publication. row_count,
--              present_count and out_of_range_count hold every row; the other figures hold Phase 4 cells inside the
--              range. bins counts the values between bin_edges. Of the pairs with compared_date, played_count are those
--              whose team played on that night, still_count the others. teams and team_values: a feature with one value
--              per team.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_predictions.ml_feature_store_v2_feature_profile (
  analysis_date DATE NOT NULL,
  build_id STRING NOT NULL,
  generation INT64 NOT NULL,
  feature STRING NOT NULL,
  row_count INT64 NOT NULL,
  present_count INT64 NOT NULL,
  out_of_range_count INT64 NOT NULL,
  value_count INT64 NOT NULL,
  mean FLOAT64,
  deviation FLOAT64,
  lowest FLOAT64,
  highest FLOAT64,
  mode_share FLOAT64,
  bins ARRAY<INT64>,
  bin_edges ARRAY<FLOAT64>,
  compared_date DATE,
  pair_count INT64 NOT NULL,
  correlation FLOAT64,
  played_count INT64 NOT NULL,
  unmoved_count INT64 NOT NULL,
  still_count INT64 NOT NULL,
  moved_count INT64 NOT NULL,
  teams ARRAY<STRING>,
  team_values ARRAY<FLOAT64>
)
PARTITION BY analysis_date
CLUSTER BY feature
