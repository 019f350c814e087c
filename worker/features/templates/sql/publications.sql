{{ head("Purpose", "every generation that was published for a date, and when.") }}
{{ head("Parameters", "@analysis_date DATE.") }}
{{ head("Reads", tables.ledger ~ ".") }}
{{ head("Result", "one row per publication, oldest first; the rows of each lie in " ~ tables.generations ~ " under its build_id.") }}
{{ head("Second run", "reads only.") }}
SELECT DISTINCT published.generation AS generation, published.build_id, published.committed_at
FROM {{ tables.ledger }} AS ledger, UNNEST(ledger.publications) AS published
WHERE ledger.analysis_date = @analysis_date
ORDER BY generation
