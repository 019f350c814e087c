{# Who meets whom by the schedule: a row per team of a game. Needs the parameters of the schedule. #}
{% if schedule.teams %}
{% set list = upstream_tables[schedule.teams] %}
newest_team AS (
  SELECT {{ schedule.teams_column }} AS team
  FROM {{ source(schedule.teams) }}
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {{ list.key }} ORDER BY processed_at DESC, {{ schedule.teams_column }}) = 1
),
known_team AS (
  SELECT DISTINCT team
  FROM newest_team
  WHERE team IS NOT NULL
),
{% endif %}
{% set day, first, second = upstream_tables[schedule.table].date, schedule.sides[0], schedule.sides[1] %}
-- Of several rows for one {{ schedule.game }} the newest counts, wherever it puts the game.
game AS (
  SELECT {{ day }}, {{ schedule.game }}, {{ first }}, {{ second }}, processed_at
  FROM {{ source(schedule.table) }}
  WHERE {{ day }} BETWEEN @first_game_date AND @last_game_date{{ seen }}
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY {{ schedule.game }} ORDER BY processed_at DESC, {{ day }} DESC, {{ first }}, {{ second }}
    ) = 1
    OR COALESCE({{ schedule.game }}, '') = ''
),
team_game AS (
{% for side in schedule.sides %}
  SELECT {{ side }} AS team, {{ schedule.sides[1 - loop.index0] }} AS opponent, processed_at, {{ schedule.game }}
  FROM game
  WHERE {{ day }} = @analysis_date
{% if not loop.last %}
  UNION ALL
{% endif %}
{% endfor %}
),
scheduled AS (
  SELECT team, opponent
  FROM team_game
  WHERE team <> opponent{{ " AND TRIM(team) <> '' AND TRIM(opponent) <> ''" if is_text(schedule.team) }}
{% if schedule.teams %}
    AND (
      (SELECT COUNT(*) FROM known_team) = 0
      OR (team IN (SELECT team FROM known_team) AND opponent IN (SELECT team FROM known_team))
    )
{% endif %}
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team ORDER BY processed_at DESC, {{ schedule.game }}, opponent) = 1
),
