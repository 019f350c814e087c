-- Purpose:     how many rows each Phase 4 table holds for the date: what the build relies on, and the deadline's probe;
--              for a build also how many keys, and which rows look wrong.
-- Parameters:  analysis_date DATE; as_of TIMESTAMP (rows processed later are not seen; without it the condition is left
--              out); old_before, ahead_after TIMESTAMP (rows processed before and after; a probe leaves both out, and
--              counts rows, rows with a key and rows with processed_at).
-- Reads:       nba_precompute.team_defense_zone_analysis, nba_precompute.player_shot_zone_analysis,
--              nba_precompute.player_composite_factors, nba_precompute.player_daily_cache.
-- Result:      (processor, row_count, undated_rows, old_rows, ahead_rows, not_finite, key_count, doubled_keys), one row
--              per processor, 0 where there is nothing. doubled_keys counts the keys with several rows; undated_rows
--              the rows without processed_at; not_finite holds the number of NaN and infinite values of each FLOAT64
--              feature, in the order of the catalogue.
-- Second run:  reads only.
SELECT
  'team_defense_zone_analysis' AS processor,
  counted.*,
  keyed.*
FROM (
  SELECT
    COUNT(*) AS row_count,
    COUNT(IF(processed_at IS NULL, 1, NULL)) AS undated_rows,
    COUNT(IF(processed_at < @old_before, 1, NULL)) AS old_rows,
    COUNT(IF(processed_at > @ahead_after, 1, NULL)) AS ahead_rows,
    [
      COUNT(IF(IS_NAN(opponent_def_rating) OR IS_INF(opponent_def_rating), 1, NULL)),
      COUNT(IF(IS_NAN(opponent_rim_protection_rating) OR IS_INF(opponent_rim_protection_rating), 1, NULL)),
      COUNT(IF(IS_NAN(opponent_perimeter_def_rating) OR IS_INF(opponent_perimeter_def_rating), 1, NULL))
    ] AS not_finite
  FROM nba_precompute.team_defense_zone_analysis
  WHERE analysis_date = @analysis_date AND processed_at <= @as_of
) AS counted
CROSS JOIN (
  SELECT
    COUNT(team_abbreviation) AS key_count,
    COUNT(IF(key_rows > 1, team_abbreviation, NULL)) AS doubled_keys
  FROM (
    SELECT team_abbreviation, COUNT(*) AS key_rows
    FROM nba_precompute.team_defense_zone_analysis
    WHERE analysis_date = @analysis_date AND processed_at <= @as_of
    GROUP BY team_abbreviation
  )
) AS keyed
UNION ALL
SELECT
  'player_shot_zone_analysis' AS processor,
  counted.*,
  keyed.*
FROM (
  SELECT
    COUNT(*) AS row_count,
    COUNT(IF(processed_at IS NULL, 1, NULL)) AS undated_rows,
    COUNT(IF(processed_at < @old_before, 1, NULL)) AS old_rows,
    COUNT(IF(processed_at > @ahead_after, 1, NULL)) AS ahead_rows,
    [
      COUNT(IF(IS_NAN(restricted_area_shot_pct) OR IS_INF(restricted_area_shot_pct), 1, NULL)),
      COUNT(IF(IS_NAN(paint_shot_pct) OR IS_INF(paint_shot_pct), 1, NULL)),
      COUNT(IF(IS_NAN(mid_range_shot_pct) OR IS_INF(mid_range_shot_pct), 1, NULL)),
      COUNT(IF(IS_NAN(three_point_attempt_rate) OR IS_INF(three_point_attempt_rate), 1, NULL))
    ] AS not_finite
  FROM nba_precompute.player_shot_zone_analysis
  WHERE analysis_date = @analysis_date AND processed_at <= @as_of
) AS counted
CROSS JOIN (
  SELECT
    COUNT(player_id) AS key_count,
    COUNT(IF(key_rows > 1, player_id, NULL)) AS doubled_keys
  FROM (
    SELECT player_id, COUNT(*) AS key_rows
    FROM nba_precompute.player_shot_zone_analysis
    WHERE analysis_date = @analysis_date AND processed_at <= @as_of
    GROUP BY player_id
  )
) AS keyed
UNION ALL
SELECT
  'player_composite_factors' AS processor,
  counted.*,
  keyed.*
