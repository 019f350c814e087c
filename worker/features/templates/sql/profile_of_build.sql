{{ head("Purpose", "the statistics of the features of a published build, to be shown.") }}
{{ head("Parameters", "analysis_date DATE; build_id STRING.") }}
{{ head("Reads", tables.profile ~ ".") }}
{{ head("Result", "one row per feature; none for a build without statistics.") }}
{{ head("Second run", "reads only.") }}
SELECT
{% for column in profiled %}
  {{ column }}{{ "" if loop.last else "," }}
{% endfor %}
FROM {{ tables.profile }}
WHERE analysis_date = @analysis_date AND build_id = @build_id
