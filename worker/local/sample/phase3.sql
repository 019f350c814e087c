-- Purpose: Phase 2 and Phase 3 tables of the sample data (nba_raw, nba_analytics), from an invented league.
-- Inputs:  team, player, game, box_line, night: see sample_inputs.sql. Dialect: DuckDB, in memory.
-- Result:  the tables named <dataset>.<table>, ordered; side, line, match and defense_line stay for phase4.sql.
-- A second run fails on the first CREATE: every run starts with an empty database.
-- The individual ratings are simple stand-ins for Dean Oliver's, with about the same mean and spread.

-- Both teams of every scheduled game, tonight's included.
CREATE TABLE side AS
SELECT s.game_date, s.game_id, t.team_id, team_abbreviation, s.opponent_abbreviation, s.is_home
FROM (
  SELECT game_date, game_id, home AS team_abbreviation, away AS opponent_abbreviation, true AS is_home FROM game
  UNION ALL
  SELECT game_date, game_id, away, home, false FROM game
) s
JOIN team t USING (team_abbreviation);

CREATE TABLE box AS
SELECT
  s.game_date, s.team_id, s.team_abbreviation, s.opponent_abbreviation, s.is_home, p.player_name, b.*,
  offensive_rebounds + defensive_rebounds AS rebounds,
  corner_three_made + above_break_three_made AS three_pointers_made,
  corner_three_attempted + above_break_three_attempted AS three_pointers_attempted,
  restricted_area_made + paint_made + mid_range_made + three_pointers_made AS field_goals_made,
  restricted_area_attempted + paint_attempted + mid_range_attempted + three_pointers_attempted AS field_goals_attempted,
  2 * field_goals_made + three_pointers_made + free_throws_made AS points,
  field_goals_attempted + 0.44e0 * free_throws_attempted + turnovers AS plays
FROM box_line b
JOIN player p USING (player_id)
JOIN side s USING (game_id, team_abbreviation);

CREATE TABLE team_line AS
WITH total AS (
  SELECT game_id, team_abbreviation, sum(COLUMNS(* EXCLUDE (
    game_date, game_id, team_id, team_abbreviation, opponent_abbreviation, is_home, player_id, player_name)))
  FROM box
  GROUP BY game_id, team_abbreviation
)
SELECT
  s.*, t.* EXCLUDE (game_id, team_abbreviation),
  t.plays - 1.25e0 * t.offensive_rebounds AS possessions_estimated,
  -- The official count is whole and a little above the estimate.
  round(possessions_estimated + 1.4e0) AS possessions
FROM side s
JOIN total t USING (game_id, team_abbreviation);

-- Both teams side by side: what a team did, and what it allowed.
CREATE TABLE match AS
SELECT t.*, o AS allowed, (t.possessions + o.possessions) / 2 AS pace
FROM team_line t
JOIN team_line o ON o.game_id = t.game_id AND o.team_abbreviation = t.opponent_abbreviation;

-- One row per player and game; every column after the identity adds up over games, so that the rates of one game
-- and of a season are the same quotients (player_rates).
CREATE TABLE line AS
SELECT
  b.*,
  b.minutes / 48 * m.allowed.possessions AS floor_possessions,
  b.minutes / 48 * m.plays AS floor_plays,
  b.minutes / 48 * (m.allowed.field_goals_attempted - m.allowed.three_pointers_attempted) AS floor_twos_against,
  b.minutes / 48 * (m.rebounds + m.allowed.rebounds) AS floor_rebounds,
  b.minutes / 48 * m.field_goals_made - b.field_goals_made AS floor_teammate_goals,
  b.points + 0.6e0 * b.assists + 0.4e0 * b.offensive_rebounds AS points_produced,
  b.plays + 0.25e0 * b.assists AS possessions_used,
  -- Two points per 100 possessions off the team's rating for each stop (per 36 minutes) above the usual three.
  floor_possessions / 100 * (100 * m.allowed.points / m.allowed.possessions
    + 2 * (3 - 36 * (b.steals + b.blocks + 0.2e0 * b.defensive_rebounds) / nullif(b.minutes, 0))) AS points_allowed,
  -- Nothing is won by allowing 8 % more than the league's 1.13 points a possession; 36 points make a win.
  (1.08e0 * 1.13e0 * floor_possessions - points_allowed) / 5 / 36 AS defensive_win_shares
FROM box b
JOIN match m USING (game_id, team_abbreviation);

