-- Purpose:     the dates with several rows in the ledger, left by two simultaneous first claims.
-- Parameters:  none.
-- Reads:       nba_predictions.ml_feature_store_v2_ledger.
-- Result:      (analysis_date, row_count), by date; nothing where every date has one row.
-- Second run:  reads only.
SELECT analysis_date, COUNT(*) AS row_count
FROM nba_predictions.ml_feature_store_v2_ledger
GROUP BY analysis_date
HAVING COUNT(*) > 1
ORDER BY analysis_date
