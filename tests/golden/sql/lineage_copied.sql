-- Purpose:     the row that the statement yesterday copies for one player_id, with the current values.
-- Parameters:  earliest_date, previous_date DATE (the nights that may be copied, both ends included); player_id INT64.
-- Reads:       nba_predictions.ml_feature_store_v2.
-- Result:      one row with every published column; none if the copied build has no row of this player_id.
-- Second run:  reads only.
WITH night AS (
  SELECT MAX(analysis_date) AS copied_date
  FROM nba_predictions.ml_feature_store_v2
  WHERE analysis_date BETWEEN @earliest_date AND @previous_date AND data_source <> 'yesterday'
)
SELECT published.*
FROM nba_predictions.ml_feature_store_v2 AS published
JOIN night ON night.copied_date = published.analysis_date
WHERE published.analysis_date BETWEEN @earliest_date AND @previous_date AND published.player_id = @player_id
