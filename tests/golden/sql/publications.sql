-- Purpose:     every generation that was published for a date, and when.
-- Parameters:  @analysis_date DATE.
-- Reads:       nba_predictions.ml_feature_store_v2_ledger.
-- Result:      one row per publication, oldest first; the rows of each lie in
--              nba_predictions.ml_feature_store_v2_generations under its build_id.
-- Second run:  reads only.
SELECT DISTINCT published.generation AS generation, published.build_id, published.committed_at
FROM nba_predictions.ml_feature_store_v2_ledger AS ledger, UNNEST(ledger.publications) AS published
WHERE ledger.analysis_date = @analysis_date
ORDER BY generation
