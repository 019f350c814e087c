{{ head("Purpose", "every report of a processor that counted, and how late it came.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per analysis_date, processor and run; appended to, never changed. lateness_s is negative where the report came before the deadline. caused is the trigger of the following build, or empty.") }}
{{ head("Second run", "changes nothing.") }}
CREATE TABLE IF NOT EXISTS {{ table }} (
  analysis_date DATE NOT NULL,
  processor STRING NOT NULL,
  run STRING NOT NULL,
  status STRING NOT NULL,
  completed_at TIMESTAMP NOT NULL,
  received_at TIMESTAMP NOT NULL,
  lateness_s FLOAT64 NOT NULL,
  rows_claimed INT64,
  rows_found INT64,
  caused STRING
)
PARTITION BY analysis_date
CLUSTER BY processor
