{{ head("Purpose", "the check of Phase 5 before predictions: number of rows and score of the date.") }}
{{ head("Parameters", "analysis_date DATE.") }}
{{ head("Reads", tables.published ~ ".") }}
{{ head("Result", "one row; zero rows published give 0 and NULL.") }}
{{ head("Second run", "reads only.") }}
SELECT
  COUNT(*) AS row_count,
  SAFE_DIVIDE(SUM(quality_score), COUNT(*)) AS average_quality_score,
  COUNT(IF(phase3_fallback_used, 1, NULL)) AS fallback_rows,
  COUNT(IF(data_source = 'yesterday', 1, NULL)) AS yesterday_rows,
  MAX(build_generation) AS generation
{% include "parts/published_or_build.sql" %}
WHERE analysis_date = @analysis_date
