{{ head("Purpose", "what each published night of a span was worth, and what its tables held at the build.") }}
{{ head("Parameters", "first_date DATE; last_date DATE (included).") }}
{{ head("Reads", tables.quality ~ ", " ~ tables.dependency ~ ".") }}
{{ head("Result", "one row per published date, oldest first; points 0 to 100, rates 0 to 1.") }}
{{ head("Second run", "reads only.") }}
SELECT
  quality.analysis_date,
  quality.state,
  quality.generation,
  quality.row_count,
  quality.quality_score,
  quality.fallback_rate,
  quality.missing_rate,
  quality.severity,
  quality.findings,
{% for block in blocks %}
  dependency.{{ block.name }}_rows{{ "" if loop.last else "," }}
{% endfor %}
FROM {{ tables.quality }} AS quality
LEFT JOIN {{ tables.dependency }} AS dependency
  ON quality.analysis_date = dependency.analysis_date
  AND quality.build_id = dependency.build_id
  AND dependency.analysis_date BETWEEN @first_date AND @last_date
WHERE quality.analysis_date BETWEEN @first_date AND @last_date
ORDER BY analysis_date
