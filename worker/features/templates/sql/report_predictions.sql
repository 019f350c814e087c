{{ head("Purpose", "number and mean confidence of the consumer's predictions for the nights of a span.") }}
{{ head("Parameters", "first_date DATE; last_date DATE (included).") }}
{{ head("Reads", optional.predictions ~ ", which is the consumer's.") }}
{{ head("Result", "one row per night with predictions, oldest first; the mean is NULL where no prediction has a confidence. NaN and infinity count as NULL.") }}
{{ head("Second run", "reads only.") }}
SELECT
  analysis_date,
  COUNT(*) AS prediction_count,
  SAFE_DIVIDE(SUM(confidence), COUNT(confidence)) AS average_confidence
FROM (
  SELECT
    prediction_date AS analysis_date,
    {{ finite("confidence_score") | join(" ") }} AS confidence
  FROM {{ optional.predictions }}
  WHERE prediction_date BETWEEN @first_date AND @last_date
)
GROUP BY analysis_date
ORDER BY analysis_date
