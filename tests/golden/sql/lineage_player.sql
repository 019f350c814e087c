-- Purpose:     the current values of roster and schedule for one player_id and the date.
-- Parameters:  analysis_date DATE; player_id INT64.
-- Reads:       nba_raw.nbac_player_list, nba_raw.nbac_schedule.
-- Result:      one row; none if the roster does not list this player_id as active. opponent_abbreviation is NULL where
--              the team does not play.
-- Second run:  reads only.
WITH
team_games AS (
  SELECT home_team_abbreviation AS team, away_team_abbreviation AS opponent, processed_at, game_id
  FROM nba_raw.nbac_schedule
  WHERE game_date = @analysis_date
  UNION ALL
  SELECT away_team_abbreviation AS team, home_team_abbreviation AS opponent, processed_at, game_id
  FROM nba_raw.nbac_schedule
  WHERE game_date = @analysis_date
),
tonight AS (
  SELECT team, opponent
  FROM team_games
  WHERE team IS NOT NULL AND opponent IS NOT NULL
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team ORDER BY processed_at DESC, game_id) = 1
),
roster AS (
  SELECT
    player_id,
    player_name,
    team_abbreviation
  FROM nba_raw.nbac_player_list
  WHERE snapshot_date = @analysis_date AND player_id = @player_id
  QUALIFY ROW_NUMBER() OVER (PARTITION BY player_id ORDER BY processed_at DESC) = 1
)
SELECT
  roster.player_id,
  roster.player_name,
  roster.team_abbreviation,
  tonight.opponent AS opponent_abbreviation
FROM roster
LEFT JOIN tonight ON tonight.team = roster.team_abbreviation
