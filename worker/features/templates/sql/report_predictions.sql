{{ head("Purpose", "how many predictions the consumer made from a night, and how sure it was of them.") }}
{{ head("Parameters", "analysis_date DATE.") }}
{{ head("Reads", optional.predictions ~ ", which is the consumer's.") }}
{{ head("Result", "one row; no predictions give 0 and NULL.") }}
{{ head("Second run", "reads only.") }}
SELECT COUNT(*) AS prediction_count, SAFE_DIVIDE(SUM(confidence_score), COUNT(confidence_score)) AS average_confidence
FROM {{ optional.predictions }}
WHERE prediction_date = @analysis_date
