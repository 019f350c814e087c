-- Purpose:     which teams meet on a date.
-- Parameters:  none.
-- Creates:     nba_raw.nbac_schedule
-- Result:      one row per game.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_raw.nbac_schedule (
  game_date DATE NOT NULL,
  game_id STRING NOT NULL,
  game_type STRING,
  is_neutral_site BOOL,
  home_team_id INT64,
  home_team_abbreviation STRING NOT NULL,
  away_team_id INT64,
  away_team_abbreviation STRING,
  season STRING,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY game_date
CLUSTER BY home_team_abbreviation
