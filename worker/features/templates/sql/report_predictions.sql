{{ head("Purpose", "number and mean confidence of the consumer's predictions for a night.") }}
{{ head("Parameters", "analysis_date DATE.") }}
{{ head("Reads", optional.predictions ~ ", which is the consumer's.") }}
{{ head("Result", "one row; no predictions give 0 and NULL. NaN and infinity count as NULL.") }}
{{ head("Second run", "reads only.") }}
SELECT COUNT(*) AS prediction_count, SAFE_DIVIDE(SUM(confidence), COUNT(confidence)) AS average_confidence
FROM (
  SELECT {{ finite("confidence_score") | join(" ") }} AS confidence
  FROM {{ optional.predictions }}
  WHERE prediction_date = @analysis_date
)
