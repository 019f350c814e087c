{{ head("Purpose", "the days with a game: the calendar expects no other date while the schedule is known.") }}
{{ head("Parameters", "first_date, last_date DATE (both included).") }}
{{ head("Reads", schedule.table ~ ".") }}
{{ head("Result", "one row per day with a game, oldest first. Of several rows of one game the newest counts, wherever it puts the game; a row without both teams is no game.") }}
{{ head("Second run", "reads only.") }}
{% set day = upstream_tables[schedule.table].date %}
SELECT DISTINCT game_day
FROM (
  SELECT {{ day }} AS game_day, {{ schedule.sides | join(", ") }}
  FROM {{ source(schedule.table) }}
  WHERE {{ day }} BETWEEN @first_date AND @last_date
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {{ schedule.game }} ORDER BY processed_at DESC, {{ day }} DESC) = 1
) AS game
WHERE {% for side in schedule.sides %}{{ " AND " if not loop.first }}{{ side }} <> ''{% endfor %}

ORDER BY game_day
