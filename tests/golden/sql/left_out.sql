-- Purpose:     the active players that get no row, and why.
-- Parameters:  analysis_date DATE; build_id STRING.
-- Reads:       nba_predictions.ml_feature_store_v2_generations.
-- Result:      (player_id, player_name, team_abbreviation, reason), by player_id, at most a thousand.
-- Second run:  reads only.
WITH this_build AS (
  SELECT *
  FROM nba_predictions.ml_feature_store_v2_generations
  WHERE analysis_date = @analysis_date AND build_id = @build_id
)
SELECT player_id, player_name, team_abbreviation, left_out_reason AS reason
FROM this_build
WHERE left_out_reason IS NOT NULL
ORDER BY player_id
LIMIT 1000
