{{ head("Purpose", "how many rows each Phase 4 table holds for the date: what the build relies on, and the deadline's probe.") }}
{{ head("Parameters", "analysis_date DATE; as_of TIMESTAMP (rows processed later are not seen; without it the condition is left out).") }}
{{ head("Reads", blocks | map(attribute="table") | join(", ") ~ ".") }}
{{ head("Result", "(processor, row_count, not_finite), one row per processor, 0 where there is nothing; not_finite holds the number of NaN and infinite values of each FLOAT64 feature, in the order of the catalogue.") }}
{{ head("Second run", "reads only.") }}
{% for block in blocks %}
SELECT
  '{{ block.processor }}' AS processor,
  COUNT(*) AS row_count,
{% set counts = [] %}
{% for feature in features_of(block.name) if feature.phase4.not_finite %}
{% set _ = counts.append("COUNT(IF(" ~ feature.phase4.not_finite ~ ", 1, NULL))") %}
{% endfor %}
  [
    {{ counts | commas(4) }}
  ] AS not_finite
FROM {{ source(block.table) }}
WHERE analysis_date = @analysis_date{{ seen }}
{% if not loop.last %}
UNION ALL
{% endif %}
{% endfor %}
