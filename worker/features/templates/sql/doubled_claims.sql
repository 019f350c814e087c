{{ head("Purpose", "the dates that have several rows in the ledger, which two first claims of one instant may leave.") }}
{{ head("Parameters", "none.") }}
{{ head("Reads", tables.ledger ~ ".") }}
{{ head("Result", "(analysis_date, row_count), by date; nothing where every date has one row.") }}
{{ head("Second run", "reads only.") }}
SELECT analysis_date, COUNT(*) AS row_count
FROM {{ tables.ledger }}
GROUP BY analysis_date
HAVING COUNT(*) > 1
ORDER BY analysis_date
