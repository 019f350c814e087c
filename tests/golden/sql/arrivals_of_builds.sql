-- Purpose:     the first build that found rows of a processor, for nights of a span of which no arrival is stored.
-- Parameters:  first_date DATE; last_date DATE (included).
-- Reads:       nba_predictions.ml_feature_store_v2_quality_history, nba_predictions.ml_feature_store_v2_arrivals.
-- Result:      one row per analysis_date and processor with rows, by analysis_date. The rows were in the table when the
--              build started; nothing is said of an earlier instant.
-- Second run:  reads only.
SELECT
  analysis_date,
  'team_defense_zone_analysis' AS processor,
  build_id,
  started_at,
  team_defense_rows AS row_count
FROM nba_predictions.ml_feature_store_v2_quality_history
WHERE analysis_date BETWEEN @first_date AND @last_date
  AND mode = 'normal'
  AND as_of IS NULL
  AND team_defense_rows > 0
  AND analysis_date NOT IN (
    SELECT arrivals.analysis_date
    FROM nba_predictions.ml_feature_store_v2_arrivals AS arrivals
    WHERE arrivals.analysis_date BETWEEN @first_date AND @last_date
  )
QUALIFY ROW_NUMBER() OVER (PARTITION BY analysis_date ORDER BY started_at, build_id) = 1
UNION ALL
SELECT
  analysis_date,
  'player_shot_zone_analysis' AS processor,
  build_id,
  started_at,
  player_shot_rows AS row_count
FROM nba_predictions.ml_feature_store_v2_quality_history
WHERE analysis_date BETWEEN @first_date AND @last_date
  AND mode = 'normal'
  AND as_of IS NULL
  AND player_shot_rows > 0
  AND analysis_date NOT IN (
    SELECT arrivals.analysis_date
    FROM nba_predictions.ml_feature_store_v2_arrivals AS arrivals
    WHERE arrivals.analysis_date BETWEEN @first_date AND @last_date
  )
QUALIFY ROW_NUMBER() OVER (PARTITION BY analysis_date ORDER BY started_at, build_id) = 1
UNION ALL
SELECT
  analysis_date,
  'player_composite_factors' AS processor,
  build_id,
  started_at,
  composite_rows AS row_count
FROM nba_predictions.ml_feature_store_v2_quality_history
WHERE analysis_date BETWEEN @first_date AND @last_date
  AND mode = 'normal'
  AND as_of IS NULL
  AND composite_rows > 0
  AND analysis_date NOT IN (
    SELECT arrivals.analysis_date
    FROM nba_predictions.ml_feature_store_v2_arrivals AS arrivals
    WHERE arrivals.analysis_date BETWEEN @first_date AND @last_date
  )
QUALIFY ROW_NUMBER() OVER (PARTITION BY analysis_date ORDER BY started_at, build_id) = 1
UNION ALL
SELECT
  analysis_date,
  'player_daily_cache' AS processor,
  build_id,
  started_at,
  daily_cache_rows AS row_count
FROM nba_predictions.ml_feature_store_v2_quality_history
WHERE analysis_date BETWEEN @first_date AND @last_date
  AND mode = 'normal'
  AND as_of IS NULL
  AND daily_cache_rows > 0
  AND analysis_date NOT IN (
    SELECT arrivals.analysis_date
    FROM nba_predictions.ml_feature_store_v2_arrivals AS arrivals
    WHERE arrivals.analysis_date BETWEEN @first_date AND @last_date
  )
QUALIFY ROW_NUMBER() OVER (PARTITION BY analysis_date ORDER BY started_at, build_id) = 1
ORDER BY analysis_date, processor
