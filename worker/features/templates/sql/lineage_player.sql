{# The current values: whatever the build was allowed to see. #}
{% set seen = "" %}
{{ head("Purpose", "the current values of roster and schedule for one " ~ entity.key ~ " and the date.") }}
{# The current values: whatever the build was allowed to see. #}
{% set seen = "" %}
{% set told = team_witnesses | map(attribute="table") | list %}
{% set given = "; first_game_date, last_game_date DATE (the rows of the schedule that are looked at)" %}
{% set switches = team_witnesses | map(attribute="name") | each("use_{}") | join(", ") %}
{{ head("Parameters", "analysis_date DATE; " ~ entity.key ~ " " ~ lookups[0].type ~ (given if schedule else "") ~ ("; " ~ switches ~ " BOOL (FALSE: as if that Phase 4 table had no row)" if told else "") ~ ".") }}
{{ head("Reads", ([entity.roster] + ([schedule.table] if schedule else []) + (references | list) + told) | join(", ") ~ ".") }}
{{ head("Result", "one row; none if the roster does not list this " ~ entity.key ~ " as active." ~ (" " ~ schedule.opponent ~ " is NULL where the team does not play." if schedule else "")) }}
{{ head("Second run", "reads only.") }}
WITH
{% if schedule %}
{% include "parts/scheduled.sql" %}
{% for block in team_witnesses %}
from_{{ block.name }} AS (
  SELECT {{ columns_of_witness(block) | join(", ") }}
  FROM {{ source(block.table) }}
  WHERE @use_{{ block.name }} AND analysis_date = @analysis_date{{ seen }}
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {{ block.key }} ORDER BY processed_at DESC) = 1
),
{% endfor %}
{% include "parts/tonight.sql" %}
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
