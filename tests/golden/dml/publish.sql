-- Purpose:     publish the rows of one attempt: change the pointer of the ledger to the rows.
-- Parameters:  analysis_date DATE; generation, attempt INT64 (the fencing token); claimant, build_id STRING;
--              committed_at TIMESTAMP; row_count INT64 (rows that were counted and judged).
-- Reads:       nba_predictions.ml_feature_store_v2_generations.
-- Changes:     nba_predictions.ml_feature_store_v2_ledger.
-- Result:      one row changed, or more; none where another attempt has claimed the date, the generation or a newer one
--              is published, or generations does not hold the rows that were judged.
-- Second run:  changes nothing.
--
-- Two workers that claim a new date at the same instant may leave two ledger rows for it. No row may then be newer.
UPDATE nba_predictions.ml_feature_store_v2_ledger AS ledger
SET
  generation = @generation,
  build_id = @build_id,
  committed_at = @committed_at,
  publications = ARRAY_CONCAT(
    ledger.publications,
    [STRUCT(@generation AS generation, @build_id AS build_id, @committed_at AS committed_at)]
  )
WHERE ledger.analysis_date = @analysis_date
  AND ledger.claimed_generation = @generation
  AND ledger.claimed_attempt = @attempt
  AND ledger.claimed_by = @claimant
  AND NOT EXISTS (
    SELECT 1
    FROM nba_predictions.ml_feature_store_v2_ledger AS newer
    WHERE newer.analysis_date = @analysis_date AND (
      newer.generation >= @generation
      OR newer.claimed_generation > @generation
      OR newer.claimed_generation = @generation AND newer.claimed_attempt > @attempt
    )
  )
  AND @row_count = (
    SELECT COUNT(*)
    FROM nba_predictions.ml_feature_store_v2_generations AS made
    WHERE made.analysis_date = @analysis_date AND made.build_id = @build_id AND made.left_out_reason IS NULL
  )
