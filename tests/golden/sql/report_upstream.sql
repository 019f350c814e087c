-- Purpose:     what upstream holds now for a date: the Phase 4 tables, what a fallback would read, the active players,
--              the games.
-- Parameters:  analysis_date DATE; lookback_start DATE, previous_date DATE (first and last date of a fallback's rows).
-- Reads:       nba_precompute.team_defense_zone_analysis, nba_precompute.player_shot_zone_analysis,
--              nba_precompute.player_composite_factors, nba_precompute.player_daily_cache,
--              nba_analytics.player_game_summary, nba_analytics.team_offense_game_summary,
--              nba_analytics.team_defense_game_summary, nba_raw.nbac_player_list, nba_raw.nbac_schedule.
-- Result:      (source, row_count, last_processed), one row per table: the processor of a Phase 4 table, else the table
--              without its dataset; 0 and NULL where there is nothing.
-- Second run:  reads only.
SELECT 'team_defense_zone_analysis' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM nba_precompute.team_defense_zone_analysis
WHERE analysis_date = @analysis_date
UNION ALL
SELECT 'player_shot_zone_analysis' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM nba_precompute.player_shot_zone_analysis
WHERE analysis_date = @analysis_date
UNION ALL
SELECT 'player_composite_factors' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM nba_precompute.player_composite_factors
WHERE analysis_date = @analysis_date
UNION ALL
SELECT 'player_daily_cache' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM nba_precompute.player_daily_cache
WHERE analysis_date = @analysis_date
UNION ALL
SELECT 'player_game_summary' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM nba_analytics.player_game_summary
WHERE game_date BETWEEN @lookback_start AND @previous_date
UNION ALL
SELECT 'team_offense_game_summary' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM nba_analytics.team_offense_game_summary
WHERE game_date BETWEEN @lookback_start AND @previous_date
UNION ALL
SELECT 'team_defense_game_summary' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM nba_analytics.team_defense_game_summary
WHERE game_date BETWEEN @lookback_start AND @previous_date
UNION ALL
SELECT 'nbac_schedule' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM nba_raw.nbac_schedule
WHERE game_date = @analysis_date
UNION ALL
SELECT 'nbac_player_list' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM nba_raw.nbac_player_list
WHERE snapshot_date = @analysis_date
