{{ head("Purpose", "the features that Phase 5 reads: the rows of each date's published generation.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per analysis_date and " ~ entity.key ~ ". The ledger says which generation; a publication changes rows, score and dependencies of its date in one step.") }}
{{ head("Second run", "changes nothing.") }}
CREATE OR REPLACE VIEW {{ table }} AS
SELECT
{% for column in output_columns %}
  made.{{ column.name }}{{ "" if loop.last else "," }}
{% endfor %}
FROM {{ tables.generations }} AS made
{% include "parts/published.sql" %}
  ON made.analysis_date = published.analysis_date AND made.build_id = published.build_id
WHERE made.left_out_reason IS NULL
