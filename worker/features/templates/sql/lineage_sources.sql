{% set sources = blocks | map(attribute="table") | list + phase3_tables | map(attribute="name") | list %}
{{ head("Purpose", "the upstream rows that decide the cells of one row: per table the row that a build would use.") }}
{{ head("Parameters", "analysis_date DATE; " ~ lookups | each("{} {type}") | join("; ") ~ " (the rows to find; a missing parameter finds no rows); lookback_start, previous_date DATE (the Phase 3 window, both ends included); as_of TIMESTAMP (rows processed later are not seen; without it the condition is left out); built_at TIMESTAMP (the build's).") }}
{{ head("Reads", sources | join(", ") ~ ".") }}
{{ head("Result", "two rows: seen TRUE from what had been processed by the build, FALSE from what was processed since. Per table whether it has a row, its date and processed_at; phase4_ and phase3_ values of every feature.") }}
{{ head("Second run", "reads only.") }}
WITH moments AS (
  SELECT TRUE AS seen
  UNION ALL
  SELECT FALSE AS seen
),
{% for block in blocks %}
from_{{ block.name }} AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen,
    processed_at,
{% for feature in features_of(block.name) %}
    {{ feature.phase4.named(feature.name) | fit(4) }}{{ "" if loop.last else "," }}
{% endfor %}
  FROM {{ source(block.table) }}
  WHERE
    analysis_date = @analysis_date AND {{ looked_for(block) }}
{% if seen %}
   {{ seen }}
{% endif %}
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY processed_at DESC
  ) = 1
),
{% endfor %}
{% for table in phase3_tables %}
from_{{ table.short }} AS (
  SELECT
    COALESCE(processed_at <= @built_at, TRUE) AS seen,
    processed_at,
    {{ table.date }},
{% for feature in features_from(table.name) %}
    {{ feature.phase3.named(feature.name) | fit(4) }}{{ "" if loop.last else "," }}
{% endfor %}
  FROM {{ source(table.name) }}
  WHERE
    {{ table.date }} BETWEEN @lookback_start AND @previous_date AND {{ looked_for(table) }}
{% if seen %}
   {{ seen }}
{% endif %}
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY COALESCE(processed_at <= @built_at, TRUE) ORDER BY {{ table.date }} DESC, processed_at DESC
  ) = 1
){{ "" if loop.last else "," }}
{% endfor %}
SELECT
  moments.seen,
{% for block in blocks %}
  from_{{ block.name }}.seen IS NOT NULL AS {{ block.name }}_found,
  from_{{ block.name }}.processed_at AS {{ block.name }}_processed_at,
{% endfor %}
{% for table in phase3_tables %}
  from_{{ table.short }}.seen IS NOT NULL AS {{ table.short }}_found,
  from_{{ table.short }}.{{ table.date }} AS {{ table.short }}_date,
  from_{{ table.short }}.processed_at AS {{ table.short }}_processed_at,
{% endfor %}
{% for feature in features %}
  from_{{ feature.block }}.{{ feature.name }} AS phase4_{{ feature.name }},
{% endfor %}
{% for feature in features %}
  from_{{ upstream_tables[feature.phase3_table].short }}.{{ feature.name }} AS phase3_{{ feature.name }}{{ "" if loop.last else "," }}
{% endfor %}
FROM moments
{% for block in blocks %}
LEFT JOIN from_{{ block.name }} ON from_{{ block.name }}.seen = moments.seen
{% endfor %}
{% for table in phase3_tables %}
LEFT JOIN from_{{ table.short }} ON from_{{ table.short }}.seen = moments.seen
{% endfor %}
ORDER BY moments.seen DESC
