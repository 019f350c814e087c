{{ head("Purpose", "which Phase 4 tables had rows for each published date.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per analysis_date, replaced by each commit.") }}
{{ head("Second run", "changes nothing.") }}
CREATE TABLE IF NOT EXISTS {{ table }} (
  analysis_date DATE NOT NULL,
{% for block in blocks %}
  {{ block.name }}_available BOOL NOT NULL,
{% endfor %}
{% for block in blocks %}
  {{ block.name }}_rows INT64 NOT NULL,
{% endfor %}
  generation INT64 NOT NULL,
  build_id STRING NOT NULL,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY analysis_date
