{% set numeric = ["FLOAT64", "INT64", "NUMERIC"] %}
{% set compared = features | rejectattr("type", "equalto", "ARRAY<STRING>") | list %}
{% macro number_of(side, feature) %}
{{ "CAST(" ~ side ~ "." ~ feature.name ~ " AS FLOAT64)" if feature.type in numeric else "CAST(NULL AS FLOAT64)" }}
{%- endmacro %}
{% macro origin(side, feature) %}
CASE
      WHEN {{ side }}.{{ feature.block }}_source IS NULL THEN 'none'
      WHEN {{ side }}.{{ feature.name }} IS NULL THEN 'missing'
      WHEN {{ side }}.data_source = 'yesterday' THEN 'yesterday'
      WHEN '{{ feature.name }}' IN UNNEST({{ side }}.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END
{%- endmacro %}
{{ head("Purpose", "what changed for a date from one generation to another: rows, and cells by column and source.") }}
{{ head("Parameters", "analysis_date DATE; before_build, after_build STRING; largest_max INT64 (lines of each group).") }}
{{ head("Reads", tables.generations ~ ".") }}
{{ head("Result", "lines in groups: what is added, removed (a row, feature is empty) or cell. A group is a feature and a pair of sources, with the lines of the largest changes and the counts of the whole group: cells counts differing values or sources, changed counts differing values. typical is the mean size of the feature's differing cells. Numbers only; an array is not compared.") }}
{{ head("Second run", "reads only.") }}
WITH
{% for side in ["before", "after"] %}
{{ side }}_rows AS (
  SELECT
    {{ shown(4) }}
  FROM {{ tables.generations }}
  WHERE analysis_date = @analysis_date AND build_id = @{{ side }}_build AND left_out_reason IS NULL
),
{% endfor %}
compared AS (
{% for feature in compared %}
  SELECT
    '{{ feature.name }}' AS feature,
    after_rows.{{ entity.key }},
    after_rows.{{ entity.label }},
    {{ number_of("before_rows", feature) }} AS before_value,
    {{ number_of("after_rows", feature) }} AS after_value,
    IF(
      before_rows.{{ feature.name }} = after_rows.{{ feature.name }}
      OR (before_rows.{{ feature.name }} IS NULL AND after_rows.{{ feature.name }} IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    {{ origin("before_rows", feature) }} AS before_source,
    {{ origin("after_rows", feature) }} AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.{{ entity.key }} = before_rows.{{ entity.key }}
{% if not loop.last %}
  UNION ALL
{% endif %}
{% endfor %}
),
differing AS (
  SELECT
    'cell' AS what,
    compared.*,
    CASE
      WHEN before_value <= after_value THEN after_value - before_value
      WHEN before_value > after_value THEN before_value - after_value
      ELSE CAST(0 AS FLOAT64)
    END AS size
  FROM compared
  WHERE differs OR before_source <> after_source
{% for what, side, other in [("removed", "before", "after"), ("added", "after", "before")] %}
  UNION ALL
  SELECT
    '{{ what }}' AS what,
    '' AS feature,
    {{ side }}_rows.{{ entity.key }},
    {{ side }}_rows.{{ entity.label }},
    CAST(NULL AS FLOAT64) AS before_value,
    CAST(NULL AS FLOAT64) AS after_value,
    TRUE AS differs,
    '' AS before_source,
    '' AS after_source,
    {{ "before_rows.quality_score" if side == "before" else "CAST(NULL AS FLOAT64)" }} AS before_score,
    {{ "after_rows.quality_score" if side == "after" else "CAST(NULL AS FLOAT64)" }} AS after_score,
    CAST(0 AS FLOAT64) AS size
  FROM {{ side }}_rows
  LEFT JOIN {{ other }}_rows ON {{ other }}_rows.{{ entity.key }} = {{ side }}_rows.{{ entity.key }}
  WHERE {{ other }}_rows.{{ entity.key }} IS NULL
{% endfor %}
),
ranked AS (
  SELECT
    differing.*,
    COUNT(*) OVER (PARTITION BY what, feature, before_source, after_source) AS cells,
    COUNT(IF(differs, 1, NULL)) OVER (PARTITION BY what, feature, before_source, after_source) AS changed,
    SAFE_DIVIDE(
      SUM(IF(after_value < 0, 0 - after_value, after_value)) OVER (PARTITION BY what, feature),
      COUNT(after_value) OVER (PARTITION BY what, feature)
    ) AS typical,
    ROW_NUMBER() OVER (
      PARTITION BY what, feature, before_source, after_source
      ORDER BY IF(differs, 1, 0) DESC, size DESC, {{ entity.key }}
    ) AS place
  FROM differing
)
SELECT
  what,
  feature,
  before_source,
  after_source,
  cells,
  changed,
  typical,
  place,
  {{ entity.key }},
  {{ entity.label }},
  differs,
  before_value,
  after_value,
  size,
  before_score,
  after_score
FROM ranked
WHERE place <= @largest_max
ORDER BY what, feature, before_source, after_source, place
