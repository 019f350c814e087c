-- Purpose: the empty input tables of the sample data and the macros both phases share.
-- Inputs:  none; data.py fills the tables from CSV before phase3.sql runs. Dialect: DuckDB, in memory.
-- A second run fails on the first CREATE: every run starts with an empty database.

CREATE SCHEMA nba_raw;
CREATE SCHEMA nba_analytics;
CREATE SCHEMA nba_precompute;

CREATE TABLE team (team_id BIGINT, team_abbreviation VARCHAR, team_name VARCHAR);
CREATE TABLE player (player_id BIGINT, player_name VARCHAR, team_abbreviation VARCHAR, signed_on DATE);
CREATE TABLE game (game_date DATE, game_id VARCHAR, home VARCHAR, away VARCHAR, season VARCHAR);
CREATE TABLE night (analysis_date DATE, season VARCHAR);
CREATE TABLE box_line (
  game_id VARCHAR, player_id BIGINT, minutes BIGINT, offensive_rebounds BIGINT, defensive_rebounds BIGINT,
  assists BIGINT, steals BIGINT, blocks BIGINT, turnovers BIGINT, personal_fouls BIGINT,
  free_throws_made BIGINT, free_throws_attempted BIGINT,
  restricted_area_made BIGINT, paint_made BIGINT, mid_range_made BIGINT,
  corner_three_made BIGINT, above_break_three_made BIGINT,
  restricted_area_attempted BIGINT, paint_attempted BIGINT, mid_range_attempted BIGINT,
  corner_three_attempted BIGINT, above_break_three_attempted BIGINT
);

CREATE MACRO ratio(part, whole) AS round(part / nullif(whole, 0), 6);
CREATE MACRO blend(last_5, last_10, season) AS round(0.5e0 * last_5 + 0.3e0 * last_10 + 0.2e0 * season, 6);
CREATE MACRO new_york(day, clock) AS (day + clock) AT TIME ZONE 'America/New_York';
