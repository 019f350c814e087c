-- Purpose:     the retracted runs, so that a lost record can be restored.
-- Parameters:  first_date, last_date DATE (both included).
-- Reads:       nba_predictions.replay_audit.
-- Result:      one row per retraction, oldest first.
-- Second run:  reads only.
SELECT analysis_date, requested_at, requested_by, reason, request_id, processor, run, run_completed_at
FROM nba_predictions.replay_audit
WHERE analysis_date BETWEEN @first_date AND @last_date AND mode = 'retract'
ORDER BY requested_at, processor, run