CREATE MACRO player_rates(lines) AS TABLE
SELECT
  * EXCLUDE (defensive_win_shares),
  -- Outside 0..300 the formula does not hold.
  CASE WHEN 100 * points_produced / nullif(possessions_used, 0) BETWEEN 0 AND 300
    THEN ratio(100 * points_produced, possessions_used) END AS offensive_rating,
  ratio(plays, floor_plays) AS usage_rate,
  ratio(points, 2 * (field_goals_attempted + 0.44e0 * free_throws_attempted)) AS true_shooting_pct,
  ratio(36 * points, minutes) AS points_per_36,
  ratio(100 * points_allowed, floor_possessions) AS defensive_rating,
  round(defensive_win_shares, 6) AS defensive_win_shares,
  ratio(steals, floor_possessions) AS steal_rate,
  ratio(blocks, floor_twos_against) AS block_rate,
  ratio(field_goals_made + 0.5e0 * three_pointers_made, field_goals_attempted) AS effective_fg_pct,
  ratio(free_throws_attempted, field_goals_attempted) AS free_throw_rate,
  CASE WHEN floor_teammate_goals > 0 THEN least(1, ratio(assists, floor_teammate_goals)) END AS assist_rate,
  ratio(rebounds, floor_rebounds) AS rebound_rate,
  ratio(turnovers, plays) AS turnover_rate,
  ratio(restricted_area_attempted, field_goals_attempted) AS restricted_area_shot_pct,
  ratio(paint_attempted, field_goals_attempted) AS paint_shot_pct,
  ratio(mid_range_attempted, field_goals_attempted) AS mid_range_shot_pct,
  ratio(three_pointers_attempted, field_goals_attempted) AS three_point_attempt_rate,
  ratio(corner_three_attempted, field_goals_attempted) AS corner_three_attempt_rate,
  ratio(restricted_area_made, restricted_area_attempted) AS restricted_area_fg_pct,
  ratio(paint_made, paint_attempted) AS paint_fg_pct,
  ratio(mid_range_made, mid_range_attempted) AS mid_range_fg_pct,
  ratio(three_pointers_made, three_pointers_attempted) AS three_point_fg_pct
FROM query_table(lines);

CREATE TABLE nba_raw.nbac_team_list AS
SELECT team_id, team_abbreviation, team_name, season, new_york(analysis_date, TIME '05:00') AS processed_at
FROM team, (SELECT * FROM night ORDER BY analysis_date LIMIT 1)
ORDER BY team_id;

CREATE TABLE nba_raw.nbac_schedule AS
SELECT
  game_date, game_id, 'regular_season' AS game_type, false AS is_neutral_site,
  h.team_id AS home_team_id, home AS home_team_abbreviation,
  a.team_id AS away_team_id, away AS away_team_abbreviation,
  season, new_york(game_date, TIME '05:00') AS processed_at
FROM game
JOIN team h ON h.team_abbreviation = home
JOIN team a ON a.team_abbreviation = away
ORDER BY game_id;

-- Who played in the 30 days before, and who has just signed and played nowhere yet: nobody has figures for him.
CREATE TABLE nba_raw.nbac_player_list AS
WITH recent AS (
  SELECT analysis_date, player_id, max(game_date) AS last_game_date, count(*) AS games_last_30_days
  FROM night
  JOIN line ON game_date BETWEEN analysis_date - 30 AND analysis_date - 1
  GROUP BY ALL
  UNION ALL
  SELECT analysis_date, player_id, NULL, 0
  FROM night
  JOIN player ON signed_on <= analysis_date
)
SELECT
  analysis_date AS snapshot_date, player_id, player_name, team_id, team_abbreviation, last_game_date,
  games_last_30_days, season, new_york(analysis_date, TIME '05:00') AS processed_at
FROM recent
JOIN night USING (analysis_date)
JOIN player USING (player_id)
JOIN team USING (team_abbreviation)
ORDER BY snapshot_date, player_id;

CREATE TABLE nba_raw.nbac_boxscore_traditional AS
SELECT
  game_date, game_id, player_id, player_name, l.team_id, team_abbreviation,
  team_abbreviation || if(l.is_home, ' vs. ', ' @ ') || l.opponent_abbreviation AS matchup,
  if(m.points > m.allowed.points, 'W', 'L') AS wl,
  l.minutes, l.field_goals_made AS fgm, l.field_goals_attempted AS fga, l.three_pointers_made AS fg3m,
  l.three_pointers_attempted AS fg3a, l.free_throws_made AS ftm, l.free_throws_attempted AS fta,
  l.offensive_rebounds AS oreb, l.defensive_rebounds AS dreb, l.rebounds AS reb, l.assists AS ast, l.steals AS stl,
  l.blocks AS blk, l.turnovers AS tov, l.personal_fouls AS pf, l.points AS pts,
  round((m.points - m.allowed.points) * l.minutes / 48)::BIGINT AS plus_minus,
  new_york(game_date + 1, TIME '05:30') AS processed_at
