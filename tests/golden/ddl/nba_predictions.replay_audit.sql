-- Purpose:     who asked for a replay, a cancel or a retraction (of which run), when and why; written before the
--              effect.
-- Parameters:  none.
-- Creates:     nba_predictions.replay_audit
-- Result:      appended to, never changed.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS nba_predictions.replay_audit (
  analysis_date DATE NOT NULL,
  requested_at TIMESTAMP NOT NULL,
  requested_by STRING NOT NULL,
  reason STRING NOT NULL,
  mode STRING NOT NULL,
  request_id STRING,
  idempotency_key STRING,
  previous_state STRING,
  previous_generation INT64,
  decision STRING NOT NULL,
  processor STRING,
  run STRING,
  run_completed_at TIMESTAMP,
  as_of TIMESTAMP
)
PARTITION BY analysis_date
CLUSTER BY requested_by
