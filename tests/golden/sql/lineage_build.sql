-- Purpose:     how the published build of a date was made.
-- Parameters:  analysis_date DATE.
-- Reads:       nba_predictions.ml_feature_store_v2_ledger, nba_predictions.ml_feature_store_v2_quality_history.
-- Result:      one row; none where nothing is published.
-- Second run:  reads only.
SELECT DISTINCT
  made.build_id,
  made.generation,
  made.state,
  made.mode,
  made.trigger,
  made.phase3_lookback_days,
  made.as_of,
  made.ignored_processors,
  made.processed_at AS completed_at
FROM nba_predictions.ml_feature_store_v2_quality_history AS made
JOIN nba_predictions.ml_feature_store_v2_ledger AS ledger
  ON made.analysis_date = ledger.analysis_date AND made.build_id = ledger.build_id
WHERE made.analysis_date = @analysis_date AND ledger.analysis_date = @analysis_date
