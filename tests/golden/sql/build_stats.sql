-- Purpose:     the counts from which a build is scored and judged.
-- Parameters:  analysis_date DATE; build_id STRING; first_game_date, last_game_date DATE (the rows of the schedule that
--              are looked at; without both, no team name is checked); as_of TIMESTAMP (rows of the schedule processed
--              later are not seen; without it the condition is left out).
-- Reads:       nba_predictions.ml_feature_store_v2_generations, nba_raw.nbac_schedule, nba_raw.nbac_team_list.
-- Result:      one row. <block>_players counts the active players to which the block applies; cells, NULLs and dates
--              count only the rows that may be published, so all cells of a row left out count as missing.
--              games_checked counts the players who play by the schedule or by Phase 4, games_other_opponent,
--              games_phase4_only and games_schedule_only those for whom both differ. unknown_… are the teams that the
--              team list lacks, and the players of these teams and of their opponents.
-- Second run:  reads only.
WITH this_build AS (
  SELECT *
  FROM nba_predictions.ml_feature_store_v2_generations
  WHERE analysis_date = @analysis_date AND build_id = @build_id
)
,
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
  WHERE game_date BETWEEN @first_game_date AND @last_game_date AND processed_at <= @as_of
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
unknown_team AS (
  SELECT team, opponent, 1 AS by_schedule, 0 AS by_roster
  FROM team_game
  WHERE TRIM(team) <> '' AND NOT team IN (SELECT team FROM known_team)
    AND (SELECT COUNT(*) FROM known_team) > 0
  UNION ALL
  SELECT DISTINCT team_abbreviation AS team, team_abbreviation AS opponent, 0 AS by_schedule, 1 AS by_roster
  FROM this_build
  WHERE TRIM(team_abbreviation) <> '' AND NOT team_abbreviation IN (SELECT team FROM known_team)
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
checked AS (
  SELECT
    this_build.*,
    COALESCE(
      IF(player_shot_game <> 'same', player_shot_game, NULL), IF(composite_game <> 'same', composite_game, NULL),
      IF(daily_cache_game <> 'same', daily_cache_game, NULL), player_shot_game, composite_game, daily_cache_game
    ) AS game_check
  FROM this_build
)
SELECT
  COUNT(IF(left_out_reason IS NULL, 1, NULL)) AS row_count,
  COUNT(IF(left_out_reason IS NOT NULL, 1, NULL)) AS left_out_count,
  COUNT(IF(has_game, 1, NULL)) AS team_defense_players,
  COUNT(*) AS player_shot_players,
  COUNT(*) AS composite_players,
  COUNT(*) AS daily_cache_players,
  COALESCE(SUM(IF(left_out_reason IS NULL, team_defense_phase4_cells, 0)), 0) AS team_defense_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, team_defense_phase3_cells, 0)), 0) AS team_defense_phase3_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, player_shot_phase4_cells, 0)), 0) AS player_shot_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, player_shot_phase3_cells, 0)), 0) AS player_shot_phase3_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, composite_phase4_cells, 0)), 0) AS composite_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, composite_phase3_cells, 0)), 0) AS composite_phase3_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, daily_cache_phase4_cells, 0)), 0) AS daily_cache_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, daily_cache_phase3_cells, 0)), 0) AS daily_cache_phase3_cells,
  COALESCE(
    SUM(
      IF(
        left_out_reason IS NULL,
        IF(offensive_rating IS NULL, 1, 0) + IF(defensive_rating IS NULL, 1, 0) + IF(points_projection IS NULL, 1, 0)
        + IF(rebounds_projection IS NULL, 1, 0) + IF(assists_projection IS NULL, 1, 0),
        0
      )
    ),
    0
  ) AS required_nulls,
  MAX(IF(left_out_reason IS NULL, source_data_date, NULL)) AS newest_source_date,
  COUNT(IF(opponent_source = 'phase4', 1, NULL)) AS opponents_from_phase4,
  COUNT(game_check) AS games_checked,
  COUNT(IF(game_check = 'other opponent', 1, NULL)) AS games_other_opponent,
  COUNT(IF(game_check = 'phase4 only', 1, NULL)) AS games_phase4_only,
  COUNT(IF(game_check = 'schedule only', 1, NULL)) AS games_schedule_only,
  COUNT(player_shot_game) AS player_shot_games,
  COUNT(IF(player_shot_game <> 'same', 1, NULL)) AS player_shot_games_differing,
  COUNT(composite_game) AS composite_games,
  COUNT(IF(composite_game <> 'same', 1, NULL)) AS composite_games_differing,
  COUNT(daily_cache_game) AS daily_cache_games,
  COUNT(IF(daily_cache_game <> 'same', 1, NULL)) AS daily_cache_games_differing,
  ARRAY(SELECT DISTINCT team FROM unknown_team WHERE by_schedule = 1 ORDER BY team) AS unknown_in_schedule,
  COUNT(IF(concerned.by_schedule = 1, 1, NULL)) AS unknown_in_schedule_players,
  ARRAY(SELECT DISTINCT team FROM unknown_team WHERE by_roster = 1 ORDER BY team) AS unknown_in_roster,
  COUNT(IF(concerned.by_roster = 1, 1, NULL)) AS unknown_in_roster_players
FROM checked
LEFT JOIN concerned ON concerned.team = checked.team_abbreviation
