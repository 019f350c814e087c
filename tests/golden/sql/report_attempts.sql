-- Purpose:     every attempt of a span of nights, published or not: how long it took and how it ended.
-- Parameters:  first_date DATE; last_date DATE (included).
-- Reads:       nba_predictions.ml_feature_store_v2_execution_log.
-- Result:      one row per attempt, by date and start; state is failed where nothing was published.
-- Second run:  reads only.
SELECT analysis_date, generation, attempt, trigger, mode, state, started_at, completed_at, row_count, error
FROM nba_predictions.ml_feature_store_v2_execution_log
WHERE analysis_date BETWEEN @first_date AND @last_date
ORDER BY analysis_date, started_at
