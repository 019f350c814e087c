-- Purpose:     what each published night of a span was worth, and what its tables held at the build.
-- Parameters:  first_date DATE; last_date DATE (included).
-- Reads:       nba_predictions.ml_feature_store_v2_quality_metrics,
--              nba_predictions.ml_feature_store_v2_dependency_tracking.
-- Result:      one row per published date, oldest first; points 0 to 100, rates 0 to 1.
-- Second run:  reads only.
SELECT
  quality.analysis_date,
  quality.state,
  quality.generation,
  quality.row_count,
  quality.quality_score,
  quality.fallback_rate,
  quality.missing_rate,
  quality.severity,
  quality.findings,
  dependency.team_defense_rows,
  dependency.player_shot_rows,
  dependency.composite_rows,
  dependency.daily_cache_rows
FROM nba_predictions.ml_feature_store_v2_quality_metrics AS quality
LEFT JOIN nba_predictions.ml_feature_store_v2_dependency_tracking AS dependency
  ON quality.analysis_date = dependency.analysis_date
  AND quality.build_id = dependency.build_id
  AND dependency.analysis_date BETWEEN @first_date AND @last_date
WHERE quality.analysis_date BETWEEN @first_date AND @last_date
ORDER BY analysis_date
