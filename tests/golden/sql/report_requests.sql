-- Purpose:     what people asked for about the nights of a span: replays, cancels, retractions, with actor and reason.
-- Parameters:  first_date DATE; last_date DATE (included).
-- Reads:       nba_predictions.replay_audit.
-- Result:      one row per request, oldest first.
-- Second run:  reads only.
SELECT
  analysis_date,
  requested_at,
  requested_by,
  reason,
  mode,
  previous_state,
  previous_generation,
  decision,
  processor,
  run
FROM nba_predictions.replay_audit
WHERE analysis_date BETWEEN @first_date AND @last_date
ORDER BY requested_at, mode, decision
