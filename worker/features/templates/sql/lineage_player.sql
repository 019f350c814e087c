{# The current values: whatever the build was allowed to see. #}
{% set seen = "" %}
{{ head("Purpose", "the current values of roster and schedule for one " ~ entity.key ~ " and the date.") }}
{{ head("Parameters", "analysis_date DATE; " ~ entity.key ~ " " ~ lookups[0].type ~ ".") }}
{{ head("Reads", [entity.roster] | join ~ (", " ~ schedule.table if schedule else "") ~ ".") }}
{{ head("Result", "one row; none if the roster does not list this " ~ entity.key ~ " as active." ~ (" " ~ schedule.opponent ~ " is NULL where the team does not play." if schedule else "")) }}
{{ head("Second run", "reads only.") }}
WITH
{% if schedule %}
{% include "parts/team_games.sql" %}
{% endif %}
{% set key = (listed | selectattr("name", "equalto", entity.key) | first).columns[0] %}
roster AS (
  SELECT
{% for column in listed %}
    {{ column.columns[0] }}{{ "" if column.columns[0] == column.name else " AS " ~ column.name }}{{ "" if loop.last else "," }}
{% endfor %}
  FROM {{ source(entity.roster) }}
  WHERE {{ roster.date }} = @analysis_date AND {{ key }} = @{{ entity.key }}
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {{ key }} ORDER BY processed_at DESC) = 1
)
SELECT
{% for column in listed %}
  roster.{{ column.name }}{{ "," if schedule or not loop.last }}
{% endfor %}
{% if schedule %}
  tonight.opponent AS {{ schedule.opponent }}
{% endif %}
FROM roster
{% if schedule %}
LEFT JOIN tonight ON tonight.team = roster.{{ schedule.team }}
{% endif %}
