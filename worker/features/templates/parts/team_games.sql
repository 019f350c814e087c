team_games AS (
{% for side in schedule.sides %}
{% set other = schedule.sides[1 - loop.index0] %}
  SELECT {{ side }} AS team, {{ other }} AS opponent, processed_at, {{ schedule.game }}
  FROM {{ source(schedule.table) }}
  WHERE {{ upstream_tables[schedule.table].date }} = @analysis_date{{ seen }}
{% if not loop.last %}
  UNION ALL
{% endif %}
{% endfor %}
),
tonight AS (
  SELECT team, opponent
  FROM team_games
  WHERE team IS NOT NULL AND opponent IS NOT NULL
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team ORDER BY processed_at DESC, {{ schedule.game }}) = 1
),
