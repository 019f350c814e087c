{{ head("Purpose", "the retracted runs, so that a lost record can be restored.") }}
{{ head("Parameters", "first_date, last_date DATE (both included).") }}
{{ head("Reads", tables.replay ~ ".") }}
{{ head("Result", "one row per retraction, oldest first.") }}
{{ head("Second run", "reads only.") }}
SELECT analysis_date, requested_at, requested_by, reason, request_id, processor, run, run_completed_at
FROM {{ tables.replay }}
WHERE analysis_date BETWEEN @first_date AND @last_date AND mode = 'retract'
ORDER BY requested_at, processor, run
