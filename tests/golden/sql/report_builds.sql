-- Purpose:     what each accepted build of a span of nights was worth, by the rows of the Phase 4 tables, and how long
--              the build took.
-- Parameters:  first_date DATE; last_date DATE (included).
-- Reads:       nba_predictions.ml_feature_store_v2_quality_history.
-- Result:      one row per build that passed the quality gate and read whatever the tables held, by date and start;
--              points 0 to 100.
-- Second run:  reads only.
SELECT
  analysis_date,
  started_at,
  processed_at,
  row_count,
  quality_score,
  team_defense_rows,
  player_shot_rows,
  composite_rows,
  daily_cache_rows
FROM nba_predictions.ml_feature_store_v2_quality_history
WHERE analysis_date BETWEEN @first_date AND @last_date
  AND mode = 'normal'
  AND state <> 'failed'
  AND as_of IS NULL
ORDER BY analysis_date, started_at
