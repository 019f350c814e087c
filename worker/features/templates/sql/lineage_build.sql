{{ head("Purpose", "how the published build of a date was made.") }}
{{ head("Parameters", "analysis_date DATE.") }}
{{ head("Reads", tables.ledger ~ ", " ~ tables.history ~ ".") }}
{{ head("Result", "one row; none where nothing is published.") }}
{{ head("Second run", "reads only.") }}
SELECT DISTINCT
  made.build_id,
  made.generation,
  made.state,
  made.mode,
  made.trigger,
  made.phase3_lookback_days,
  made.as_of,
  made.ignored_processors,
  made.processed_at AS completed_at
FROM {{ tables.history }} AS made
JOIN {{ tables.ledger }} AS ledger
  ON made.analysis_date = ledger.analysis_date AND made.build_id = ledger.build_id
WHERE made.analysis_date = @analysis_date AND ledger.analysis_date = @analysis_date
