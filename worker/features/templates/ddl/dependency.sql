{{ head("Purpose", "which Phase 4 tables had rows when each published date was built.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per analysis_date: that of the published generation.") }}
{{ head("Second run", "changes nothing.") }}
CREATE OR REPLACE VIEW {{ table }} AS
SELECT DISTINCT
  made.analysis_date,
{% for block in blocks %}
  made.{{ block.name }}_rows > 0 AS {{ block.name }}_available,
{% endfor %}
{% for block in blocks %}
  made.{{ block.name }}_rows,
{% endfor %}
  made.generation,
  made.build_id,
  made.processed_at
FROM {{ tables.history }} AS made
{% include "parts/published.sql" %}
  ON made.analysis_date = published.analysis_date AND made.build_id = published.build_id
