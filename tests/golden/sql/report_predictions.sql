-- Purpose:     number and mean confidence of the consumer's predictions for a night.
-- Parameters:  analysis_date DATE.
-- Reads:       nba_predictions.player_prop_predictions, which is the consumer's.
-- Result:      one row; no predictions give 0 and NULL.
-- Second run:  reads only.
SELECT COUNT(*) AS prediction_count, SAFE_DIVIDE(SUM(confidence_score), COUNT(confidence_score)) AS average_confidence
FROM nba_predictions.player_prop_predictions
WHERE prediction_date = @analysis_date
