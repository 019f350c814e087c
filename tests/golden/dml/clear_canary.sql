-- Purpose:     delete the canary's row, with the rows of builds of the canary that died.
-- Parameters:  analysis_date DATE.
-- Reads:       no other table.
-- Changes:     nba_predictions.ml_feature_store_v2_generations.
-- Result:      the number of rows deleted. Rows with another reason to be left out, or with none, stay.
-- Second run:  changes nothing.
DELETE FROM nba_predictions.ml_feature_store_v2_generations AS made
WHERE made.analysis_date = @analysis_date AND made.left_out_reason = 'canary'
