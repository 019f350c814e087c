-- Purpose:     Phase 4, processor 1: how each team defends.
-- Parameters:  none.
-- Creates:     nba_precompute.team_defense_zone_analysis
-- Result:      one row per analysis_date and team.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_precompute.team_defense_zone_analysis (
  analysis_date DATE NOT NULL,
  team_id INT64,
  team_abbreviation STRING NOT NULL,
  games_played INT64,
  opponent_def_rating FLOAT64,
  opponent_rim_protection_rating FLOAT64,
  opponent_perimeter_def_rating FLOAT64,
  opponent_pace FLOAT64,
  restricted_area_attempt_rate_allowed FLOAT64,
  paint_attempt_rate_allowed FLOAT64,
  mid_range_attempt_rate_allowed FLOAT64,
  three_point_attempt_rate_allowed FLOAT64,
  corner_three_attempt_rate_allowed FLOAT64,
  restricted_area_fg_pct_allowed FLOAT64,
  paint_fg_pct_allowed FLOAT64,
  mid_range_fg_pct_allowed FLOAT64,
  three_point_fg_pct_allowed FLOAT64,
  points_allowed_per_game FLOAT64,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY team_abbreviation
