-- Purpose:     number and mean confidence of the consumer's predictions for a night.
-- Parameters:  analysis_date DATE.
-- Reads:       nba_predictions.player_prop_predictions, which is the consumer's.
-- Result:      one row; no predictions give 0 and NULL. NaN and infinity count as NULL.
-- Second run:  reads only.
SELECT COUNT(*) AS prediction_count, SAFE_DIVIDE(SUM(confidence), COUNT(confidence)) AS average_confidence
FROM (
  SELECT IF(IS_NAN(confidence_score) OR IS_INF(confidence_score), NULL, confidence_score) AS confidence
  FROM nba_predictions.player_prop_predictions
  WHERE prediction_date = @analysis_date
)
