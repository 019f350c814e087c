-- Purpose:     the days with a game: the calendar expects no other date while the schedule is known.
-- Parameters:  first_date, last_date DATE (both included).
-- Reads:       nba_raw.nbac_schedule.
-- Result:      one row per day with a game, oldest first. Of several rows of one game the newest counts, wherever it
--              puts the game; a row without both teams is no game.
-- Second run:  reads only.
SELECT DISTINCT game_day
FROM (
  SELECT game_date AS game_day, home_team_abbreviation, away_team_abbreviation
  FROM nba_raw.nbac_schedule
  WHERE game_date BETWEEN @first_date AND @last_date
  QUALIFY ROW_NUMBER() OVER (PARTITION BY game_id ORDER BY processed_at DESC, game_date DESC) = 1
) AS game
WHERE home_team_abbreviation <> '' AND away_team_abbreviation <> ''
ORDER BY game_day
