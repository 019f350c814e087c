{# Who meets whom: by the schedule, or by Phase 4 where the schedule has no game. Needs scheduled, and from_<block>. #}
{% if team_witnesses %}
told_by_phase4 AS (
{% for block in team_witnesses %}
  SELECT {{ schedule.team }} AS team, {{ schedule.opponent }} AS opponent
  FROM from_{{ block.name }}
  WHERE {{ schedule.plays }}
{% if not loop.last %}
  UNION ALL
{% endif %}
{% endfor %}
),
counted_by_phase4 AS (
  SELECT team, opponent, COUNT(*) AS told
  FROM told_by_phase4
  WHERE (SELECT COUNT(*) FROM scheduled) = 0
    AND team <> opponent{{ " AND TRIM(team) <> '' AND TRIM(opponent) <> ''" if is_text(schedule.team) }}
  GROUP BY team, opponent
),
{% endif %}
tonight AS (
  SELECT team, opponent, 'schedule' AS told_by
  FROM scheduled
{% if team_witnesses %}
  UNION ALL
  SELECT team, opponent, 'phase4' AS told_by
  FROM counted_by_phase4
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team ORDER BY told DESC, opponent) = 1
{% endif %}
),
