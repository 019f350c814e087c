{{ head("Purpose", "what is published for the dates of a span, as the ledger and the quality history have it.") }}
{{ head("Parameters", "first_date, last_date DATE (both included).") }}
{{ head("Reads", tables.ledger ~ ", " ~ tables.history ~ ".") }}
{{ head("Result", "one row per published date, oldest first.") }}
{{ head("Second run", "reads only.") }}
WITH pointer AS (
  SELECT analysis_date, build_id, MAX(committed_at) AS committed_at
  FROM {{ tables.ledger }}
  WHERE analysis_date BETWEEN @first_date AND @last_date AND generation > 0
  GROUP BY analysis_date, build_id
)
SELECT made.*, pointer.committed_at
FROM {{ tables.history }} AS made
JOIN pointer ON pointer.analysis_date = made.analysis_date AND pointer.build_id = made.build_id
WHERE made.analysis_date BETWEEN @first_date AND @last_date
ORDER BY made.analysis_date
