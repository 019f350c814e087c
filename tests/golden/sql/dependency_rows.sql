-- Purpose:     how many rows each Phase 4 table holds for the date: what the build relies on, and the deadline's probe.
-- Parameters:  analysis_date DATE; as_of TIMESTAMP (rows processed later are not seen; without it the condition is left
--              out).
-- Reads:       nba_precompute.team_defense_zone_analysis, nba_precompute.player_shot_zone_analysis,
--              nba_precompute.player_composite_factors, nba_precompute.player_daily_cache.
-- Result:      (processor, row_count), one row per processor, 0 where there is nothing.
-- Second run:  reads only.
SELECT 'team_defense_zone_analysis' AS processor, COUNT(*) AS row_count
FROM nba_precompute.team_defense_zone_analysis
WHERE analysis_date = @analysis_date AND processed_at <= @as_of
UNION ALL
SELECT 'player_shot_zone_analysis' AS processor, COUNT(*) AS row_count
FROM nba_precompute.player_shot_zone_analysis
WHERE analysis_date = @analysis_date AND processed_at <= @as_of
UNION ALL
SELECT 'player_composite_factors' AS processor, COUNT(*) AS row_count
FROM nba_precompute.player_composite_factors
WHERE analysis_date = @analysis_date AND processed_at <= @as_of
UNION ALL
SELECT 'player_daily_cache' AS processor, COUNT(*) AS row_count
FROM nba_precompute.player_daily_cache
WHERE analysis_date = @analysis_date AND processed_at <= @as_of
