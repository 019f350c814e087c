-- Purpose:     the claims of a date, and the published generation.
-- Parameters:  analysis_date DATE.
-- Reads:       nba_predictions.ml_feature_store_v2_ledger.
-- Result:      one row, the newest claim first where a date has several; none for a date without a claim.
-- Second run:  reads only.
SELECT claimed_generation, claimed_attempt, claimed_by, generation, build_id, committed_at
FROM nba_predictions.ml_feature_store_v2_ledger
WHERE analysis_date = @analysis_date
ORDER BY claimed_generation DESC, claimed_attempt DESC, generation DESC
