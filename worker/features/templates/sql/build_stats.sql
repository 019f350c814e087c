{{ head("Purpose", "the counts from which a build is scored.") }}
{{ head("Parameters", "analysis_date DATE; build_id STRING.") }}
{{ head("Reads", tables.generations ~ ".") }}
{{ head("Result", "one row. <block>_" ~ entity.plural ~ " counts the active " ~ entity.plural ~ " to which the block applies; cells, NULLs and dates count only the rows that may be published, so all cells of a row left out count as missing.") }}
{{ head("Second run", "reads only.") }}
{% include "parts/this_build.sql" %}
SELECT
  COUNT(IF(left_out_reason IS NULL, 1, NULL)) AS row_count,
  COUNT(IF(left_out_reason IS NOT NULL, 1, NULL)) AS left_out_count,
{% for block in blocks %}
  {{ "COUNT(IF(" ~ schedule.plays ~ ", 1, NULL))" if needs_game(block) else "COUNT(*)" }} AS {{ block.name }}_{{ entity.plural }},
{% endfor %}
{% for block in blocks %}
  COALESCE(SUM(IF(left_out_reason IS NULL, {{ block.name }}_phase4_cells, 0)), 0) AS {{ block.name }}_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, {{ block.name }}_phase3_cells, 0)), 0) AS {{ block.name }}_phase3_cells,
{% endfor %}
  COALESCE(
    SUM(
      IF(
        left_out_reason IS NULL,
        {{ required_fields | each("IF({} IS NULL, 1, 0)") | joined("+", 8) }},
        0
      )
    ),
    0
  ) AS required_nulls,
{% for feature in left_empty() %}
  COUNT(IF({{ schedule.plays ~ " AND " if needs_game(block_of(feature)) }}{{ feature.name }} IS NULL, 1, NULL)) AS {{ feature.name }}_left_empty,
{% endfor %}
  MAX(IF(left_out_reason IS NULL, source_data_date, NULL)) AS newest_source_date
FROM this_build
