-- Purpose:     the counts from which a build is scored.
-- Parameters:  analysis_date DATE; build_id STRING.
-- Reads:       nba_predictions.ml_feature_store_v2_generations.
-- Result:      one row. <block>_players counts the active players to which the block applies; cells, NULLs and dates
--              count only the rows that may be published, so all cells of a row left out count as missing.
-- Second run:  reads only.
WITH this_build AS (
  SELECT *
  FROM nba_predictions.ml_feature_store_v2_generations
  WHERE analysis_date = @analysis_date AND build_id = @build_id
)
SELECT
  COUNT(IF(left_out_reason IS NULL, 1, NULL)) AS row_count,
  COUNT(IF(left_out_reason IS NOT NULL, 1, NULL)) AS left_out_count,
  COUNT(IF(has_game, 1, NULL)) AS team_defense_players,
  COUNT(*) AS player_shot_players,
  COUNT(*) AS composite_players,
  COUNT(*) AS daily_cache_players,
  COALESCE(SUM(IF(left_out_reason IS NULL, team_defense_phase4_cells, 0)), 0) AS team_defense_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, team_defense_phase3_cells, 0)), 0) AS team_defense_phase3_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, player_shot_phase4_cells, 0)), 0) AS player_shot_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, player_shot_phase3_cells, 0)), 0) AS player_shot_phase3_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, composite_phase4_cells, 0)), 0) AS composite_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, composite_phase3_cells, 0)), 0) AS composite_phase3_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, daily_cache_phase4_cells, 0)), 0) AS daily_cache_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, daily_cache_phase3_cells, 0)), 0) AS daily_cache_phase3_cells,
  COALESCE(
    SUM(
      IF(
        left_out_reason IS NULL,
        IF(offensive_rating IS NULL, 1, 0) + IF(defensive_rating IS NULL, 1, 0) + IF(points_projection IS NULL, 1, 0)
        + IF(rebounds_projection IS NULL, 1, 0) + IF(assists_projection IS NULL, 1, 0),
        0
      )
    ),
    0
  ) AS required_nulls,
  MAX(IF(left_out_reason IS NULL, source_data_date, NULL)) AS newest_source_date
FROM this_build
