-- Purpose:     the fallback values of the active players, stored by Phase 3 for the night. The build does not read the
--              table: see docs/adr/0013.
-- Parameters:  none.
-- Creates:     nba_precompute.phase3_fallback_cache
-- Result:      one row per cache_date (the analysis date of use) and player_id. A column named after a Phase 3 table
--              holds the date of the values from this table, so that freshness stays visible.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_precompute.phase3_fallback_cache (
  cache_date DATE NOT NULL,
  player_id INT64 NOT NULL,
  team_abbreviation STRING,
  opponent_abbreviation STRING,
  offensive_rating FLOAT64,
  usage_rate FLOAT64,
  true_shooting_pct FLOAT64,
  points_per_36 FLOAT64,
  defensive_rating FLOAT64,
  defensive_win_shares FLOAT64,
  steal_rate FLOAT64,
  block_rate FLOAT64,
  points_projection FLOAT64,
  rebounds_projection FLOAT64,
  assists_projection FLOAT64,
  pace FLOAT64,
  restricted_area_shot_pct FLOAT64,
  paint_shot_pct FLOAT64,
  mid_range_shot_pct FLOAT64,
  three_point_attempt_rate FLOAT64,
  opponent_def_rating FLOAT64,
  opponent_rim_protection_rating FLOAT64,
  opponent_perimeter_def_rating FLOAT64,
  last_5_games_ppg FLOAT64,
  last_10_games_ppg FLOAT64,
  season_avg_ppg FLOAT64,
  player_game_summary_date DATE,
  team_offense_game_summary_date DATE,
  team_defense_game_summary_date DATE,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY cache_date
CLUSTER BY player_id
