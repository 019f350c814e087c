-- Purpose:     Phase 4, processor 3: ratings and projections.
-- Parameters:  none.
-- Creates:     nba_precompute.player_composite_factors
-- Result:      one row per analysis_date and player_id.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_precompute.player_composite_factors (
  analysis_date DATE NOT NULL,
  player_id INT64 NOT NULL,
  player_name STRING,
  team_abbreviation STRING,
  opponent_abbreviation STRING,
  has_game BOOL,
  games_played INT64,
  minutes_per_game FLOAT64,
  offensive_rating FLOAT64,
  usage_rate FLOAT64,
  true_shooting_pct FLOAT64,
  points_per_36 FLOAT64,
  defensive_rating FLOAT64,
  defensive_win_shares FLOAT64,
  steal_rate FLOAT64,
  block_rate FLOAT64,
  effective_fg_pct FLOAT64,
  free_throw_rate FLOAT64,
  assist_rate FLOAT64,
  rebound_rate FLOAT64,
  turnover_rate FLOAT64,
  pace FLOAT64,
  points_projection FLOAT64,
  rebounds_projection FLOAT64,
  assists_projection FLOAT64,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY player_id
