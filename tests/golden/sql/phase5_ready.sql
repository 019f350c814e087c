-- Purpose:     the check of Phase 5 before predictions: number of rows and score of the date.
-- Parameters:  analysis_date DATE.
-- Reads:       nba_predictions.ml_feature_store_v2.
-- Result:      one row; zero rows published give 0 and NULL.
-- Second run:  reads only.
SELECT
  COUNT(*) AS row_count,
  SAFE_DIVIDE(SUM(quality_score), COUNT(*)) AS average_quality_score,
  COUNT(IF(phase3_fallback_used, 1, NULL)) AS fallback_rows,
  COUNT(IF(data_source = 'yesterday', 1, NULL)) AS yesterday_rows,
  MAX(build_generation) AS generation
FROM nba_predictions.ml_feature_store_v2
WHERE analysis_date = @analysis_date
