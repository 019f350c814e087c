-- Purpose:     delete the rows of generations superseded long ago.
-- Parameters:  superseded_before TIMESTAMP (generations that were superseded later stay).
-- Reads:       nba_predictions.ml_feature_store_v2_ledger.
-- Changes:     nba_predictions.ml_feature_store_v2_generations.
-- Result:      the number of rows deleted. The published generation of a date always stays.
-- Second run:  changes nothing.
DELETE FROM nba_predictions.ml_feature_store_v2_generations AS made
WHERE
made.build_id IN (
    SELECT older.build_id
    FROM nba_predictions.ml_feature_store_v2_ledger AS ledger,
      UNNEST(ledger.publications) AS older,
      UNNEST(ledger.publications) AS newer
    WHERE newer.generation > older.generation AND newer.committed_at < @superseded_before
  )
  AND made.build_id NOT IN (SELECT build_id FROM nba_predictions.ml_feature_store_v2_ledger WHERE build_id IS NOT NULL)