FROM (
  SELECT
    COUNT(*) AS row_count,
    COUNT(IF(processed_at IS NULL, 1, NULL)) AS undated_rows,
    COUNT(IF(processed_at < @old_before, 1, NULL)) AS old_rows,
    COUNT(IF(processed_at > @ahead_after, 1, NULL)) AS ahead_rows,
    [
      COUNT(IF(IS_NAN(offensive_rating) OR IS_INF(offensive_rating), 1, NULL)),
      COUNT(IF(IS_NAN(usage_rate) OR IS_INF(usage_rate), 1, NULL)),
      COUNT(IF(IS_NAN(true_shooting_pct) OR IS_INF(true_shooting_pct), 1, NULL)),
      COUNT(IF(IS_NAN(points_per_36) OR IS_INF(points_per_36), 1, NULL)),
      COUNT(IF(IS_NAN(defensive_rating) OR IS_INF(defensive_rating), 1, NULL)),
      COUNT(IF(IS_NAN(defensive_win_shares) OR IS_INF(defensive_win_shares), 1, NULL)),
      COUNT(IF(IS_NAN(steal_rate) OR IS_INF(steal_rate), 1, NULL)),
      COUNT(IF(IS_NAN(block_rate) OR IS_INF(block_rate), 1, NULL)),
      COUNT(IF(IS_NAN(points_projection) OR IS_INF(points_projection), 1, NULL)),
      COUNT(IF(IS_NAN(rebounds_projection) OR IS_INF(rebounds_projection), 1, NULL)),
      COUNT(IF(IS_NAN(assists_projection) OR IS_INF(assists_projection), 1, NULL)),
      COUNT(IF(IS_NAN(pace) OR IS_INF(pace), 1, NULL))
    ] AS not_finite
  FROM nba_precompute.player_composite_factors
  WHERE analysis_date = @analysis_date AND processed_at <= @as_of
) AS counted
CROSS JOIN (
  SELECT
    COUNT(player_id) AS key_count,
    COUNT(IF(key_rows > 1, player_id, NULL)) AS doubled_keys
  FROM (
    SELECT player_id, COUNT(*) AS key_rows
    FROM nba_precompute.player_composite_factors
    WHERE analysis_date = @analysis_date AND processed_at <= @as_of
    GROUP BY player_id
  )
) AS keyed
UNION ALL
SELECT
  'player_daily_cache' AS processor,
  counted.*,
  keyed.*
FROM (
  SELECT
    COUNT(*) AS row_count,
    COUNT(IF(processed_at IS NULL, 1, NULL)) AS undated_rows,
    COUNT(IF(processed_at < @old_before, 1, NULL)) AS old_rows,
    COUNT(IF(processed_at > @ahead_after, 1, NULL)) AS ahead_rows,
    [
      COUNT(IF(IS_NAN(last_5_games_ppg) OR IS_INF(last_5_games_ppg), 1, NULL)),
      COUNT(IF(IS_NAN(last_10_games_ppg) OR IS_INF(last_10_games_ppg), 1, NULL)),
      COUNT(IF(IS_NAN(season_avg_ppg) OR IS_INF(season_avg_ppg), 1, NULL))
    ] AS not_finite
  FROM nba_precompute.player_daily_cache
  WHERE analysis_date = @analysis_date AND processed_at <= @as_of
) AS counted
CROSS JOIN (
  SELECT
    COUNT(player_id) AS key_count,
    COUNT(IF(key_rows > 1, player_id, NULL)) AS doubled_keys
  FROM (
    SELECT player_id, COUNT(*) AS key_rows
    FROM nba_precompute.player_daily_cache
    WHERE analysis_date = @analysis_date AND processed_at <= @as_of
    GROUP BY player_id
  )
) AS keyed
