-- Purpose: Phase 4 tables of the sample data (nba_precompute) and the contexts of tonight's games (upcoming_*).
-- Inputs:  what phase3.sql leaves. A row of analysis_date D uses games with game_date < D only.
-- Result:  the tables named <dataset>.<table>, ordered. Dialect: DuckDB, in memory.
-- A second run fails on the first CREATE: every run starts with an empty database.

-- Everyone on the roster who has played at all, with his game of that night if there is one.
CREATE TABLE candidate AS
SELECT
  snapshot_date AS analysis_date, player_id, player_name, p.team_abbreviation, s.opponent_abbreviation,
  s.game_id IS NOT NULL AS has_game, s.game_id, s.is_home, last_game_date,
  snapshot_date - last_game_date - 1 AS days_rest
FROM nba_raw.nbac_player_list p
LEFT JOIN side s ON s.team_abbreviation = p.team_abbreviation AND s.game_date = p.snapshot_date
WHERE last_game_date IS NOT NULL;

-- Sums of the season to date; the keys of `line` that do not add up are left out.
CREATE TABLE season_line AS
SELECT analysis_date, player_id, count(*) AS games_played, sum(COLUMNS(line.* EXCLUDE (
  game_date, game_id, team_id, team_abbreviation, opponent_abbreviation, is_home, player_id, player_name)))
FROM night
JOIN line ON game_date < analysis_date
GROUP BY analysis_date, player_id;

CREATE TABLE season_defense AS
SELECT analysis_date AS span, team_abbreviation, sum(COLUMNS(defense_line.* EXCLUDE (
  game_date, game_id, team_abbreviation, span)))
FROM night
JOIN defense_line ON game_date < analysis_date
GROUP BY analysis_date, team_abbreviation;

CREATE TABLE season_defense_rates AS
SELECT span AS analysis_date, * EXCLUDE (span) FROM defense_rates('season_defense');

CREATE TABLE nba_precompute.team_defense_zone_analysis AS
SELECT
  analysis_date, team_id, team_abbreviation, games::BIGINT AS games_played,
  opponent_def_rating, opponent_rim_protection_rating, opponent_perimeter_def_rating, opponent_pace,
  restricted_area_attempt_rate_allowed, paint_attempt_rate_allowed, mid_range_attempt_rate_allowed,
  three_point_attempt_rate_allowed, corner_three_attempt_rate_allowed, restricted_area_fg_pct_allowed,
  paint_fg_pct_allowed, mid_range_fg_pct_allowed, three_point_fg_pct_allowed,
  ratio(points_against, games) AS points_allowed_per_game,
  new_york(analysis_date, TIME '23:05') AS processed_at
FROM season_defense_rates
JOIN team USING (team_abbreviation)
ORDER BY analysis_date, team_id;

CREATE TABLE nba_precompute.player_shot_zone_analysis AS
SELECT
  analysis_date, player_id, c.player_name, c.team_abbreviation, c.opponent_abbreviation, has_game, games_played,
  field_goals_attempted::BIGINT AS field_goal_attempts,
  restricted_area_shot_pct, paint_shot_pct, mid_range_shot_pct, three_point_attempt_rate, corner_three_attempt_rate,
  restricted_area_fg_pct, paint_fg_pct, mid_range_fg_pct, three_point_fg_pct,
  new_york(analysis_date, TIME '23:10') AS processed_at
FROM candidate c
JOIN player_rates('season_line') USING (analysis_date, player_id)
WHERE field_goals_attempted > 0
ORDER BY analysis_date, player_id;

CREATE TABLE nba_precompute.player_daily_cache AS
WITH recent AS (
  SELECT analysis_date, line.*,
    row_number() OVER (PARTITION BY analysis_date, player_id ORDER BY game_date DESC) AS games_ago
  FROM night
  JOIN line ON game_date < analysis_date
)
SELECT
  analysis_date, player_id, c.player_name, c.team_abbreviation, c.opponent_abbreviation, has_game,
  count(*) AS games_played_season,
  round(avg(points) FILTER (games_ago <= 5), 6) AS last_5_games_ppg,
  round(avg(rebounds) FILTER (games_ago <= 5), 6) AS last_5_games_rpg,
  round(avg(assists) FILTER (games_ago <= 5), 6) AS last_5_games_apg,
  round(avg(minutes) FILTER (games_ago <= 5), 6) AS last_5_games_mpg,
  round(avg(points) FILTER (games_ago <= 10), 6) AS last_10_games_ppg,
  round(avg(rebounds) FILTER (games_ago <= 10), 6) AS last_10_games_rpg,
  round(avg(assists) FILTER (games_ago <= 10), 6) AS last_10_games_apg,
  round(avg(minutes) FILTER (games_ago <= 10), 6) AS last_10_games_mpg,
  round(avg(points), 6) AS season_avg_ppg,
  round(avg(rebounds), 6) AS season_avg_rpg,
  round(avg(assists), 6) AS season_avg_apg,
  round(avg(minutes), 6) AS season_avg_mpg,
  round(stddev_samp(points) FILTER (games_ago <= 10), 6) AS points_std_last_10,
  last_game_date, days_rest,
  new_york(analysis_date, TIME '23:15') AS processed_at
