-- Purpose:     Phase 4, processor 2: where each player shoots from.
-- Parameters:  none.
-- Creates:     nba_precompute.player_shot_zone_analysis
-- Result:      one row per analysis_date and player_id.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_precompute.player_shot_zone_analysis (
  analysis_date DATE NOT NULL,
  player_id INT64 NOT NULL,
  player_name STRING,
  team_abbreviation STRING,
  opponent_abbreviation STRING,
  has_game BOOL,
  games_played INT64,
  field_goal_attempts INT64,
  restricted_area_shot_pct FLOAT64,
  paint_shot_pct FLOAT64,
  mid_range_shot_pct FLOAT64,
  three_point_attempt_rate FLOAT64,
  corner_three_attempt_rate FLOAT64,
  restricted_area_fg_pct FLOAT64,
  paint_fg_pct FLOAT64,
  mid_range_fg_pct FLOAT64,
  three_point_fg_pct FLOAT64,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY player_id
