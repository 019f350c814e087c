-- Purpose:     number and mean confidence of the consumer's predictions for the nights of a span.
-- Parameters:  first_date DATE; last_date DATE (included).
-- Reads:       nba_predictions.player_prop_predictions, which is the consumer's.
-- Result:      one row per night with predictions, oldest first; the mean is NULL where no prediction has a confidence.
--              NaN and infinity count as NULL.
-- Second run:  reads only.
SELECT
  analysis_date,
  COUNT(*) AS prediction_count,
  SAFE_DIVIDE(SUM(confidence), COUNT(confidence)) AS average_confidence
FROM (
  SELECT
    prediction_date AS analysis_date,
    IF(IS_NAN(confidence_score) OR IS_INF(confidence_score), NULL, confidence_score) AS confidence
  FROM nba_predictions.player_prop_predictions
  WHERE prediction_date BETWEEN @first_date AND @last_date
)
GROUP BY analysis_date
ORDER BY analysis_date
