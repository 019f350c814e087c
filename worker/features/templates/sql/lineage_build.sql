{{ head("Purpose", "how the published build of a date was made.") }}
{{ head("Parameters", "@analysis_date DATE.") }}
{{ head("Reads", tables.ledger ~ ", " ~ tables.execution ~ ".") }}
{{ head("Result", "one row; none where nothing is published.") }}
{{ head("Second run", "reads only.") }}
SELECT
  ledger.build_id,
  ledger.generation,
  ledger.state,
  executed.mode,
  executed.trigger,
  executed.phase3_lookback_days,
  executed.as_of,
  executed.ignored_processors,
  executed.completed_at
FROM {{ tables.ledger }} AS ledger
JOIN {{ tables.execution }} AS executed
  ON executed.analysis_date = ledger.analysis_date AND executed.build_id = ledger.build_id
WHERE ledger.analysis_date = @analysis_date AND executed.analysis_date = @analysis_date
  AND ledger.generation > 0 AND executed.state <> 'failed'
