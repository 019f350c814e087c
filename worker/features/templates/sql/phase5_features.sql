{{ head("Purpose", "the features of a date for the predictions of Phase 5.") }}
{{ head("Parameters", "analysis_date DATE; quality_score_min FLOAT64 (rows worth less are left out).") }}
{{ head("Reads", tables.published ~ ".") }}
{{ head("Result", "one row per " ~ entity.key ~ ", every published column, in this order.") }}
{{ head("Second run", "reads only.") }}
SELECT
  {{ shown(2) }}
{% include "parts/published_or_build.sql" %}
WHERE analysis_date = @analysis_date AND quality_score >= @quality_score_min
ORDER BY {{ entity.key }}
