-- Purpose:     the last resort: the rows of the latest night that was built from Phase 4 and 3, as rows of the date.
-- Parameters:  analysis_date DATE; earliest_date, previous_date DATE (the nights that may be copied, both ends
--              included); build_generation INT64; build_id STRING; built_at TIMESTAMP.
-- Reads:       nba_predictions.ml_feature_store_v2.
-- Result:      one row per row copied, in the shape of the statement features: identity, values and source_data_date
--              are the copied row's, NaN and infinity are NULL, every mark of origin says yesterday. No cell counts as
--              Phase 4.
-- Second run:  reads only; the same parameters over the same tables give the same rows.
--
-- Rows that were themselves copied are passed over, so a copy is never copied again and never older than the window.
WITH night AS (
  SELECT MAX(analysis_date) AS copied_date
  FROM nba_predictions.ml_feature_store_v2
  WHERE analysis_date BETWEEN @earliest_date AND @previous_date AND data_source <> 'yesterday'
),
copied AS (
  SELECT
    published.player_id,
    published.player_name,
    published.team_abbreviation,
    published.opponent_abbreviation,
    published.has_game,
    IF(IS_NAN(published.offensive_rating) OR IS_INF(published.offensive_rating), NULL, published.offensive_rating)
      AS offensive_rating,
    IF(IS_NAN(published.usage_rate) OR IS_INF(published.usage_rate), NULL, published.usage_rate) AS usage_rate,
    IF(IS_NAN(published.true_shooting_pct) OR IS_INF(published.true_shooting_pct), NULL, published.true_shooting_pct)
      AS true_shooting_pct,
    IF(IS_NAN(published.points_per_36) OR IS_INF(published.points_per_36), NULL, published.points_per_36)
      AS points_per_36,
    IF(IS_NAN(published.defensive_rating) OR IS_INF(published.defensive_rating), NULL, published.defensive_rating)
      AS defensive_rating,
    IF(IS_NAN(published.defensive_win_shares) OR IS_INF(published.defensive_win_shares), NULL,
      published.defensive_win_shares) AS defensive_win_shares,
    IF(IS_NAN(published.steal_rate) OR IS_INF(published.steal_rate), NULL, published.steal_rate) AS steal_rate,
    IF(IS_NAN(published.block_rate) OR IS_INF(published.block_rate), NULL, published.block_rate) AS block_rate,
    IF(IS_NAN(published.points_projection) OR IS_INF(published.points_projection), NULL, published.points_projection)
      AS points_projection,
    IF(IS_NAN(published.rebounds_projection) OR IS_INF(published.rebounds_projection), NULL,
      published.rebounds_projection) AS rebounds_projection,
    IF(IS_NAN(published.assists_projection) OR IS_INF(published.assists_projection), NULL,
      published.assists_projection) AS assists_projection,
    IF(IS_NAN(published.pace) OR IS_INF(published.pace), NULL, published.pace) AS pace,
    IF(IS_NAN(published.restricted_area_shot_pct) OR IS_INF(published.restricted_area_shot_pct), NULL,
      published.restricted_area_shot_pct) AS restricted_area_shot_pct,
    IF(IS_NAN(published.paint_shot_pct) OR IS_INF(published.paint_shot_pct), NULL, published.paint_shot_pct)
      AS paint_shot_pct,
    IF(IS_NAN(published.mid_range_shot_pct) OR IS_INF(published.mid_range_shot_pct), NULL,
      published.mid_range_shot_pct) AS mid_range_shot_pct,
    IF(IS_NAN(published.three_point_attempt_rate) OR IS_INF(published.three_point_attempt_rate), NULL,
      published.three_point_attempt_rate) AS three_point_attempt_rate,
    IF(IS_NAN(published.opponent_def_rating) OR IS_INF(published.opponent_def_rating), NULL,
      published.opponent_def_rating) AS opponent_def_rating,
    IF(IS_NAN(published.opponent_rim_protection_rating) OR IS_INF(published.opponent_rim_protection_rating), NULL,
      published.opponent_rim_protection_rating) AS opponent_rim_protection_rating,
    IF(IS_NAN(published.opponent_perimeter_def_rating) OR IS_INF(published.opponent_perimeter_def_rating), NULL,
      published.opponent_perimeter_def_rating) AS opponent_perimeter_def_rating,
    IF(IS_NAN(published.last_5_games_ppg) OR IS_INF(published.last_5_games_ppg), NULL, published.last_5_games_ppg)
      AS last_5_games_ppg,
    IF(IS_NAN(published.last_10_games_ppg) OR IS_INF(published.last_10_games_ppg), NULL, published.last_10_games_ppg)
      AS last_10_games_ppg,
    IF(IS_NAN(published.season_avg_ppg) OR IS_INF(published.season_avg_ppg), NULL, published.season_avg_ppg)
      AS season_avg_ppg,
    published.phase3_features,
    published.source_data_date
  FROM nba_predictions.ml_feature_store_v2 AS published
  JOIN night ON night.copied_date = published.analysis_date
  WHERE published.analysis_date BETWEEN @earliest_date AND @previous_date
),
counted AS (
  SELECT
    copied.*,
    (
      IF(opponent_def_rating IS NULL, 0, 1) + IF(opponent_rim_protection_rating IS NULL, 0, 1)
      + IF(opponent_perimeter_def_rating IS NULL, 0, 1)
    ) AS team_defense_cells,
    (
      IF(restricted_area_shot_pct IS NULL, 0, 1) + IF(paint_shot_pct IS NULL, 0, 1)
      + IF(mid_range_shot_pct IS NULL, 0, 1) + IF(three_point_attempt_rate IS NULL, 0, 1)
    ) AS player_shot_cells,
    (
      IF(offensive_rating IS NULL, 0, 1) + IF(usage_rate IS NULL, 0, 1) + IF(true_shooting_pct IS NULL, 0, 1)
      + IF(points_per_36 IS NULL, 0, 1) + IF(defensive_rating IS NULL, 0, 1) + IF(defensive_win_shares IS NULL, 0, 1)
      + IF(steal_rate IS NULL, 0, 1) + IF(block_rate IS NULL, 0, 1) + IF(points_projection IS NULL, 0, 1)
      + IF(rebounds_projection IS NULL, 0, 1) + IF(assists_projection IS NULL, 0, 1) + IF(pace IS NULL, 0, 1)
    ) AS composite_cells,
    (
      IF(last_5_games_ppg IS NULL, 0, 1) + IF(last_10_games_ppg IS NULL, 0, 1) + IF(season_avg_ppg IS NULL, 0, 1)
    ) AS daily_cache_cells
  FROM copied
),
summed AS (
  SELECT
    counted.*,
    (
      team_defense_cells + player_shot_cells + composite_cells + daily_cache_cells
    ) AS present_cells,
    IF(has_game, 22, 19) AS cells_wanted
  FROM counted
)
SELECT
  @analysis_date AS analysis_date,
  player_id,
  player_name,
  team_abbreviation,
  opponent_abbreviation,
  has_game,
  offensive_rating,
  usage_rate,
  true_shooting_pct,
  points_per_36,
  defensive_rating,
  defensive_win_shares,
  steal_rate,
  block_rate,
  points_projection,
  rebounds_projection,
  assists_projection,
  pace,
  restricted_area_shot_pct,
  paint_shot_pct,
  mid_range_shot_pct,
  three_point_attempt_rate,
  opponent_def_rating,
  opponent_rim_protection_rating,
  opponent_perimeter_def_rating,
  last_5_games_ppg,
  last_10_games_ppg,
  season_avg_ppg,
  CAST(75 AS FLOAT64) AS quality_score,
  'yesterday' AS data_source,
  FALSE AS phase4_available,
  TRUE AS phase3_fallback_used,
  IF(has_game, IF(team_defense_cells = 0, 'missing', 'yesterday'), NULL) AS team_defense_source,
  IF(player_shot_cells = 0, 'missing', 'yesterday') AS player_shot_source,
  IF(composite_cells = 0, 'missing', 'yesterday') AS composite_source,
  IF(daily_cache_cells = 0, 'missing', 'yesterday') AS daily_cache_source,
  phase3_features,
  CASE
    WHEN present_cells = cells_wanted THEN ARRAY<STRING>[]
    ELSE SPLIT(
      RTRIM(
        CONCAT(
          IF(offensive_rating IS NULL, 'offensive_rating,', ''),
          IF(usage_rate IS NULL, 'usage_rate,', ''),
          IF(true_shooting_pct IS NULL, 'true_shooting_pct,', ''),
          IF(points_per_36 IS NULL, 'points_per_36,', ''),
          IF(defensive_rating IS NULL, 'defensive_rating,', ''),
          IF(defensive_win_shares IS NULL, 'defensive_win_shares,', ''),
          IF(steal_rate IS NULL, 'steal_rate,', ''),
          IF(block_rate IS NULL, 'block_rate,', ''),
          IF(points_projection IS NULL, 'points_projection,', ''),
          IF(rebounds_projection IS NULL, 'rebounds_projection,', ''),
          IF(assists_projection IS NULL, 'assists_projection,', ''),
          IF(pace IS NULL, 'pace,', ''),
          IF(restricted_area_shot_pct IS NULL, 'restricted_area_shot_pct,', ''),
          IF(paint_shot_pct IS NULL, 'paint_shot_pct,', ''),
          IF(mid_range_shot_pct IS NULL, 'mid_range_shot_pct,', ''),
          IF(three_point_attempt_rate IS NULL, 'three_point_attempt_rate,', ''),
          IF(has_game AND opponent_def_rating IS NULL, 'opponent_def_rating,', ''),
          IF(has_game AND opponent_rim_protection_rating IS NULL, 'opponent_rim_protection_rating,', ''),
          IF(has_game AND opponent_perimeter_def_rating IS NULL, 'opponent_perimeter_def_rating,', ''),
          IF(last_5_games_ppg IS NULL, 'last_5_games_ppg,', ''),
          IF(last_10_games_ppg IS NULL, 'last_10_games_ppg,', ''),
          IF(season_avg_ppg IS NULL, 'season_avg_ppg,', '')
        ),
        ','
      ),
      ','
    )
  END AS missing_features,
  source_data_date,
  @build_generation AS build_generation,
  @build_id AS build_id,
  @built_at AS processed_at,
  IF(points_projection IS NULL, 'no points_projection in the copied row', NULL) AS left_out_reason,
  0 AS team_defense_phase4_cells,
  team_defense_cells AS team_defense_phase3_cells,
  0 AS player_shot_phase4_cells,
  player_shot_cells AS player_shot_phase3_cells,
  0 AS composite_phase4_cells,
  composite_cells AS composite_phase3_cells,
  0 AS daily_cache_phase4_cells,
  daily_cache_cells AS daily_cache_phase3_cells,
  CAST(NULL AS STRING) AS opponent_source,
  CAST(NULL AS STRING) AS player_shot_game,
  CAST(NULL AS STRING) AS composite_game,
  CAST(NULL AS STRING) AS daily_cache_game
FROM summed
