-- Purpose:     the current values of roster and schedule for one player_id and the date.
-- Parameters:  analysis_date DATE; player_id INT64; first_game_date, last_game_date DATE (the rows of the schedule that
--              are looked at); use_player_shot, use_composite, use_daily_cache BOOL (FALSE: as if that Phase 4 table
--              had no row).
-- Reads:       nba_raw.nbac_player_list, nba_raw.nbac_schedule, nba_raw.nbac_team_list,
--              nba_precompute.player_shot_zone_analysis, nba_precompute.player_composite_factors,
--              nba_precompute.player_daily_cache.
-- Result:      one row; none if the roster does not list this player_id as active. opponent_abbreviation is NULL where
--              the team does not play.
-- Second run:  reads only.
WITH
newest_team AS (
  SELECT team_abbreviation AS team
  FROM nba_raw.nbac_team_list
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team_id ORDER BY processed_at DESC, team_abbreviation) = 1
),
known_team AS (
  SELECT DISTINCT team
  FROM newest_team
  WHERE team IS NOT NULL
),
-- Of several rows for one game_id the newest counts, wherever it puts the game.
game AS (
  SELECT game_date, game_id, home_team_abbreviation, away_team_abbreviation, processed_at
  FROM nba_raw.nbac_schedule
  WHERE game_date BETWEEN @first_game_date AND @last_game_date
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY game_id ORDER BY processed_at DESC, game_date DESC, home_team_abbreviation, away_team_abbreviation
    ) = 1
    OR COALESCE(game_id, '') = ''
),
team_game AS (
  SELECT home_team_abbreviation AS team, away_team_abbreviation AS opponent, processed_at, game_id
  FROM game
  WHERE game_date = @analysis_date
  UNION ALL
  SELECT away_team_abbreviation AS team, home_team_abbreviation AS opponent, processed_at, game_id
  FROM game
  WHERE game_date = @analysis_date
),
scheduled AS (
  SELECT team, opponent
  FROM team_game
  WHERE team <> opponent AND TRIM(team) <> '' AND TRIM(opponent) <> ''
    AND (
      (SELECT COUNT(*) FROM known_team) = 0
      OR (team IN (SELECT team FROM known_team) AND opponent IN (SELECT team FROM known_team))
    )
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team ORDER BY processed_at DESC, game_id, opponent) = 1
),
from_player_shot AS (
  SELECT has_game, opponent_abbreviation, team_abbreviation
  FROM nba_precompute.player_shot_zone_analysis
  WHERE @use_player_shot AND analysis_date = @analysis_date
  QUALIFY ROW_NUMBER() OVER (PARTITION BY player_id ORDER BY processed_at DESC) = 1
),
from_composite AS (
  SELECT has_game, opponent_abbreviation, team_abbreviation
  FROM nba_precompute.player_composite_factors
  WHERE @use_composite AND analysis_date = @analysis_date
  QUALIFY ROW_NUMBER() OVER (PARTITION BY player_id ORDER BY processed_at DESC) = 1
),
from_daily_cache AS (
  SELECT has_game, opponent_abbreviation, team_abbreviation
  FROM nba_precompute.player_daily_cache
  WHERE @use_daily_cache AND analysis_date = @analysis_date
  QUALIFY ROW_NUMBER() OVER (PARTITION BY player_id ORDER BY processed_at DESC) = 1
),
told_by_phase4 AS (
  SELECT team_abbreviation AS team, opponent_abbreviation AS opponent
  FROM from_player_shot
  WHERE has_game
  UNION ALL
  SELECT team_abbreviation AS team, opponent_abbreviation AS opponent
  FROM from_composite
  WHERE has_game
  UNION ALL
  SELECT team_abbreviation AS team, opponent_abbreviation AS opponent
  FROM from_daily_cache
  WHERE has_game
),
counted_by_phase4 AS (
  SELECT team, opponent, COUNT(*) AS told
  FROM told_by_phase4
  WHERE (SELECT COUNT(*) FROM scheduled) = 0
    AND team <> opponent AND TRIM(team) <> '' AND TRIM(opponent) <> ''
  GROUP BY team, opponent
),
tonight AS (
  SELECT team, opponent, 'schedule' AS told_by
  FROM scheduled
  UNION ALL
  SELECT team, opponent, 'phase4' AS told_by
  FROM counted_by_phase4
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team ORDER BY told DESC, opponent) = 1
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
