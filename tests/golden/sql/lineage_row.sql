-- Purpose:     one published row, whole.
-- Parameters:  analysis_date DATE; player_id INT64.
-- Reads:       nba_predictions.ml_feature_store_v2.
-- Result:      one row; none for a player without a row that night.
-- Second run:  reads only.
SELECT *
FROM nba_predictions.ml_feature_store_v2
WHERE analysis_date = @analysis_date AND player_id = @player_id
