-- Purpose:     every publication of the nights of a span: what consumers could read from when on, and what it was
--              worth.
-- Parameters:  first_date DATE; last_date DATE (included).
-- Reads:       nba_predictions.ml_feature_store_v2_ledger, nba_predictions.ml_feature_store_v2_quality_history.
-- Result:      one row per date and publication, in the order of publication; the figures are NULL where the history
--              has lost the build.
-- Second run:  reads only.
WITH told AS (
  SELECT DISTINCT ledger.analysis_date, published.generation, published.build_id, published.committed_at
  FROM nba_predictions.ml_feature_store_v2_ledger AS ledger, UNNEST(ledger.publications) AS published
  WHERE ledger.analysis_date BETWEEN @first_date AND @last_date
)
SELECT DISTINCT
  told.analysis_date,
  told.generation AS generation,
  told.build_id,
  told.committed_at AS committed_at,
  made.state,
  made.mode,
  made.trigger,
  made.row_count,
  made.quality_score,
  made.fallback_rate,
  made.severity,
  made.findings
FROM told
LEFT JOIN nba_predictions.ml_feature_store_v2_quality_history AS made
  ON made.build_id = told.build_id
  AND made.analysis_date = told.analysis_date
  AND made.analysis_date BETWEEN @first_date AND @last_date
ORDER BY analysis_date, committed_at, generation
