-- Purpose:     delete the rows of unpublished attempts that cannot publish any more.
-- Parameters:  processed_before TIMESTAMP (rows processed later stay).
-- Reads:       nba_predictions.ml_feature_store_v2_ledger.
-- Changes:     nba_predictions.ml_feature_store_v2_generations.
-- Result:      the number of rows deleted. Rows that are or were published stay, and rows of the newest claim of a
--              date, and rows of a date without a ledger row.
-- Second run:  changes nothing.
DELETE FROM nba_predictions.ml_feature_store_v2_generations AS made
WHERE
made.processed_at < @processed_before
  -- A date is claimed before its rows are stored: where the ledger knows no such date, the ledger was lost.
  AND made.analysis_date IN (SELECT analysis_date FROM nba_predictions.ml_feature_store_v2_ledger)
  AND made.build_id NOT IN (SELECT build_id FROM nba_predictions.ml_feature_store_v2_ledger WHERE build_id IS NOT NULL)
  AND made.build_id NOT IN (
    SELECT published.build_id
    FROM nba_predictions.ml_feature_store_v2_ledger AS ledger, UNNEST(ledger.publications) AS published
  )
  -- The rows of a claim that still stands: only their attempt can still publish them.
  AND made.build_id NOT IN (
    SELECT staged.build_id
    FROM nba_predictions.ml_feature_store_v2_generations AS staged
    JOIN nba_predictions.ml_feature_store_v2_ledger AS ledger
      ON ledger.analysis_date = staged.analysis_date AND ledger.claimed_generation = staged.build_generation
    WHERE ledger.generation < ledger.claimed_generation AND staged.processed_at >= ledger.claimed_at
  )
