-- Purpose:     what changed for a date from one generation to another: rows, and cells by column and source.
-- Parameters:  analysis_date DATE; before_build, after_build STRING; largest_max INT64 (lines of each group).
-- Reads:       nba_predictions.ml_feature_store_v2_generations.
-- Result:      lines in groups: what is added, removed (a row, feature is empty) or cell. A group is a feature and a
--              pair of sources, with the lines of the largest changes and the counts of the whole group: cells counts
--              differing values or sources, changed counts differing values. typical is the mean size of the feature's
--              differing cells. Numbers only; an array is not compared.
-- Second run:  reads only.
WITH
before_rows AS (
  SELECT
    analysis_date,
    player_id,
    player_name,
    team_abbreviation,
    opponent_abbreviation,
    has_game,
    IF(IS_NAN(offensive_rating) OR IS_INF(offensive_rating), NULL, offensive_rating) AS offensive_rating,
    IF(IS_NAN(usage_rate) OR IS_INF(usage_rate), NULL, usage_rate) AS usage_rate,
    IF(IS_NAN(true_shooting_pct) OR IS_INF(true_shooting_pct), NULL, true_shooting_pct) AS true_shooting_pct,
    IF(IS_NAN(points_per_36) OR IS_INF(points_per_36), NULL, points_per_36) AS points_per_36,
    IF(IS_NAN(defensive_rating) OR IS_INF(defensive_rating), NULL, defensive_rating) AS defensive_rating,
    IF(IS_NAN(defensive_win_shares) OR IS_INF(defensive_win_shares), NULL, defensive_win_shares)
      AS defensive_win_shares,
    IF(IS_NAN(steal_rate) OR IS_INF(steal_rate), NULL, steal_rate) AS steal_rate,
    IF(IS_NAN(block_rate) OR IS_INF(block_rate), NULL, block_rate) AS block_rate,
    IF(IS_NAN(points_projection) OR IS_INF(points_projection), NULL, points_projection) AS points_projection,
    IF(IS_NAN(rebounds_projection) OR IS_INF(rebounds_projection), NULL, rebounds_projection) AS rebounds_projection,
    IF(IS_NAN(assists_projection) OR IS_INF(assists_projection), NULL, assists_projection) AS assists_projection,
    IF(IS_NAN(pace) OR IS_INF(pace), NULL, pace) AS pace,
    IF(IS_NAN(restricted_area_shot_pct) OR IS_INF(restricted_area_shot_pct), NULL, restricted_area_shot_pct)
      AS restricted_area_shot_pct,
    IF(IS_NAN(paint_shot_pct) OR IS_INF(paint_shot_pct), NULL, paint_shot_pct) AS paint_shot_pct,
    IF(IS_NAN(mid_range_shot_pct) OR IS_INF(mid_range_shot_pct), NULL, mid_range_shot_pct) AS mid_range_shot_pct,
    IF(IS_NAN(three_point_attempt_rate) OR IS_INF(three_point_attempt_rate), NULL, three_point_attempt_rate)
      AS three_point_attempt_rate,
    IF(IS_NAN(opponent_def_rating) OR IS_INF(opponent_def_rating), NULL, opponent_def_rating) AS opponent_def_rating,
    IF(IS_NAN(opponent_rim_protection_rating) OR IS_INF(opponent_rim_protection_rating), NULL,
      opponent_rim_protection_rating) AS opponent_rim_protection_rating,
    IF(IS_NAN(opponent_perimeter_def_rating) OR IS_INF(opponent_perimeter_def_rating), NULL,
      opponent_perimeter_def_rating) AS opponent_perimeter_def_rating,
    IF(IS_NAN(last_5_games_ppg) OR IS_INF(last_5_games_ppg), NULL, last_5_games_ppg) AS last_5_games_ppg,
    IF(IS_NAN(last_10_games_ppg) OR IS_INF(last_10_games_ppg), NULL, last_10_games_ppg) AS last_10_games_ppg,
    IF(IS_NAN(season_avg_ppg) OR IS_INF(season_avg_ppg), NULL, season_avg_ppg) AS season_avg_ppg,
    quality_score,
    data_source,
    phase4_available,
    phase3_fallback_used,
    team_defense_source,
    player_shot_source,
    composite_source,
    daily_cache_source,
    phase3_features,
    missing_features,
    source_data_date,
    build_generation,
    build_id,
    processed_at
  FROM nba_predictions.ml_feature_store_v2_generations
  WHERE analysis_date = @analysis_date AND build_id = @before_build AND left_out_reason IS NULL
),
after_rows AS (
  SELECT
    analysis_date,
    player_id,
    player_name,
    team_abbreviation,
    opponent_abbreviation,
    has_game,
    IF(IS_NAN(offensive_rating) OR IS_INF(offensive_rating), NULL, offensive_rating) AS offensive_rating,
    IF(IS_NAN(usage_rate) OR IS_INF(usage_rate), NULL, usage_rate) AS usage_rate,
    IF(IS_NAN(true_shooting_pct) OR IS_INF(true_shooting_pct), NULL, true_shooting_pct) AS true_shooting_pct,
    IF(IS_NAN(points_per_36) OR IS_INF(points_per_36), NULL, points_per_36) AS points_per_36,
    IF(IS_NAN(defensive_rating) OR IS_INF(defensive_rating), NULL, defensive_rating) AS defensive_rating,
    IF(IS_NAN(defensive_win_shares) OR IS_INF(defensive_win_shares), NULL, defensive_win_shares)
      AS defensive_win_shares,
    IF(IS_NAN(steal_rate) OR IS_INF(steal_rate), NULL, steal_rate) AS steal_rate,
    IF(IS_NAN(block_rate) OR IS_INF(block_rate), NULL, block_rate) AS block_rate,
    IF(IS_NAN(points_projection) OR IS_INF(points_projection), NULL, points_projection) AS points_projection,
    IF(IS_NAN(rebounds_projection) OR IS_INF(rebounds_projection), NULL, rebounds_projection) AS rebounds_projection,
    IF(IS_NAN(assists_projection) OR IS_INF(assists_projection), NULL, assists_projection) AS assists_projection,
    IF(IS_NAN(pace) OR IS_INF(pace), NULL, pace) AS pace,
    IF(IS_NAN(restricted_area_shot_pct) OR IS_INF(restricted_area_shot_pct), NULL, restricted_area_shot_pct)
      AS restricted_area_shot_pct,
    IF(IS_NAN(paint_shot_pct) OR IS_INF(paint_shot_pct), NULL, paint_shot_pct) AS paint_shot_pct,
    IF(IS_NAN(mid_range_shot_pct) OR IS_INF(mid_range_shot_pct), NULL, mid_range_shot_pct) AS mid_range_shot_pct,
    IF(IS_NAN(three_point_attempt_rate) OR IS_INF(three_point_attempt_rate), NULL, three_point_attempt_rate)
      AS three_point_attempt_rate,
    IF(IS_NAN(opponent_def_rating) OR IS_INF(opponent_def_rating), NULL, opponent_def_rating) AS opponent_def_rating,
    IF(IS_NAN(opponent_rim_protection_rating) OR IS_INF(opponent_rim_protection_rating), NULL,
      opponent_rim_protection_rating) AS opponent_rim_protection_rating,
    IF(IS_NAN(opponent_perimeter_def_rating) OR IS_INF(opponent_perimeter_def_rating), NULL,
      opponent_perimeter_def_rating) AS opponent_perimeter_def_rating,
    IF(IS_NAN(last_5_games_ppg) OR IS_INF(last_5_games_ppg), NULL, last_5_games_ppg) AS last_5_games_ppg,
    IF(IS_NAN(last_10_games_ppg) OR IS_INF(last_10_games_ppg), NULL, last_10_games_ppg) AS last_10_games_ppg,
    IF(IS_NAN(season_avg_ppg) OR IS_INF(season_avg_ppg), NULL, season_avg_ppg) AS season_avg_ppg,
    quality_score,
    data_source,
    phase4_available,
    phase3_fallback_used,
    team_defense_source,
    player_shot_source,
    composite_source,
    daily_cache_source,
    phase3_features,
    missing_features,
    source_data_date,
    build_generation,
    build_id,
    processed_at
  FROM nba_predictions.ml_feature_store_v2_generations
  WHERE analysis_date = @analysis_date AND build_id = @after_build AND left_out_reason IS NULL
),
compared AS (
  SELECT
    'offensive_rating' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.offensive_rating AS FLOAT64) AS before_value,
    CAST(after_rows.offensive_rating AS FLOAT64) AS after_value,
    IF(
      before_rows.offensive_rating = after_rows.offensive_rating
      OR (before_rows.offensive_rating IS NULL AND after_rows.offensive_rating IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.offensive_rating IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'offensive_rating' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.offensive_rating IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'offensive_rating' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'usage_rate' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.usage_rate AS FLOAT64) AS before_value,
    CAST(after_rows.usage_rate AS FLOAT64) AS after_value,
    IF(
      before_rows.usage_rate = after_rows.usage_rate
      OR (before_rows.usage_rate IS NULL AND after_rows.usage_rate IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.usage_rate IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'usage_rate' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.usage_rate IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'usage_rate' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'true_shooting_pct' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.true_shooting_pct AS FLOAT64) AS before_value,
    CAST(after_rows.true_shooting_pct AS FLOAT64) AS after_value,
    IF(
      before_rows.true_shooting_pct = after_rows.true_shooting_pct
      OR (before_rows.true_shooting_pct IS NULL AND after_rows.true_shooting_pct IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.true_shooting_pct IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'true_shooting_pct' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.true_shooting_pct IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'true_shooting_pct' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'points_per_36' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.points_per_36 AS FLOAT64) AS before_value,
    CAST(after_rows.points_per_36 AS FLOAT64) AS after_value,
    IF(
      before_rows.points_per_36 = after_rows.points_per_36
      OR (before_rows.points_per_36 IS NULL AND after_rows.points_per_36 IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.points_per_36 IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'points_per_36' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.points_per_36 IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'points_per_36' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'defensive_rating' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.defensive_rating AS FLOAT64) AS before_value,
    CAST(after_rows.defensive_rating AS FLOAT64) AS after_value,
    IF(
      before_rows.defensive_rating = after_rows.defensive_rating
      OR (before_rows.defensive_rating IS NULL AND after_rows.defensive_rating IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.defensive_rating IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'defensive_rating' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.defensive_rating IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'defensive_rating' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'defensive_win_shares' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.defensive_win_shares AS FLOAT64) AS before_value,
    CAST(after_rows.defensive_win_shares AS FLOAT64) AS after_value,
    IF(
      before_rows.defensive_win_shares = after_rows.defensive_win_shares
      OR (before_rows.defensive_win_shares IS NULL AND after_rows.defensive_win_shares IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.defensive_win_shares IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'defensive_win_shares' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.defensive_win_shares IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'defensive_win_shares' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'steal_rate' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.steal_rate AS FLOAT64) AS before_value,
    CAST(after_rows.steal_rate AS FLOAT64) AS after_value,
    IF(
      before_rows.steal_rate = after_rows.steal_rate
      OR (before_rows.steal_rate IS NULL AND after_rows.steal_rate IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.steal_rate IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'steal_rate' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.steal_rate IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'steal_rate' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'block_rate' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.block_rate AS FLOAT64) AS before_value,
    CAST(after_rows.block_rate AS FLOAT64) AS after_value,
    IF(
      before_rows.block_rate = after_rows.block_rate
      OR (before_rows.block_rate IS NULL AND after_rows.block_rate IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.block_rate IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'block_rate' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.block_rate IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'block_rate' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'points_projection' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.points_projection AS FLOAT64) AS before_value,
    CAST(after_rows.points_projection AS FLOAT64) AS after_value,
    IF(
      before_rows.points_projection = after_rows.points_projection
      OR (before_rows.points_projection IS NULL AND after_rows.points_projection IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.points_projection IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'points_projection' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.points_projection IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'points_projection' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'rebounds_projection' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.rebounds_projection AS FLOAT64) AS before_value,
    CAST(after_rows.rebounds_projection AS FLOAT64) AS after_value,
    IF(
      before_rows.rebounds_projection = after_rows.rebounds_projection
      OR (before_rows.rebounds_projection IS NULL AND after_rows.rebounds_projection IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.rebounds_projection IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'rebounds_projection' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.rebounds_projection IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'rebounds_projection' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'assists_projection' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.assists_projection AS FLOAT64) AS before_value,
    CAST(after_rows.assists_projection AS FLOAT64) AS after_value,
    IF(
      before_rows.assists_projection = after_rows.assists_projection
      OR (before_rows.assists_projection IS NULL AND after_rows.assists_projection IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.assists_projection IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'assists_projection' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.assists_projection IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'assists_projection' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'pace' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.pace AS FLOAT64) AS before_value,
    CAST(after_rows.pace AS FLOAT64) AS after_value,
    IF(
      before_rows.pace = after_rows.pace
      OR (before_rows.pace IS NULL AND after_rows.pace IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.composite_source IS NULL THEN 'none'
      WHEN before_rows.pace IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'pace' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.composite_source IS NULL THEN 'none'
      WHEN after_rows.pace IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'pace' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'restricted_area_shot_pct' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.restricted_area_shot_pct AS FLOAT64) AS before_value,
    CAST(after_rows.restricted_area_shot_pct AS FLOAT64) AS after_value,
    IF(
      before_rows.restricted_area_shot_pct = after_rows.restricted_area_shot_pct
      OR (before_rows.restricted_area_shot_pct IS NULL AND after_rows.restricted_area_shot_pct IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.player_shot_source IS NULL THEN 'none'
      WHEN before_rows.restricted_area_shot_pct IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'restricted_area_shot_pct' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.player_shot_source IS NULL THEN 'none'
      WHEN after_rows.restricted_area_shot_pct IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'restricted_area_shot_pct' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'paint_shot_pct' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.paint_shot_pct AS FLOAT64) AS before_value,
    CAST(after_rows.paint_shot_pct AS FLOAT64) AS after_value,
    IF(
      before_rows.paint_shot_pct = after_rows.paint_shot_pct
      OR (before_rows.paint_shot_pct IS NULL AND after_rows.paint_shot_pct IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.player_shot_source IS NULL THEN 'none'
      WHEN before_rows.paint_shot_pct IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'paint_shot_pct' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.player_shot_source IS NULL THEN 'none'
      WHEN after_rows.paint_shot_pct IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'paint_shot_pct' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'mid_range_shot_pct' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.mid_range_shot_pct AS FLOAT64) AS before_value,
    CAST(after_rows.mid_range_shot_pct AS FLOAT64) AS after_value,
    IF(
      before_rows.mid_range_shot_pct = after_rows.mid_range_shot_pct
      OR (before_rows.mid_range_shot_pct IS NULL AND after_rows.mid_range_shot_pct IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.player_shot_source IS NULL THEN 'none'
      WHEN before_rows.mid_range_shot_pct IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'mid_range_shot_pct' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.player_shot_source IS NULL THEN 'none'
      WHEN after_rows.mid_range_shot_pct IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'mid_range_shot_pct' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'three_point_attempt_rate' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.three_point_attempt_rate AS FLOAT64) AS before_value,
    CAST(after_rows.three_point_attempt_rate AS FLOAT64) AS after_value,
    IF(
      before_rows.three_point_attempt_rate = after_rows.three_point_attempt_rate
      OR (before_rows.three_point_attempt_rate IS NULL AND after_rows.three_point_attempt_rate IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.player_shot_source IS NULL THEN 'none'
      WHEN before_rows.three_point_attempt_rate IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'three_point_attempt_rate' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.player_shot_source IS NULL THEN 'none'
      WHEN after_rows.three_point_attempt_rate IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'three_point_attempt_rate' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'opponent_def_rating' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.opponent_def_rating AS FLOAT64) AS before_value,
    CAST(after_rows.opponent_def_rating AS FLOAT64) AS after_value,
    IF(
      before_rows.opponent_def_rating = after_rows.opponent_def_rating
      OR (before_rows.opponent_def_rating IS NULL AND after_rows.opponent_def_rating IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.team_defense_source IS NULL THEN 'none'
      WHEN before_rows.opponent_def_rating IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'opponent_def_rating' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.team_defense_source IS NULL THEN 'none'
      WHEN after_rows.opponent_def_rating IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'opponent_def_rating' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'opponent_rim_protection_rating' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.opponent_rim_protection_rating AS FLOAT64) AS before_value,
    CAST(after_rows.opponent_rim_protection_rating AS FLOAT64) AS after_value,
    IF(
      before_rows.opponent_rim_protection_rating = after_rows.opponent_rim_protection_rating
      OR (before_rows.opponent_rim_protection_rating IS NULL AND after_rows.opponent_rim_protection_rating IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.team_defense_source IS NULL THEN 'none'
      WHEN before_rows.opponent_rim_protection_rating IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'opponent_rim_protection_rating' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.team_defense_source IS NULL THEN 'none'
      WHEN after_rows.opponent_rim_protection_rating IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'opponent_rim_protection_rating' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'opponent_perimeter_def_rating' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.opponent_perimeter_def_rating AS FLOAT64) AS before_value,
    CAST(after_rows.opponent_perimeter_def_rating AS FLOAT64) AS after_value,
    IF(
      before_rows.opponent_perimeter_def_rating = after_rows.opponent_perimeter_def_rating
      OR (before_rows.opponent_perimeter_def_rating IS NULL AND after_rows.opponent_perimeter_def_rating IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.team_defense_source IS NULL THEN 'none'
      WHEN before_rows.opponent_perimeter_def_rating IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'opponent_perimeter_def_rating' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.team_defense_source IS NULL THEN 'none'
      WHEN after_rows.opponent_perimeter_def_rating IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'opponent_perimeter_def_rating' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'last_5_games_ppg' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.last_5_games_ppg AS FLOAT64) AS before_value,
    CAST(after_rows.last_5_games_ppg AS FLOAT64) AS after_value,
    IF(
      before_rows.last_5_games_ppg = after_rows.last_5_games_ppg
      OR (before_rows.last_5_games_ppg IS NULL AND after_rows.last_5_games_ppg IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.daily_cache_source IS NULL THEN 'none'
      WHEN before_rows.last_5_games_ppg IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'last_5_games_ppg' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.daily_cache_source IS NULL THEN 'none'
      WHEN after_rows.last_5_games_ppg IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'last_5_games_ppg' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'last_10_games_ppg' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.last_10_games_ppg AS FLOAT64) AS before_value,
    CAST(after_rows.last_10_games_ppg AS FLOAT64) AS after_value,
    IF(
      before_rows.last_10_games_ppg = after_rows.last_10_games_ppg
      OR (before_rows.last_10_games_ppg IS NULL AND after_rows.last_10_games_ppg IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.daily_cache_source IS NULL THEN 'none'
      WHEN before_rows.last_10_games_ppg IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'last_10_games_ppg' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.daily_cache_source IS NULL THEN 'none'
      WHEN after_rows.last_10_games_ppg IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'last_10_games_ppg' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
  UNION ALL
  SELECT
    'season_avg_ppg' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(before_rows.season_avg_ppg AS FLOAT64) AS before_value,
    CAST(after_rows.season_avg_ppg AS FLOAT64) AS after_value,
    IF(
      before_rows.season_avg_ppg = after_rows.season_avg_ppg
      OR (before_rows.season_avg_ppg IS NULL AND after_rows.season_avg_ppg IS NULL),
      FALSE,
      TRUE
    ) AS differs,
    CASE
      WHEN before_rows.daily_cache_source IS NULL THEN 'none'
      WHEN before_rows.season_avg_ppg IS NULL THEN 'missing'
      WHEN before_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'season_avg_ppg' IN UNNEST(before_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS before_source,
    CASE
      WHEN after_rows.daily_cache_source IS NULL THEN 'none'
      WHEN after_rows.season_avg_ppg IS NULL THEN 'missing'
      WHEN after_rows.data_source = 'yesterday' THEN 'yesterday'
      WHEN 'season_avg_ppg' IN UNNEST(after_rows.phase3_features) THEN 'phase3'
      ELSE 'phase4'
    END AS after_source,
    before_rows.quality_score AS before_score,
    after_rows.quality_score AS after_score
  FROM before_rows
  JOIN after_rows ON after_rows.player_id = before_rows.player_id
),
differing AS (
  SELECT
    'cell' AS what,
    compared.*,
    CASE
      WHEN before_value <= after_value THEN after_value - before_value
      WHEN before_value > after_value THEN before_value - after_value
      ELSE CAST(0 AS FLOAT64)
    END AS size
  FROM compared
  WHERE differs OR before_source <> after_source
  UNION ALL
  SELECT
    'removed' AS what,
    '' AS feature,
    before_rows.player_id,
    before_rows.player_name,
    CAST(NULL AS FLOAT64) AS before_value,
    CAST(NULL AS FLOAT64) AS after_value,
    TRUE AS differs,
    '' AS before_source,
    '' AS after_source,
    before_rows.quality_score AS before_score,
    CAST(NULL AS FLOAT64) AS after_score,
    CAST(0 AS FLOAT64) AS size
  FROM before_rows
  LEFT JOIN after_rows ON after_rows.player_id = before_rows.player_id
  WHERE after_rows.player_id IS NULL
  UNION ALL
  SELECT
    'added' AS what,
    '' AS feature,
    after_rows.player_id,
    after_rows.player_name,
    CAST(NULL AS FLOAT64) AS before_value,
    CAST(NULL AS FLOAT64) AS after_value,
    TRUE AS differs,
    '' AS before_source,
    '' AS after_source,
    CAST(NULL AS FLOAT64) AS before_score,
    after_rows.quality_score AS after_score,
    CAST(0 AS FLOAT64) AS size
  FROM after_rows
  LEFT JOIN before_rows ON before_rows.player_id = after_rows.player_id
  WHERE before_rows.player_id IS NULL
),
ranked AS (
  SELECT
    differing.*,
    COUNT(*) OVER (PARTITION BY what, feature, before_source, after_source) AS cells,
    COUNT(IF(differs, 1, NULL)) OVER (PARTITION BY what, feature, before_source, after_source) AS changed,
    SAFE_DIVIDE(
      SUM(IF(after_value < 0, 0 - after_value, after_value)) OVER (PARTITION BY what, feature),
      COUNT(after_value) OVER (PARTITION BY what, feature)
    ) AS typical,
    ROW_NUMBER() OVER (
      PARTITION BY what, feature, before_source, after_source
      ORDER BY IF(differs, 1, 0) DESC, size DESC, player_id
    ) AS place
  FROM differing
)
SELECT
  what,
  feature,
  before_source,
  after_source,
  cells,
  changed,
  typical,
  place,
  player_id,
  player_name,
  differs,
  before_value,
  after_value,
  size,
  before_score,
  after_score
FROM ranked
WHERE place <= @largest_max
ORDER BY what, feature, before_source, after_source, place
