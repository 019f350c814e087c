{{ head("Purpose", "the dates with several rows in the ledger, left by two simultaneous first claims.") }}
{{ head("Parameters", "none.") }}
{{ head("Reads", tables.ledger ~ ".") }}
{{ head("Result", "(analysis_date, row_count), by date; nothing where every date has one row.") }}
{{ head("Second run", "reads only.") }}
SELECT analysis_date, COUNT(*) AS row_count
FROM {{ tables.ledger }}
GROUP BY analysis_date
HAVING COUNT(*) > 1
ORDER BY analysis_date