FROM candidate c
JOIN recent USING (analysis_date, player_id)
GROUP BY ALL
ORDER BY analysis_date, player_id;

CREATE TABLE nba_precompute.player_composite_factors AS
SELECT
  analysis_date, player_id, d.player_name, d.team_abbreviation, d.opponent_abbreviation, has_game, games_played,
  season_avg_mpg AS minutes_per_game,
  offensive_rating, usage_rate, true_shooting_pct, points_per_36, defensive_rating, defensive_win_shares, steal_rate,
  block_rate, effective_fg_pct, free_throw_rate, assist_rate, rebound_rate, turnover_rate,
  t.opponent_pace AS pace,
  round(blend(last_5_games_ppg, last_10_games_ppg, season_avg_ppg)
    * coalesce(o.opponent_def_rating / o.league_rating, 1), 6) AS points_projection,
  blend(last_5_games_rpg, last_10_games_rpg, season_avg_rpg) AS rebounds_projection,
  blend(last_5_games_apg, last_10_games_apg, season_avg_apg) AS assists_projection,
  d.processed_at
FROM nba_precompute.player_daily_cache d
JOIN player_rates('season_line') USING (analysis_date, player_id)
LEFT JOIN season_defense_rates t USING (analysis_date, team_abbreviation)
LEFT JOIN season_defense_rates o
  ON o.analysis_date = d.analysis_date AND o.team_abbreviation = d.opponent_abbreviation
ORDER BY d.analysis_date, d.player_id;

-- Per team and night; in the last 7 days means the 7 days before the night.
CREATE TABLE form AS
SELECT
  analysis_date, team_abbreviation, analysis_date - max(game_date) - 1 AS days_rest,
  count(*) FILTER (game_date >= analysis_date - 7) AS games_in_last_7_days,
  count(*) FILTER (points > allowed.points) AS wins,
  count(*) FILTER (points < allowed.points) AS losses,
  round(avg(pace), 6) AS pace_season,
  ratio(100 * sum(points), sum(possessions)) AS offensive_rating_season,
  ratio(100 * sum(allowed.points), sum(allowed.possessions)) AS defensive_rating_season
FROM night
JOIN match ON game_date < analysis_date
GROUP BY analysis_date, team_abbreviation;

CREATE TABLE nba_analytics.upcoming_team_game_context AS
SELECT
  game_date, game_id, team_id, team_abbreviation, opponent_abbreviation, is_home, false AS is_neutral_site,
  days_rest, days_rest = 0 AS back_to_back, games_in_last_7_days, wins, losses, pace_season,
  offensive_rating_season, defensive_rating_season, new_york(game_date, TIME '06:45') AS processed_at
FROM side
JOIN form USING (team_abbreviation)
WHERE game_date = analysis_date
ORDER BY game_date, game_id, team_id;

CREATE TABLE nba_analytics.upcoming_player_game_context AS
SELECT
  analysis_date AS game_date, player_id, c.player_name, c.team_abbreviation, c.opponent_abbreviation, c.game_id,
  c.is_home, false AS is_neutral_site, c.days_rest,
  (SELECT count(*) FROM line l WHERE l.player_id = c.player_id
    AND l.game_date BETWEEN c.analysis_date - 7 AND c.analysis_date - 1) AS games_in_last_7_days,
  last_5_games_ppg AS points_avg_last_5, last_10_games_ppg AS points_avg_last_10, season_avg_ppg AS points_avg_season,
  last_5_games_mpg AS minutes_avg_last_5, f.days_rest = 0 AS back_to_back,
  new_york(analysis_date, TIME '06:45') AS processed_at
FROM candidate c
JOIN nba_precompute.player_daily_cache USING (analysis_date, player_id)
JOIN form f ON f.analysis_date = c.analysis_date AND f.team_abbreviation = c.team_abbreviation
WHERE c.has_game
ORDER BY game_date, player_id;
