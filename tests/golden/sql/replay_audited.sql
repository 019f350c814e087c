-- Purpose:     whether a replay has its audit row.
-- Parameters:  @analysis_date DATE; @request_id STRING.
-- Reads:       nba_predictions.replay_audit.
-- Result:      one row with the number of rows of that request, 0 or 1.
-- Second run:  reads only.
SELECT COUNT(*) AS row_count
FROM nba_predictions.replay_audit
WHERE analysis_date = @analysis_date AND request_id = @request_id
