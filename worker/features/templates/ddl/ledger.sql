{{ head("Purpose", "for each date the newest claim and the last commit; guards every publication.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per analysis_date. (claimed_generation, claimed_attempt) is the fencing token and only ever rises; claimed_by holds it; generation is the last committed one, rises with each commit, and is 0 before the first.") }}
{{ head("Second run", "changes nothing.") }}
CREATE TABLE IF NOT EXISTS {{ table }} (
  analysis_date DATE NOT NULL,
  claimed_generation INT64 NOT NULL,
  claimed_attempt INT64 NOT NULL,
  claimed_by STRING NOT NULL,
  generation INT64 NOT NULL,
  attempt INT64 NOT NULL,
  build_id STRING NOT NULL,
  state STRING NOT NULL,
  row_count INT64 NOT NULL,
  quality_score FLOAT64 NOT NULL,
  component_total FLOAT64 NOT NULL,
{% for component in components %}
  {{ component }}_score FLOAT64 NOT NULL,
{% endfor %}
  fallback_rate FLOAT64 NOT NULL,
  missing_rate FLOAT64 NOT NULL,
  severity STRING,
{% for block in blocks %}
  {{ block.name }}_rows INT64 NOT NULL,
{% endfor %}
  left_out INT64 NOT NULL,
  started_at TIMESTAMP NOT NULL,
  committed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY analysis_date
