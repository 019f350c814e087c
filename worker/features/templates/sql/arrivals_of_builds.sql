{{ head("Purpose", "the first build that found rows of a processor, for nights of a span of which no arrival is stored.") }}
{{ head("Parameters", "first_date DATE; last_date DATE (included).") }}
{{ head("Reads", tables.history ~ ", " ~ tables.arrivals ~ ".") }}
{{ head("Result", "one row per analysis_date and processor with rows, by analysis_date. The rows were in the table when the build started; nothing is said of an earlier instant.") }}
{{ head("Second run", "reads only.") }}
{% for block in blocks %}
SELECT
  analysis_date,
  '{{ block.processor }}' AS processor,
  build_id,
  started_at,
  {{ block.name }}_rows AS row_count
FROM {{ tables.history }}
WHERE analysis_date BETWEEN @first_date AND @last_date
  AND mode = 'normal'
  AND as_of IS NULL
  AND {{ block.name }}_rows > 0
  AND analysis_date NOT IN (
    SELECT arrivals.analysis_date
    FROM {{ tables.arrivals }} AS arrivals
    WHERE arrivals.analysis_date BETWEEN @first_date AND @last_date
  )
QUALIFY ROW_NUMBER() OVER (PARTITION BY analysis_date ORDER BY started_at, build_id) = 1
{% if not loop.last %}
UNION ALL
{% endif %}
{% endfor %}
ORDER BY analysis_date, processor