FROM line l
JOIN match m USING (game_date, game_id, team_abbreviation)
ORDER BY game_date, game_id, player_id;

CREATE TABLE nba_analytics.player_game_summary AS
SELECT
  r.game_date, r.game_id, r.player_id, r.player_name, r.team_id, r.team_abbreviation, opponent_abbreviation, is_home,
  r.minutes, points, rebounds, assists, steals, blocks, turnovers, personal_fouls, offensive_rebounds,
  defensive_rebounds, field_goals_made, field_goals_attempted, three_pointers_made, three_pointers_attempted,
  free_throws_made, free_throws_attempted, b.plus_minus,
  offensive_rating, usage_rate, true_shooting_pct, points_per_36, defensive_rating, defensive_win_shares, steal_rate,
  block_rate, effective_fg_pct, free_throw_rate, assist_rate, rebound_rate, turnover_rate, restricted_area_shot_pct,
  paint_shot_pct, mid_range_shot_pct, three_point_attempt_rate, corner_three_attempt_rate, restricted_area_fg_pct,
  paint_fg_pct, mid_range_fg_pct, three_point_fg_pct,
  round(avg(points) OVER last_5, 6) AS last_5_games_ppg,
  round(avg(rebounds) OVER last_5, 6) AS last_5_games_rpg,
  round(avg(assists) OVER last_5, 6) AS last_5_games_apg,
  round(avg(r.minutes) OVER last_5, 6) AS last_5_games_mpg,
  round(avg(points) OVER last_10, 6) AS last_10_games_ppg,
  round(avg(rebounds) OVER last_10, 6) AS last_10_games_rpg,
  round(avg(assists) OVER last_10, 6) AS last_10_games_apg,
  round(avg(r.minutes) OVER last_10, 6) AS last_10_games_mpg,
  round(avg(points) OVER season, 6) AS season_avg_ppg,
  round(avg(rebounds) OVER season, 6) AS season_avg_rpg,
  round(avg(assists) OVER season, 6) AS season_avg_apg,
  round(avg(r.minutes) OVER season, 6) AS season_avg_mpg,
  blend(last_5_games_ppg, last_10_games_ppg, season_avg_ppg) AS points_projection,
  blend(last_5_games_rpg, last_10_games_rpg, season_avg_rpg) AS rebounds_projection,
  blend(last_5_games_apg, last_10_games_apg, season_avg_apg) AS assists_projection,
  1::BIGINT AS stat_version,
  new_york(r.game_date + 1, TIME '06:30') AS processed_at
FROM player_rates('line') r
JOIN nba_raw.nbac_boxscore_traditional b USING (game_id, player_id)
WINDOW
  last_5 AS (PARTITION BY player_id ORDER BY r.game_date ROWS 4 PRECEDING),
  last_10 AS (PARTITION BY player_id ORDER BY r.game_date ROWS 9 PRECEDING),
  season AS (PARTITION BY player_id ORDER BY r.game_date ROWS UNBOUNDED PRECEDING)
ORDER BY r.game_date, r.game_id, r.player_id;

CREATE TABLE nba_analytics.team_offense_game_summary AS
SELECT
  game_date, game_id, team_id, team_abbreviation, opponent_abbreviation, is_home,
  points::BIGINT AS points, field_goals_made::BIGINT AS field_goals_made,
  field_goals_attempted::BIGINT AS field_goals_attempted, three_pointers_made::BIGINT AS three_pointers_made,
  three_pointers_attempted::BIGINT AS three_pointers_attempted, free_throws_made::BIGINT AS free_throws_made,
  free_throws_attempted::BIGINT AS free_throws_attempted, offensive_rebounds::BIGINT AS offensive_rebounds,
  assists::BIGINT AS assists, turnovers::BIGINT AS turnovers, 240::BIGINT AS team_minutes,
  possessions, round(possessions_estimated, 6) AS possessions_estimated,
  ratio(100 * points, possessions) AS offensive_rating, pace,
  ratio(points, 2 * (field_goals_attempted + 0.44e0 * free_throws_attempted)) AS true_shooting_pct,
  ratio(field_goals_made + 0.5e0 * three_pointers_made, field_goals_attempted) AS effective_fg_pct,
  ratio(restricted_area_attempted, field_goals_attempted) AS restricted_area_shot_pct,
  ratio(paint_attempted, field_goals_attempted) AS paint_shot_pct,
  ratio(mid_range_attempted, field_goals_attempted) AS mid_range_shot_pct,
  ratio(three_pointers_attempted, field_goals_attempted) AS three_point_attempt_rate,
  ratio(corner_three_attempted, field_goals_attempted) AS corner_three_attempt_rate,
  ratio(restricted_area_made, restricted_area_attempted) AS restricted_area_fg_pct,
  ratio(paint_made, paint_attempted) AS paint_fg_pct,
  ratio(mid_range_made, mid_range_attempted) AS mid_range_fg_pct,
  ratio(three_pointers_made, three_pointers_attempted) AS three_point_fg_pct,
  new_york(game_date + 1, TIME '06:30') AS processed_at
