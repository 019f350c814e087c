{{ head("Purpose", "how the rows of every attempt were made, and what they were worth; published or not.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per build_id, written before the attempt is published; points 0 to 100, rates 0 to 1. The state is failed where the gate refused the rows.") }}
{{ head("Second run", "changes nothing.") }}
CREATE TABLE IF NOT EXISTS {{ table }} (
  analysis_date DATE NOT NULL,
  build_id STRING NOT NULL,
  generation INT64 NOT NULL,
  attempt INT64 NOT NULL,
  trigger STRING NOT NULL,
  mode STRING NOT NULL,
  phase3_lookback_days INT64 NOT NULL,
  as_of TIMESTAMP,
  ignored_processors STRING,
  state STRING NOT NULL,
  row_count INT64 NOT NULL,
  left_out INT64 NOT NULL,
  quality_score FLOAT64 NOT NULL,
{% for component in components %}
  {{ component }}_score FLOAT64 NOT NULL,
{% endfor %}
  component_total FLOAT64 NOT NULL,
  fallback_rate FLOAT64 NOT NULL,
  missing_rate FLOAT64 NOT NULL,
  severity STRING,
  findings STRING,
{% for block in blocks %}
  {{ block.name }}_rows INT64 NOT NULL,
{% endfor %}
  started_at TIMESTAMP NOT NULL,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY build_id
