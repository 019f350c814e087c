-- Purpose:     the rows of every attempt to build a date, published or not; the ledger names the attempt that is
--              published.
-- Parameters:  none.
-- Creates:     nba_predictions.ml_feature_store_v2_generations
-- Result:      one row per analysis_date, build_id and player_id; written once, never changed. A row with a
--              left_out_reason is no published row. The columns that end in _cells count the cells of a block from each
--              phase.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_predictions.ml_feature_store_v2_generations (
  analysis_date DATE NOT NULL,
  player_id INT64 NOT NULL,
  player_name STRING,
  team_abbreviation STRING,
  opponent_abbreviation STRING,
  has_game BOOL NOT NULL,
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
  quality_score FLOAT64 NOT NULL,
  data_source STRING NOT NULL,
  phase4_available BOOL,
  phase3_fallback_used BOOL,
  team_defense_source STRING,
  player_shot_source STRING,
  composite_source STRING,
  daily_cache_source STRING,
  phase3_features ARRAY<STRING>,
  missing_features ARRAY<STRING>,
  source_data_date DATE,
  build_generation INT64 NOT NULL,
  build_id STRING NOT NULL,
  processed_at TIMESTAMP NOT NULL,
  left_out_reason STRING,
  team_defense_phase4_cells INT64 NOT NULL,
  team_defense_phase3_cells INT64 NOT NULL,
  player_shot_phase4_cells INT64 NOT NULL,
  player_shot_phase3_cells INT64 NOT NULL,
  composite_phase4_cells INT64 NOT NULL,
  composite_phase3_cells INT64 NOT NULL,
  daily_cache_phase4_cells INT64 NOT NULL,
  daily_cache_phase3_cells INT64 NOT NULL,
  opponent_source STRING,
  player_shot_game STRING,
  composite_game STRING,
  daily_cache_game STRING
)
PARTITION BY analysis_date
CLUSTER BY build_id, player_id
