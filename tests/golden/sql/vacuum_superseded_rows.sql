-- Purpose:     what vacuum_superseded would delete.
-- Parameters:  superseded_before TIMESTAMP.
-- Reads:       nba_predictions.ml_feature_store_v2_ledger, nba_predictions.ml_feature_store_v2_generations.
-- Result:      one row; rows that were left out count, too.
-- Second run:  reads only.
SELECT COUNT(*) AS row_count
FROM nba_predictions.ml_feature_store_v2_generations AS made
WHERE
made.build_id IN (
    SELECT older.build_id
    FROM nba_predictions.ml_feature_store_v2_ledger AS ledger,
      UNNEST(ledger.publications) AS older,
      UNNEST(ledger.publications) AS newer
    WHERE newer.generation > older.generation AND newer.committed_at < @superseded_before
  )
  AND made.build_id NOT IN (SELECT build_id FROM nba_predictions.ml_feature_store_v2_ledger WHERE build_id IS NOT NULL)
