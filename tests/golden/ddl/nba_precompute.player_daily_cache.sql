-- Purpose:     Phase 4, processor 4: recent form.
-- Parameters:  none.
-- Creates:     nba_precompute.player_daily_cache
-- Result:      one row per analysis_date and player_id.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_precompute.player_daily_cache (
  analysis_date DATE NOT NULL,
  player_id INT64 NOT NULL,
  player_name STRING,
  team_abbreviation STRING,
  opponent_abbreviation STRING,
  has_game BOOL,
  games_played_season INT64,
  last_5_games_ppg FLOAT64,
  last_5_games_rpg FLOAT64,
  last_5_games_apg FLOAT64,
  last_5_games_mpg FLOAT64,
  last_10_games_ppg FLOAT64,
  last_10_games_rpg FLOAT64,
  last_10_games_apg FLOAT64,
  last_10_games_mpg FLOAT64,
  season_avg_ppg FLOAT64,
  season_avg_rpg FLOAT64,
  season_avg_apg FLOAT64,
  season_avg_mpg FLOAT64,
  points_std_last_10 FLOAT64,
  last_game_date DATE,
  days_rest INT64,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY player_id
