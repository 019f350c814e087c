{% set base = block_of(features | selectattr("name", "equalto", entity.must_have) | first) %}
{{ head("Purpose", "the Phase 4 tables joined beforehand, for frequent readers. The build does not read the view: with an outer join the view may lag behind the tables by max_staleness; see docs/adr/0013.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per analysis_date and " ~ entity.key ~ " of " ~ base.processor ~ ", with repetitions.") }}
{{ head("Second run", "changes nothing.") }}
CREATE MATERIALIZED VIEW IF NOT EXISTS {{ table }}
PARTITION BY analysis_date
CLUSTER BY {{ entity.key }}
OPTIONS (
  enable_refresh = TRUE,
  refresh_interval_minutes = 30,
  max_staleness = INTERVAL "0:30:0" HOUR TO SECOND,
  allow_non_incremental_definition = TRUE
)
AS
SELECT
  {{ base.name }}.analysis_date,
{% for column in identity if column.name == entity.key or (column.name in upstream_tables[base.table].columns and column.type != "BOOL") %}
  {{ base.name }}.{{ column.name }},
{% endfor %}
{% for feature in features %}
  {{ feature.block }}.{{ feature.name }}{{ "" if loop.last else "," }}
{% endfor %}
FROM {{ base.table }} AS {{ base.name }}
{% for block in blocks if block != base %}
LEFT JOIN {{ block.table }} AS {{ block.name }}
  ON {{ block.name }}.analysis_date = {{ base.name }}.analysis_date
  AND {{ block.name }}.{{ block.key }} = {{ base.name }}.{{ block.matches }}
{% endfor %}
