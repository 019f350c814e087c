-- Purpose:     how a published build of a date was made.
-- Parameters:  analysis_date DATE; build_id STRING.
-- Reads:       nba_predictions.ml_feature_store_v2_quality_history.
-- Result:      one row; none where there is no such build.
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
WHERE made.analysis_date = @analysis_date AND made.build_id = @build_id
