{{ head("Purpose", "the claims of a date, and the published generation.") }}
{{ head("Parameters", "analysis_date DATE.") }}
{{ head("Reads", tables.ledger ~ ".") }}
{{ head("Result", "one row, the newest claim first where a date has several; none for a date without a claim.") }}
{{ head("Second run", "reads only.") }}
SELECT claimed_generation, claimed_attempt, claimed_by, generation, build_id, committed_at
FROM {{ tables.ledger }}
WHERE analysis_date = @analysis_date
ORDER BY claimed_generation DESC, claimed_attempt DESC, generation DESC
