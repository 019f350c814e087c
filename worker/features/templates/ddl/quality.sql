{{ head("Purpose", "what each published date is worth.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per analysis_date, replaced by each commit; points 0 to 100, rates 0 to 1.") }}
{{ head("Second run", "changes nothing.") }}
CREATE TABLE IF NOT EXISTS {{ table }} (
  analysis_date DATE NOT NULL,
  quality_score FLOAT64 NOT NULL,
{% for component in components %}
  {{ component }}_score FLOAT64 NOT NULL,
{% endfor %}
  component_total FLOAT64 NOT NULL,
  fallback_rate FLOAT64 NOT NULL,
  missing_rate FLOAT64 NOT NULL,
  severity STRING,
  state STRING NOT NULL,
  row_count INT64 NOT NULL,
  left_out INT64 NOT NULL,
  generation INT64 NOT NULL,
  build_id STRING NOT NULL,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY analysis_date
