-- Purpose:     what each team allowed in each game: the fallback of team_defense_zone_analysis.
-- Parameters:  none.
-- Creates:     nba_analytics.team_defense_game_summary
-- Result:      one row per team and game.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_analytics.team_defense_game_summary (
  game_date DATE NOT NULL,
  game_id STRING,
  team_id INT64,
  team_abbreviation STRING NOT NULL,
  opponent_abbreviation STRING,
  is_home BOOL,
  points_allowed INT64,
  field_goals_allowed INT64,
  field_goal_attempts_allowed INT64,
  steals INT64,
  blocks INT64,
  defensive_rebounds INT64,
  turnovers_forced INT64,
  opponent_possessions FLOAT64,
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
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY game_date
CLUSTER BY team_abbreviation
