-- Purpose:     who is active on a date, by the morning's list.
-- Parameters:  none.
-- Creates:     nba_raw.nbac_player_list
-- Result:      one row per snapshot_date and player_id; of two the newest processed_at counts.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_raw.nbac_player_list (
  snapshot_date DATE NOT NULL,
  player_id INT64 NOT NULL,
  player_name STRING,
  team_id INT64,
  team_abbreviation STRING,
  last_game_date DATE,
  games_last_30_days INT64,
  season STRING,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY snapshot_date
CLUSTER BY player_id
