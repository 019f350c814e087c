-- Purpose:     take a date for one attempt; from then on the ledger refuses every older attempt.
-- Parameters:  analysis_date DATE; generation, attempt INT64 (the fencing token); claimant STRING; claimed_at
--              TIMESTAMP.
-- Changes:     nba_predictions.ml_feature_store_v2_ledger.
-- Result:      one row changed, or more; none where the ledger has this claim or a newer one, or the generation or a
--              newer one is published.
-- Second run:  changes nothing.
MERGE INTO nba_predictions.ml_feature_store_v2_ledger AS ledger
USING (SELECT @analysis_date AS analysis_date) AS wanted
ON ledger.analysis_date = @analysis_date
WHEN MATCHED AND ledger.generation < @generation AND (
  ledger.claimed_generation < @generation
  OR ledger.claimed_generation = @generation AND ledger.claimed_attempt < @attempt
) THEN UPDATE SET
  claimed_generation = @generation,
  claimed_attempt = @attempt,
  claimed_by = @claimant,
  claimed_at = @claimed_at
WHEN NOT MATCHED THEN INSERT
  (analysis_date, claimed_generation, claimed_attempt, claimed_by, claimed_at, generation, publications)
  VALUES (@analysis_date, @generation, @attempt, @claimant, @claimed_at, 0, [])
