-- Purpose:     the statistics of the features of a published build, to be shown.
-- Parameters:  analysis_date DATE; build_id STRING.
-- Reads:       nba_predictions.ml_feature_store_v2_feature_profile.
-- Result:      one row per feature; none for a build without statistics.
-- Second run:  reads only.
SELECT
  feature,
  row_count,
  present_count,
  out_of_range_count,
  value_count,
  mean,
  deviation,
  lowest,
  highest,
  mode_share,
  bins,
  bin_edges,
  compared_date,
  pair_count,
  correlation,
  played_count,
  unmoved_count,
  still_count,
  moved_count,
  teams,
  team_values
FROM nba_predictions.ml_feature_store_v2_feature_profile
WHERE analysis_date = @analysis_date AND build_id = @build_id
