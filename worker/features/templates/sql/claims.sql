{{ head("Purpose", "who has claimed a date, and which generation of the date is published.") }}
{{ head("Parameters", "analysis_date DATE.") }}
{{ head("Reads", tables.ledger ~ ".") }}
{{ head("Result", "one row, the newest claim first where a date has several; none for a date that nobody has claimed.") }}
{{ head("Second run", "reads only.") }}
SELECT claimed_generation, claimed_attempt, claimed_by, generation, build_id, committed_at
FROM {{ tables.ledger }}
WHERE analysis_date = @analysis_date
ORDER BY claimed_generation DESC, claimed_attempt DESC, generation DESC
