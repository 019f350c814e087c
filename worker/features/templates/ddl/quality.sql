{{ head("Purpose", "what each published date is worth.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per analysis_date: that of the published generation; points 0 to 100, rates 0 to 1.") }}
{{ head("Second run", "changes nothing.") }}
CREATE OR REPLACE VIEW {{ table }} AS
SELECT DISTINCT
  made.analysis_date,
  made.quality_score,
{% for component in components %}
  made.{{ component }}_score,
{% endfor %}
  made.component_total,
  made.fallback_rate,
  made.missing_rate,
  made.severity,
  made.findings,
  made.state,
  made.row_count,
  made.left_out,
  made.generation,
  made.build_id,
  made.processed_at
FROM {{ tables.history }} AS made
{% include "parts/published.sql" %}
  ON made.analysis_date = published.analysis_date AND made.build_id = published.build_id
