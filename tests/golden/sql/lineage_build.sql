-- Purpose:     how the published build of a date was made.
-- Parameters:  @analysis_date DATE.
-- Reads:       nba_predictions.ml_feature_store_v2_ledger, nba_predictions.ml_feature_store_v2_execution_log.
-- Result:      one row; none where nothing is published.
-- Second run:  reads only.
SELECT
  ledger.build_id,
  ledger.generation,
  ledger.state,
  executed.mode,
  executed.trigger,
  executed.phase3_lookback_days,
  executed.as_of,
  executed.ignored_processors,
  executed.completed_at
FROM nba_predictions.ml_feature_store_v2_ledger AS ledger
JOIN nba_predictions.ml_feature_store_v2_execution_log AS executed
  ON executed.analysis_date = ledger.analysis_date AND executed.build_id = ledger.build_id
WHERE ledger.analysis_date = @analysis_date AND executed.analysis_date = @analysis_date
  AND ledger.generation > 0 AND executed.state <> 'failed'
