-- Purpose:     the features of a date for the predictions of Phase 5.
-- Parameters:  analysis_date DATE; quality_score_min FLOAT64 (rows worth less are left out).
-- Reads:       nba_predictions.ml_feature_store_v2.
-- Result:      one row per player_id, every published column, in this order.
-- Second run:  reads only.
SELECT *
FROM nba_predictions.ml_feature_store_v2
WHERE analysis_date = @analysis_date AND quality_score >= @quality_score_min
ORDER BY player_id
