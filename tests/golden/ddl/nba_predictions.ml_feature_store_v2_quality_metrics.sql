-- Purpose:     what each published date is worth.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_quality_metrics
-- Result:      one row per analysis_date: that of the published generation; points 0 to 100, rates 0 to 1.
-- Second run:  changes nothing.
CREATE OR REPLACE VIEW nba_predictions.ml_feature_store_v2_quality_metrics AS
SELECT DISTINCT
  made.analysis_date,
  made.quality_score,
  made.phase4_availability_score,
  made.phase3_fallback_score,
  made.data_freshness_score,
  made.dependency_completeness_score,
  made.row_completeness_score,
  made.null_field_rate_score,
  made.component_total,
  made.fallback_rate,
  made.missing_rate,
  made.severity,
  made.findings,
  made.state,
  made.row_count,
  made.left_out,
  made.generation,
  made.build_id,
  made.processed_at
FROM nba_predictions.ml_feature_store_v2_quality_history AS made
JOIN (
  SELECT DISTINCT analysis_date, build_id
  FROM nba_predictions.ml_feature_store_v2_ledger
  WHERE generation > 0
) AS published
  ON made.analysis_date = published.analysis_date AND made.build_id = published.build_id
