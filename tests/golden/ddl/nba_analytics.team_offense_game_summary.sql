-- Purpose:     what each team did in each game; gives the pace where Phase 4 does not.
-- Parameters:  none.
-- Creates:     nba_analytics.team_offense_game_summary
-- Result:      one row per team and game.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_analytics.team_offense_game_summary (
  game_date DATE NOT NULL,
  game_id STRING,
  team_id INT64,
  team_abbreviation STRING NOT NULL,
  opponent_abbreviation STRING,
  is_home BOOL,
  points INT64,
  field_goals_made INT64,
  field_goals_attempted INT64,
  three_pointers_made INT64,
  three_pointers_attempted INT64,
  free_throws_made INT64,
  free_throws_attempted INT64,
  offensive_rebounds INT64,
  assists INT64,
  turnovers INT64,
  team_minutes INT64,
  possessions FLOAT64,
  possessions_estimated FLOAT64,
  offensive_rating FLOAT64,
  pace FLOAT64,
  true_shooting_pct FLOAT64,
  effective_fg_pct FLOAT64,
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
PARTITION BY game_date
CLUSTER BY team_abbreviation
