{{ head("Purpose", "the last resort: the rows of the latest night that was built from Phase 4 and 3, as rows of the date.") }}
{{ head("Parameters", "analysis_date DATE; earliest_date, previous_date DATE (the nights that may be copied, both ends included); build_generation INT64; build_id STRING; built_at TIMESTAMP.") }}
{{ head("Reads", tables.published ~ ".") }}
{{ head("Result", "one row per row copied, in the shape of the statement features: identity, values and source_data_date are the copied row's, NaN and infinity are NULL, every mark of origin says yesterday. No cell counts as Phase 4.") }}
{{ head("Second run", "reads only; the same parameters over the same tables give the same rows.") }}
--
-- Rows that were themselves copied are passed over, so a copy is never copied again and never older than the window.
WITH night AS (
  SELECT MAX(analysis_date) AS copied_date
  FROM {{ tables.published }}
  WHERE analysis_date BETWEEN @earliest_date AND @previous_date AND data_source <> 'yesterday'
),
copied AS (
  SELECT
{% for column in identity %}
    published.{{ column.name }},
{% endfor %}
{% for feature in features %}
    {{ stored(feature, 4, "published") }},
{% endfor %}
    published.phase3_features,
    published.source_data_date
  FROM {{ tables.published }} AS published
  JOIN night ON night.copied_date = published.analysis_date
  WHERE published.analysis_date BETWEEN @earliest_date AND @previous_date
),
counted AS (
  SELECT
    copied.*,
{% include "parts/cells.sql" %}
  FROM copied
),
summed AS (
  SELECT
    counted.*,
    (
      {{ blocks | each("{}_cells") | joined("+", 6) }}
    ) AS present_cells,
    {{ cells_wanted() }} AS cells_wanted
  FROM counted
)
SELECT
  @analysis_date AS analysis_date,
{% for column in identity %}
  {{ column.name }},
{% endfor %}
{% for feature in features %}
  {{ feature.name }},
{% endfor %}
  CAST({{ copy_score }} AS FLOAT64) AS quality_score,
  'yesterday' AS data_source,
  FALSE AS phase4_available,
  TRUE AS phase3_fallback_used,
{% for block in blocks %}
{% set source_of = "IF(" ~ block.name ~ "_cells = 0, 'missing', 'yesterday')" %}
  {{ "IF(" ~ schedule.plays ~ ", " ~ source_of ~ ", NULL)" if needs_game(block) else source_of }} AS {{ block.name }}_source,
{% endfor %}
  phase3_features,
{% include "parts/missing_features.sql" %}
  source_data_date,
  @build_generation AS build_generation,
  @build_id AS build_id,
  @built_at AS processed_at,
  IF({{ entity.must_have }} IS NULL, 'no {{ entity.must_have }} in the copied row', NULL) AS left_out_reason,
{% for block in blocks %}
  0 AS {{ block.name }}_phase4_cells,
  {{ block.name }}_cells AS {{ block.name }}_phase3_cells{{ "" if loop.last and not schedule else "," }}
{% endfor %}
{% if schedule %}
  CAST(NULL AS STRING) AS opponent_source{{ "," if witnesses }}
{% for block in witnesses %}
  CAST(NULL AS STRING) AS {{ block.name }}_game{{ "" if loop.last else "," }}
{% endfor %}
{% endif %}
FROM summed
