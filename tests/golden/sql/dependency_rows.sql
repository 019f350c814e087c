-- Purpose:     how many rows each Phase 4 table holds for the date: what the build relies on, and the deadline's probe;
--              for a build also how many keys, and which rows look wrong.
-- Parameters:  analysis_date DATE; as_of TIMESTAMP (rows processed later are not seen; without it the condition is left
--              out); old_before, ahead_after TIMESTAMP (rows processed before and after; a probe leaves both out, and
--              counts rows, rows with a key and rows with processed_at).
-- Reads:       nba_precompute.team_defense_zone_analysis, nba_precompute.player_shot_zone_analysis,
--              nba_precompute.player_composite_factors, nba_precompute.player_daily_cache.
-- Result:      (processor, row_count, key_count, doubled_keys, undated_rows, old_rows, ahead_rows), one row per
--              processor, 0 where there is nothing. doubled_keys counts the keys with several rows; undated_rows the
--              rows without processed_at.
-- Second run:  reads only.
SELECT
  'team_defense_zone_analysis' AS processor,
  COALESCE(SUM(key_rows), 0) AS row_count,
  COUNT(team_abbreviation) AS key_count,
  COUNT(IF(key_rows > 1, team_abbreviation, NULL)) AS doubled_keys,
  COALESCE(SUM(undated_rows), 0) AS undated_rows,
  COALESCE(SUM(old_rows), 0) AS old_rows,
  COALESCE(SUM(ahead_rows), 0) AS ahead_rows
FROM (
  SELECT
    team_abbreviation,
    COUNT(*) AS key_rows,
    COUNT(IF(processed_at IS NULL, 1, NULL)) AS undated_rows,
    COUNT(IF(processed_at < @old_before, 1, NULL)) AS old_rows,
    COUNT(IF(processed_at > @ahead_after, 1, NULL)) AS ahead_rows
  FROM nba_precompute.team_defense_zone_analysis
  WHERE analysis_date = @analysis_date AND processed_at <= @as_of
  GROUP BY team_abbreviation
) AS keyed
UNION ALL
SELECT
  'player_shot_zone_analysis' AS processor,
  COALESCE(SUM(key_rows), 0) AS row_count,
  COUNT(player_id) AS key_count,
  COUNT(IF(key_rows > 1, player_id, NULL)) AS doubled_keys,
  COALESCE(SUM(undated_rows), 0) AS undated_rows,
  COALESCE(SUM(old_rows), 0) AS old_rows,
  COALESCE(SUM(ahead_rows), 0) AS ahead_rows
FROM (
  SELECT
    player_id,
    COUNT(*) AS key_rows,
    COUNT(IF(processed_at IS NULL, 1, NULL)) AS undated_rows,
    COUNT(IF(processed_at < @old_before, 1, NULL)) AS old_rows,
    COUNT(IF(processed_at > @ahead_after, 1, NULL)) AS ahead_rows
  FROM nba_precompute.player_shot_zone_analysis
  WHERE analysis_date = @analysis_date AND processed_at <= @as_of
  GROUP BY player_id
) AS keyed
UNION ALL
SELECT
  'player_composite_factors' AS processor,
  COALESCE(SUM(key_rows), 0) AS row_count,
  COUNT(player_id) AS key_count,
  COUNT(IF(key_rows > 1, player_id, NULL)) AS doubled_keys,
  COALESCE(SUM(undated_rows), 0) AS undated_rows,
  COALESCE(SUM(old_rows), 0) AS old_rows,
  COALESCE(SUM(ahead_rows), 0) AS ahead_rows
FROM (
  SELECT
    player_id,
    COUNT(*) AS key_rows,
    COUNT(IF(processed_at IS NULL, 1, NULL)) AS undated_rows,
    COUNT(IF(processed_at < @old_before, 1, NULL)) AS old_rows,
    COUNT(IF(processed_at > @ahead_after, 1, NULL)) AS ahead_rows
  FROM nba_precompute.player_composite_factors
  WHERE analysis_date = @analysis_date AND processed_at <= @as_of
  GROUP BY player_id
) AS keyed
UNION ALL
SELECT
  'player_daily_cache' AS processor,
  COALESCE(SUM(key_rows), 0) AS row_count,
  COUNT(player_id) AS key_count,
  COUNT(IF(key_rows > 1, player_id, NULL)) AS doubled_keys,
  COALESCE(SUM(undated_rows), 0) AS undated_rows,
  COALESCE(SUM(old_rows), 0) AS old_rows,
  COALESCE(SUM(ahead_rows), 0) AS ahead_rows
FROM (
  SELECT
    player_id,
    COUNT(*) AS key_rows,
    COUNT(IF(processed_at IS NULL, 1, NULL)) AS undated_rows,
    COUNT(IF(processed_at < @old_before, 1, NULL)) AS old_rows,
    COUNT(IF(processed_at > @ahead_after, 1, NULL)) AS ahead_rows
  FROM nba_precompute.player_daily_cache
  WHERE analysis_date = @analysis_date AND processed_at <= @as_of
  GROUP BY player_id
) AS keyed