FROM match
ORDER BY game_date, game_id, team_id;

-- What the opponents of a team did. All counts add up, so one game and a season are the same quotients
-- (defense_rates); the league's own percentages are taken over the rows of one `span`.
CREATE TABLE defense_line AS
SELECT
  game_date, game_id, team_abbreviation, 'window' AS span, 1 AS games, pace,
  allowed.points AS points_against, allowed.possessions AS possessions_against,
  allowed.field_goals_attempted AS attempts,
  allowed.restricted_area_made AS rim_made, allowed.restricted_area_attempted AS rim_attempts,
  allowed.paint_made AS paint_made, allowed.paint_attempted AS paint_attempts,
  allowed.mid_range_made AS mid_made, allowed.mid_range_attempted AS mid_attempts,
  allowed.three_pointers_made AS threes_made, allowed.three_pointers_attempted AS threes_attempts,
  allowed.corner_three_attempted AS corner_attempts
FROM match;

CREATE MACRO defense_rates(lines) AS TABLE
SELECT
  *,
  ratio(100 * points_against, possessions_against) AS opponent_def_rating,
  100 * sum(points_against) OVER league / sum(possessions_against) OVER league AS league_rating,
  ratio(100 * sum(rim_made) OVER league / sum(rim_attempts) OVER league, rim_made / rim_attempts)
    AS opponent_rim_protection_rating,
  ratio(100 * sum(threes_made) OVER league / sum(threes_attempts) OVER league, threes_made / threes_attempts)
    AS opponent_perimeter_def_rating,
  ratio(pace, games) AS opponent_pace,
  ratio(rim_attempts, attempts) AS restricted_area_attempt_rate_allowed,
  ratio(paint_attempts, attempts) AS paint_attempt_rate_allowed,
  ratio(mid_attempts, attempts) AS mid_range_attempt_rate_allowed,
  ratio(threes_attempts, attempts) AS three_point_attempt_rate_allowed,
  ratio(corner_attempts, attempts) AS corner_three_attempt_rate_allowed,
  ratio(rim_made, rim_attempts) AS restricted_area_fg_pct_allowed,
  ratio(paint_made, paint_attempts) AS paint_fg_pct_allowed,
  ratio(mid_made, mid_attempts) AS mid_range_fg_pct_allowed,
  ratio(threes_made, threes_attempts) AS three_point_fg_pct_allowed
FROM query_table(lines)
WINDOW league AS (PARTITION BY span);

CREATE TABLE nba_analytics.team_defense_game_summary AS
SELECT
  game_date, game_id, team_id, team_abbreviation, opponent_abbreviation, is_home,
  points_against::BIGINT AS points_allowed, m.allowed.field_goals_made::BIGINT AS field_goals_allowed,
  attempts::BIGINT AS field_goal_attempts_allowed, m.steals::BIGINT AS steals, m.blocks::BIGINT AS blocks,
  m.defensive_rebounds::BIGINT AS defensive_rebounds, m.allowed.turnovers::BIGINT AS turnovers_forced,
  possessions_against AS opponent_possessions,
  opponent_def_rating, opponent_rim_protection_rating, opponent_perimeter_def_rating, opponent_pace,
  restricted_area_attempt_rate_allowed, paint_attempt_rate_allowed, mid_range_attempt_rate_allowed,
  three_point_attempt_rate_allowed, corner_three_attempt_rate_allowed, restricted_area_fg_pct_allowed,
  paint_fg_pct_allowed, mid_range_fg_pct_allowed, three_point_fg_pct_allowed,
  new_york(game_date + 1, TIME '06:30') AS processed_at
FROM defense_rates('defense_line')
JOIN match m USING (game_date, game_id, team_abbreviation)
ORDER BY game_date, game_id, team_id;
