{% set made_rows = "this_build" if rows_of else tables.generations %}
{% set of_the_build = "made.left_out_reason IS NULL" if rows_of else "made.analysis_date = @analysis_date AND made.build_id = @build_id AND made.left_out_reason IS NULL" %}
{% macro arrays() %}
    [
{% for feature in judged_features %}
      {{ "made." ~ feature.name if feature.type == "FLOAT64" else "CAST(made." ~ feature.name ~ " AS FLOAT64)" }}{{ "" if loop.last else "," }}
{% endfor %}
    ] AS cells,
    [{{ blocks | each("made.{}_source") | join(", ") }}] AS sources
{%- endmacro %}
{{ head("Purpose", "the distribution of each judged feature of a build, and its values beside those of the night before.") }}
{{ head("Parameters", "analysis_date DATE; build_id STRING; rows_start, previous_date DATE (the dates of which one is the night before, both ends included); judged ARRAY<INT64> (the numbers of the judged features, from 1); low, high, step ARRAY<FLOAT64> (range of each, and what counts as moved); block, team ARRAY<INT64> (block and team column of each, from 1; the first team column is none); edges ARRAY<FLOAT64> (" ~ edges_max ~ " for each).") }}
{{ head("Reads", [tables.generations, tables.history, tables.ledger] | join(", ") ~ ".") }}
{{ head("Result", "one row per judged feature, or per feature and team where the " ~ entity.plural ~ " of a team share the value: highest is the value then. The night before is the newest published one without a critical finding. row_count, present_count and outside_count hold every row; the other figures hold Phase 4 cells inside the range, of " ~ sample_max ~ " " ~ entity.plural ~ " at most, evenly by " ~ entity.key ~ ". later and earlier are the values of a pair of both nights; from_n counts the values from edge n on.") }}
{{ head("Second run", "reads only; the same parameters over the same tables give the same rows.") }}
WITH
{% if rows_of %}
this_build AS (
{% include "sql/" ~ rows_of ~ ".sql" %}
),
{% endif %}
night_before AS (
  SELECT analysis_date, build_id
  FROM {{ tables.history }}
  WHERE analysis_date BETWEEN @rows_start AND @previous_date
    AND build_id IN (
      SELECT build_id
      FROM {{ tables.ledger }}
      WHERE analysis_date BETWEEN @rows_start AND @previous_date AND generation > 0
    )
    AND {{ believable }}
  QUALIFY ROW_NUMBER() OVER (ORDER BY analysis_date DESC, build_id) = 1
),
-- The sample is drawn over the keys alone: a sort of a large roster with all values takes several times as long.
sampled AS (
  SELECT made.{{ entity.key }}
  FROM {{ made_rows }} AS made
  WHERE {{ of_the_build }}
  QUALIFY MOD(ROW_NUMBER() OVER (ORDER BY made.{{ entity.key }}) * {{ sample_max }}, COUNT(*) OVER ()) < {{ sample_max }}
),
before AS (
  SELECT
    made.{{ entity.key }},
    made.analysis_date,
    {{ "made." ~ schedule.plays if schedule else "TRUE" }} AS played,
{{ arrays() }}
  FROM {{ tables.generations }} AS made
  JOIN night_before ON night_before.analysis_date = made.analysis_date AND night_before.build_id = made.build_id
  WHERE made.analysis_date BETWEEN @rows_start AND @previous_date AND made.left_out_reason IS NULL
    AND made.{{ entity.key }} IN (SELECT {{ entity.key }} FROM sampled)
),
made AS (
  SELECT
    made.{{ entity.key }},
    [{{ (["CAST(NULL AS STRING)"] + team_columns | each("made.{}")) | join(", ") }}] AS teams,
{{ arrays() }}
  FROM {{ made_rows }} AS made
  JOIN sampled ON sampled.{{ entity.key }} = made.{{ entity.key }}
  WHERE {{ of_the_build }}
),
cells AS (
  SELECT
    place,
    @step[ORDINAL(place)] AS step,
    made.teams[ORDINAL(@team[ORDINAL(place)])] AS team,
    before.played,
    before.analysis_date AS compared_date,
{% for side, name in [("made", "value"), ("before", "earlier")] %}
    IF(
      {{ side }}.sources[ORDINAL(@block[ORDINAL(place)])] = 'phase4'
        AND {{ side }}.cells[ORDINAL(place)] BETWEEN @low[ORDINAL(place)] AND @high[ORDINAL(place)],
      {{ side }}.cells[ORDINAL(place)],
      NULL
    ) AS {{ name }}{{ "" if loop.last else "," }}
{% endfor %}
  FROM made
  LEFT JOIN before ON before.{{ entity.key }} = made.{{ entity.key }}
  CROSS JOIN UNNEST(@judged) AS place
),
pairs AS (
  SELECT
    place,
    team,
    step,
    played,
    compared_date,
    value,
    IF(earlier IS NULL, NULL, value) AS later,
    IF(value IS NULL, NULL, earlier) AS earlier
  FROM cells
),
summed AS (
  SELECT
    place,
    team,
    MAX(compared_date) AS compared_date,
    COUNT(value) AS value_count,
    SAFE_DIVIDE(SUM(value), COUNT(value)) AS mean,
    SAFE_DIVIDE(SUM(value * value), COUNT(value)) AS mean_square,
    MIN(value) AS lowest,
    MAX(value) AS highest,
    COUNT(later) AS pair_count,
    SAFE_DIVIDE(SUM(later), COUNT(later)) AS later_mean,
    SAFE_DIVIDE(SUM(earlier), COUNT(later)) AS earlier_mean,
    SAFE_DIVIDE(SUM(later * later), COUNT(later)) AS later_square,
    SAFE_DIVIDE(SUM(earlier * earlier), COUNT(later)) AS earlier_square,
    SAFE_DIVIDE(SUM(later * earlier), COUNT(later)) AS product,
    COUNT(IF(played, later, NULL)) AS played_count,
    COUNT(IF(played AND later = earlier, 1, NULL)) AS unmoved_count,
    COUNT(IF(NOT played, later, NULL)) AS still_count,
    COUNT(IF(NOT played AND (later - earlier > step OR earlier - later > step), 1, NULL)) AS moved_count,
{% for edge in range(edges_max) %}
    COUNT(IF(value >= @edges[ORDINAL(place * {{ edges_max }} - {{ edges_max - edge - 1 }})], 1, NULL)) AS from_{{ edge }}{{ "" if loop.last else "," }}
{% endfor %}
  FROM pairs
  GROUP BY place, team
),
repeated AS (
  SELECT place, COUNT(*) AS times
  FROM pairs
  WHERE value IS NOT NULL AND team IS NULL
  GROUP BY place, value
),
modes AS (
  SELECT place, MAX(times) AS mode_count
  FROM repeated
  GROUP BY place
),
exact AS (
  SELECT
    COUNT(*) AS row_count,
    [
{% for feature in judged_features %}
      COUNT(made.{{ feature.name }}){{ "" if loop.last else "," }}
{% endfor %}
    ] AS present,
    [
{% for feature in judged_features %}
      {{ count_beyond("made." ~ feature.name, feature, 6) }}{{ "" if loop.last else "," }}
{% endfor %}
    ] AS outside
  FROM {{ made_rows }} AS made
  WHERE {{ of_the_build }}
)
SELECT
  exact.row_count,
  exact.present[ORDINAL(summed.place)] AS present_count,
  exact.outside[ORDINAL(summed.place)] AS outside_count,
  summed.*,
  modes.mode_count
FROM summed
CROSS JOIN exact
LEFT JOIN modes ON modes.place = summed.place
