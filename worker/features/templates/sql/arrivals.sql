{{ head("Purpose", "every report of a processor that counted in a span of nights, and how late it came.") }}
{{ head("Parameters", "first_date DATE; last_date DATE (included).") }}
{{ head("Reads", tables.arrivals ~ ".") }}
{{ head("Result", "one row per analysis_date, processor, run and status, by analysis_date and received_at. lateness_s is negative where the report came before the deadline.") }}
{{ head("Second run", "reads only.") }}
SELECT
  analysis_date,
  processor,
  run,
  status,
  completed_at,
  received_at,
  lateness_s,
  rows_claimed,
  rows_found,
  caused
FROM {{ tables.arrivals }}
WHERE analysis_date BETWEEN @first_date AND @last_date
-- Two workers that write at the same time may append a report twice.
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY analysis_date, processor, run, status
  ORDER BY received_at, completed_at, lateness_s, rows_claimed, rows_found, caused
) = 1
ORDER BY analysis_date, received_at, processor
