-- Purpose:     every generation that was published for a date, when, what it is worth, and whether its rows are still
--              there.
-- Parameters:  analysis_date DATE.
-- Reads:       nba_predictions.ml_feature_store_v2_ledger, nba_predictions.ml_feature_store_v2_quality_history,
--              nba_predictions.ml_feature_store_v2_generations.
-- Result:      one row per publication, oldest first. row_count counts the published rows that lie in
--              nba_predictions.ml_feature_store_v2_generations under the build_id: 0 once they were deleted.
-- Second run:  reads only.
WITH told AS (
  SELECT DISTINCT published.generation, published.build_id, published.committed_at
  FROM nba_predictions.ml_feature_store_v2_ledger AS ledger, UNNEST(ledger.publications) AS published
  WHERE ledger.analysis_date = @analysis_date
),
kept AS (
  SELECT build_id, COUNT(*) AS row_count
  FROM nba_predictions.ml_feature_store_v2_generations
  WHERE analysis_date = @analysis_date AND left_out_reason IS NULL
  GROUP BY build_id
)
SELECT DISTINCT
  told.generation AS generation,
  told.build_id,
  told.committed_at,
  COALESCE(kept.row_count, 0) AS row_count,
  made.state,
  made.quality_score,
  made.findings
FROM told
LEFT JOIN kept ON kept.build_id = told.build_id
LEFT JOIN nba_predictions.ml_feature_store_v2_quality_history AS made
  ON made.build_id = told.build_id AND made.analysis_date = @analysis_date
ORDER BY generation
