-- Purpose:     the nights with which a build is compared, with the statistics of their features.
-- Parameters:  nights INT64 (how many at most); first_date, last_date DATE (both ends included).
-- Reads:       nba_predictions.ml_feature_store_v2_quality_history, nba_predictions.ml_feature_store_v2_ledger,
--              nba_predictions.ml_feature_store_v2_feature_profile.
-- Result:      one row per feature of the newest published nights without a critical finding; one row without feature
--              for a night without statistics. active_count: players of the roster, with and without a row.
-- Second run:  reads only.
WITH nights AS (
  SELECT analysis_date, build_id, row_count + left_out AS active_count
  FROM nba_predictions.ml_feature_store_v2_quality_history
  WHERE analysis_date BETWEEN @first_date AND @last_date
    AND build_id IN (
      SELECT build_id
      FROM nba_predictions.ml_feature_store_v2_ledger
      WHERE analysis_date BETWEEN @first_date AND @last_date AND generation > 0
    )
    AND NOT COALESCE(findings, '') LIKE '%"critical"%'
  QUALIFY ROW_NUMBER() OVER (ORDER BY analysis_date DESC, build_id, row_count, left_out) <= @nights
)
SELECT
  nights.analysis_date,
  nights.active_count,
  profile.feature,
  profile.row_count,
  profile.present_count,
  profile.out_of_range_count,
  profile.value_count,
  profile.mean,
  profile.deviation,
  profile.lowest,
  profile.highest,
  profile.mode_share,
  profile.bins,
  profile.bin_edges,
  profile.compared_date,
  profile.pair_count,
  profile.correlation,
  profile.played_count,
  profile.unmoved_count,
  profile.still_count,
  profile.moved_count,
  profile.teams,
  profile.team_values
FROM nights
LEFT JOIN nba_predictions.ml_feature_store_v2_feature_profile AS profile
  ON profile.analysis_date = nights.analysis_date
  AND profile.build_id = nights.build_id
  AND profile.analysis_date BETWEEN @first_date AND @last_date
