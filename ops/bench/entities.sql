-- Purpose: the upstream tables of one night with any number of players, for `mlfs bench build`.
-- Inputs:  the variables `entities` (players) and `analysis_date`; the session's time zone is UTC. Dialect: DuckDB.
-- Result:  the nine tables that a build reads and the list of teams, with the columns it reads. Thirty teams, fifteen
--          games tonight; each player has three games in the last month; every Phase 4 player table lacks one player in
--          twenty, each another one.
--          Every value is made from the player's number: a second run gives the same rows.
CREATE SCHEMA IF NOT EXISTS nba_raw;
CREATE SCHEMA IF NOT EXISTS nba_analytics;
CREATE SCHEMA IF NOT EXISTS nba_precompute;

CREATE OR REPLACE TEMP MACRO share(number, salt) AS (hash(number, salt) % 1000000)::DOUBLE / 1000000;
CREATE OR REPLACE TEMP MACRO night() AS getvariable('analysis_date')::DATE;
CREATE OR REPLACE TEMP MACRO instant(days_ago, hour) AS (night() - days_ago::INTEGER + to_hours(hour))::TIMESTAMPTZ;
CREATE OR REPLACE TEMP MACRO team(number) AS printf('T%02d', number % 30);
CREATE OR REPLACE TEMP MACRO opponent(number) AS team(xor(number % 30, 1));

CREATE OR REPLACE TABLE nba_raw.nbac_player_list AS
SELECT
  night() AS snapshot_date, i AS player_id, 'Player ' || i AS player_name, team(i) AS team_abbreviation,
  instant(0, 18) AS processed_at
FROM range(getvariable('entities')::BIGINT) AS t(i);

CREATE OR REPLACE TABLE nba_raw.nbac_schedule AS
SELECT
  night() AS game_date, 'G' || i AS game_id, team(2 * i) AS home_team_abbreviation,
  team(2 * i + 1) AS away_team_abbreviation, instant(0, 6) AS processed_at
FROM range(15) AS t(i);

CREATE OR REPLACE TABLE nba_raw.nbac_team_list AS
SELECT i AS team_id, team(i) AS team_abbreviation, instant(30, 6) AS processed_at
FROM range(30) AS t(i);

CREATE OR REPLACE TABLE nba_precompute.team_defense_zone_analysis AS
SELECT
  night() AS analysis_date, team(i) AS team_abbreviation, 100 + 20 * share(i, 1) AS opponent_def_rating,
  90 + 20 * share(i, 2) AS opponent_rim_protection_rating, 90 + 20 * share(i, 3) AS opponent_perimeter_def_rating,
  instant(0, 23) AS processed_at
FROM range(30) AS t(i);

CREATE OR REPLACE TABLE nba_precompute.player_shot_zone_analysis AS
SELECT
  night() AS analysis_date, i AS player_id,
  true AS has_game, team(i) AS team_abbreviation, opponent(i) AS opponent_abbreviation,
  share(i, 11) AS restricted_area_shot_pct,
  share(i, 12) AS paint_shot_pct, share(i, 13) AS mid_range_shot_pct, share(i, 14) AS three_point_attempt_rate,
  instant(0, 23) AS processed_at
FROM range(getvariable('entities')::BIGINT) AS t(i)
WHERE i % 20 != 1;

CREATE OR REPLACE TABLE nba_precompute.player_composite_factors AS
SELECT
  night() AS analysis_date, i AS player_id,
  true AS has_game, team(i) AS team_abbreviation, opponent(i) AS opponent_abbreviation,
  300 * share(i, 21) AS offensive_rating,
  share(i, 22) AS usage_rate, share(i, 23) AS true_shooting_pct, 40 * share(i, 24) AS points_per_36,
  300 * share(i, 25) AS defensive_rating, share(i, 26) AS defensive_win_shares, share(i, 27) AS steal_rate,
  share(i, 28) AS block_rate, 40 * share(i, 29) AS points_projection, 15 * share(i, 30) AS rebounds_projection,
  12 * share(i, 31) AS assists_projection, 90 + 20 * share(i % 30, 32) AS pace,
  instant(0, 23) AS processed_at
FROM range(getvariable('entities')::BIGINT) AS t(i)
WHERE i % 20 != 2;

CREATE OR REPLACE TABLE nba_precompute.player_daily_cache AS
SELECT
  night() AS analysis_date, i AS player_id,
  true AS has_game, team(i) AS team_abbreviation, opponent(i) AS opponent_abbreviation,
  40 * share(i, 41) AS last_5_games_ppg,
  40 * share(i, 42) AS last_10_games_ppg, 40 * share(i, 43) AS season_avg_ppg,
  instant(0, 23) AS processed_at
FROM range(getvariable('entities')::BIGINT) AS t(i)
WHERE i % 20 != 3;

CREATE OR REPLACE TABLE nba_analytics.player_game_summary AS
SELECT
  night() - 3 - 7 * game::INTEGER AS game_date, i AS player_id,
  300 * share(i, 51 + game) AS offensive_rating, share(i, 61 + game) AS usage_rate,
  share(i, 71 + game) AS true_shooting_pct, 40 * share(i, 81 + game) AS points_per_36,
  300 * share(i, 91 + game) AS defensive_rating, share(i, 101 + game) AS defensive_win_shares,
  share(i, 111 + game) AS steal_rate, share(i, 121 + game) AS block_rate, 40 * share(i, 131 + game) AS points_projection,
  15 * share(i, 141 + game) AS rebounds_projection, 12 * share(i, 151 + game) AS assists_projection,
  share(i, 161 + game) AS restricted_area_shot_pct, share(i, 171 + game) AS paint_shot_pct,
  share(i, 181 + game) AS mid_range_shot_pct, share(i, 191 + game) AS three_point_attempt_rate,
  40 * share(i, 201 + game) AS last_5_games_ppg, 40 * share(i, 211 + game) AS last_10_games_ppg,
  40 * share(i, 221 + game) AS season_avg_ppg,
  instant(3 + 7 * game, 23) AS processed_at
FROM range(2, -1, -1) AS g(game), range(getvariable('entities')::BIGINT) AS t(i);

CREATE OR REPLACE TABLE nba_analytics.team_offense_game_summary AS
SELECT
  night() - 3 - 7 * game::INTEGER AS game_date, team(i) AS team_abbreviation,
  90 + 20 * share(i, 231 + game) AS pace, instant(3 + 7 * game, 23) AS processed_at
FROM range(2, -1, -1) AS g(game), range(30) AS t(i);

CREATE OR REPLACE TABLE nba_analytics.team_defense_game_summary AS
SELECT
  night() - 3 - 7 * game::INTEGER AS game_date, team(i) AS team_abbreviation,
  100 + 20 * share(i, 241 + game) AS opponent_def_rating, 90 + 20 * share(i, 251 + game) AS opponent_rim_protection_rating,
  90 + 20 * share(i, 261 + game) AS opponent_perimeter_def_rating,
  instant(3 + 7 * game, 23) AS processed_at
FROM range(2, -1, -1) AS g(game), range(30) AS t(i);
