{% set rows = "checked" if witnesses else "this_build" %}
{% set checks_teams = schedule and schedule.teams and reads_schedule %}
{{ head("Purpose", "the counts from which a build is scored and judged.") }}
{{ head("Parameters", "analysis_date DATE; build_id STRING" ~ ("; first_game_date, last_game_date DATE (the rows of the schedule that are looked at; without both, no team name is checked); as_of TIMESTAMP (rows of the schedule processed later are not seen; without it the condition is left out)" if checks_teams else "") ~ ".") }}
{{ head("Reads", tables.generations ~ (", " ~ schedule.table ~ ", " ~ schedule.teams if checks_teams else "") ~ ".") }}
{{ head("Result", "one row. <block>_" ~ entity.plural ~ " counts the active " ~ entity.plural ~ " to which the block applies; cells, NULLs and dates count only the rows that may be published, so all cells of a row left out count as missing." ~ (" games_checked counts the " ~ entity.plural ~ " who play by the schedule or by Phase 4, games_other_opponent, games_phase4_only and games_schedule_only those for whom both differ." if witnesses else "") ~ (" unknown_… are the teams that the team list lacks, and the " ~ entity.plural ~ " of these teams and of their opponents." if checks_teams else "")) }}
{{ head("Second run", "reads only.") }}
{% include "parts/this_build.sql" %}{{ "," if checks_teams or witnesses }}
{% if checks_teams %}
{% set named = "TRIM({}) <> '' AND " if is_text(schedule.team) else "" %}
{% include "parts/scheduled.sql" %}
unknown_team AS (
  SELECT team, opponent, 1 AS by_schedule, 0 AS by_roster
  FROM team_game
  WHERE {{ named.replace("{}", "team") }}NOT team IN (SELECT team FROM known_team)
    AND (SELECT COUNT(*) FROM known_team) > 0
  UNION ALL
  SELECT DISTINCT {{ schedule.team }} AS team, {{ schedule.team }} AS opponent, 0 AS by_schedule, 1 AS by_roster
  FROM this_build
  WHERE {{ named.replace("{}", schedule.team) }}NOT {{ schedule.team }} IN (SELECT team FROM known_team)
    AND (SELECT COUNT(*) FROM known_team) > 0
),
concerned AS (
  SELECT team, MAX(by_schedule) AS by_schedule, MAX(by_roster) AS by_roster
  FROM (
    SELECT team, by_schedule, by_roster FROM unknown_team
    UNION ALL
    SELECT opponent AS team, by_schedule, by_roster FROM unknown_team
  )
  GROUP BY team
),
{% endif %}
{% if witnesses %}
checked AS (
  SELECT
    this_build.*,
{% set checks = (witnesses | each("IF({}_game <> 'same', {}_game, NULL)")) + (witnesses | each("{}_game")) %}
    COALESCE(
      {{ checks | commas(6) }}
    ) AS game_check
  FROM this_build
)
{% endif %}
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
  MAX(IF(left_out_reason IS NULL, source_data_date, NULL)) AS newest_source_date{{ "," if schedule }}
{% if schedule %}
  COUNT(IF(opponent_source = 'phase4', 1, NULL)) AS opponents_from_phase4{{ "," if witnesses or checks_teams }}
{% endif %}
{% if witnesses %}
  COUNT(game_check) AS games_checked,
{% for kind in ["other opponent", "phase4 only", "schedule only"] %}
  COUNT(IF(game_check = '{{ kind }}', 1, NULL)) AS games_{{ kind.replace(" ", "_") }},
{% endfor %}
{% for block in witnesses %}
  COUNT({{ block.name }}_game) AS {{ block.name }}_games,
  COUNT(IF({{ block.name }}_game <> 'same', 1, NULL)) AS {{ block.name }}_games_differing{{ "" if loop.last and not checks_teams else "," }}
{% endfor %}
{% endif %}
{% if checks_teams %}
{% for source in ["schedule", "roster"] %}
  ARRAY(SELECT DISTINCT team FROM unknown_team WHERE by_{{ source }} = 1 ORDER BY team) AS unknown_in_{{ source }},
  COUNT(IF(concerned.by_{{ source }} = 1, 1, NULL)) AS unknown_in_{{ source }}_{{ entity.plural }}{{ "" if loop.last else "," }}
{% endfor %}
{% endif %}
FROM {{ rows }}
{% if checks_teams %}
LEFT JOIN concerned ON concerned.team = {{ rows }}.{{ schedule.team }}
{% endif %}
