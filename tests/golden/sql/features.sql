-- Purpose:     the active players of the date with their features, each cell from Phase 4 where it has a value, else
--              from the latest Phase 3 row of the lookback window, else NULL; where each came from; the row's score.
-- Parameters:  analysis_date DATE; lookback_start, previous_date DATE (the Phase 3 window, both ends included);
--              first_game_date, last_game_date DATE (the rows of the schedule that are looked at); as_of TIMESTAMP
--              (upstream rows processed later are not seen; without it the condition is left out); use_team_defense,
--              use_player_shot, use_composite, use_daily_cache BOOL (FALSE: as if that Phase 4 table had no row);
--              build_generation INT64; build_id STRING; built_at TIMESTAMP.
-- Reads:       nba_raw.nbac_player_list, nba_raw.nbac_schedule, nba_analytics.player_game_summary,
--              nba_analytics.team_offense_game_summary, nba_analytics.team_defense_game_summary,
--              nba_precompute.team_defense_zone_analysis, nba_precompute.player_shot_zone_analysis,
--              nba_precompute.player_composite_factors, nba_precompute.player_daily_cache, nba_raw.nbac_team_list.
-- Result:      one row per active player_id: the published columns, then left_out_reason (NULL for a row that may be
--              published) and, per block, how many cells came from each phase. opponent_source says whether the
--              schedule or Phase 4 named the opponent, <block>_game how the block's Phase 4 table and the schedule
--              agree.
-- Second run:  reads only; the same parameters over the same tables give the same rows, but for ties (see below).
--
-- The latest row counts, not the latest value: a NULL in it stays NULL. Of several rows for one key the newest
-- processed_at wins, so rows never multiply; of several with the very same one, any, and always whole. NaN and infinity
-- are NULL from where they are read.
WITH roster AS (
  SELECT
    player_id,
    player_name,
    team_abbreviation
  FROM nba_raw.nbac_player_list
  WHERE snapshot_date = @analysis_date AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (PARTITION BY player_id ORDER BY processed_at DESC) = 1
),
newest_team AS (
  SELECT team_abbreviation AS team
  FROM nba_raw.nbac_team_list
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team_id ORDER BY processed_at DESC, team_abbreviation) = 1
),
known_team AS (
  SELECT DISTINCT team
  FROM newest_team
  WHERE team IS NOT NULL
),
-- Of several rows for one game_id the newest counts, wherever it puts the game.
game AS (
  SELECT game_date, game_id, home_team_abbreviation, away_team_abbreviation, processed_at
  FROM nba_raw.nbac_schedule
  WHERE game_date BETWEEN @first_game_date AND @last_game_date AND processed_at <= @as_of
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY game_id ORDER BY processed_at DESC, game_date DESC, home_team_abbreviation, away_team_abbreviation
    ) = 1
    OR COALESCE(game_id, '') = ''
),
team_game AS (
  SELECT home_team_abbreviation AS team, away_team_abbreviation AS opponent, processed_at, game_id
  FROM game
  WHERE game_date = @analysis_date
  UNION ALL
  SELECT away_team_abbreviation AS team, home_team_abbreviation AS opponent, processed_at, game_id
  FROM game
  WHERE game_date = @analysis_date
),
scheduled AS (
  SELECT team, opponent
  FROM team_game
  WHERE team <> opponent AND TRIM(team) <> '' AND TRIM(opponent) <> ''
    AND (
      (SELECT COUNT(*) FROM known_team) = 0
      OR (team IN (SELECT team FROM known_team) AND opponent IN (SELECT team FROM known_team))
    )
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team ORDER BY processed_at DESC, game_id, opponent) = 1
),
from_team_defense AS (
  SELECT
    team_abbreviation,
    IF(IS_NAN(opponent_def_rating) OR IS_INF(opponent_def_rating), NULL, opponent_def_rating) AS opponent_def_rating,
    IF(IS_NAN(opponent_rim_protection_rating) OR IS_INF(opponent_rim_protection_rating), NULL,
      opponent_rim_protection_rating) AS opponent_rim_protection_rating,
    IF(IS_NAN(opponent_perimeter_def_rating) OR IS_INF(opponent_perimeter_def_rating), NULL,
      opponent_perimeter_def_rating) AS opponent_perimeter_def_rating
  FROM nba_precompute.team_defense_zone_analysis
  WHERE @use_team_defense AND analysis_date = @analysis_date AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team_abbreviation ORDER BY processed_at DESC) = 1
),
from_player_shot AS (
  SELECT
    player_id,
    has_game,
    opponent_abbreviation,
    team_abbreviation,
    IF(IS_NAN(restricted_area_shot_pct) OR IS_INF(restricted_area_shot_pct), NULL, restricted_area_shot_pct)
      AS restricted_area_shot_pct,
    IF(IS_NAN(paint_shot_pct) OR IS_INF(paint_shot_pct), NULL, paint_shot_pct) AS paint_shot_pct,
    IF(IS_NAN(mid_range_shot_pct) OR IS_INF(mid_range_shot_pct), NULL, mid_range_shot_pct) AS mid_range_shot_pct,
    IF(IS_NAN(three_point_attempt_rate) OR IS_INF(three_point_attempt_rate), NULL, three_point_attempt_rate)
      AS three_point_attempt_rate
  FROM nba_precompute.player_shot_zone_analysis
  WHERE @use_player_shot AND analysis_date = @analysis_date AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (PARTITION BY player_id ORDER BY processed_at DESC) = 1
),
from_composite AS (
  SELECT
    player_id,
    has_game,
    opponent_abbreviation,
    team_abbreviation,
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
    IF(IS_NAN(pace) OR IS_INF(pace), NULL, pace) AS pace
  FROM nba_precompute.player_composite_factors
  WHERE @use_composite AND analysis_date = @analysis_date AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (PARTITION BY player_id ORDER BY processed_at DESC) = 1
),
from_daily_cache AS (
  SELECT
    player_id,
    has_game,
    opponent_abbreviation,
    team_abbreviation,
    IF(IS_NAN(last_5_games_ppg) OR IS_INF(last_5_games_ppg), NULL, last_5_games_ppg) AS last_5_games_ppg,
    IF(IS_NAN(last_10_games_ppg) OR IS_INF(last_10_games_ppg), NULL, last_10_games_ppg) AS last_10_games_ppg,
    IF(IS_NAN(season_avg_ppg) OR IS_INF(season_avg_ppg), NULL, season_avg_ppg) AS season_avg_ppg
  FROM nba_precompute.player_daily_cache
  WHERE @use_daily_cache AND analysis_date = @analysis_date AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (PARTITION BY player_id ORDER BY processed_at DESC) = 1
),
told_by_phase4 AS (
  SELECT team_abbreviation AS team, opponent_abbreviation AS opponent
  FROM from_player_shot
  WHERE has_game
  UNION ALL
  SELECT team_abbreviation AS team, opponent_abbreviation AS opponent
  FROM from_composite
  WHERE has_game
  UNION ALL
  SELECT team_abbreviation AS team, opponent_abbreviation AS opponent
  FROM from_daily_cache
  WHERE has_game
),
counted_by_phase4 AS (
  SELECT team, opponent, COUNT(*) AS told
  FROM told_by_phase4
  WHERE (SELECT COUNT(*) FROM scheduled) = 0
    AND team <> opponent AND TRIM(team) <> '' AND TRIM(opponent) <> ''
  GROUP BY team, opponent
),
tonight AS (
  SELECT team, opponent, 'schedule' AS told_by
  FROM scheduled
  UNION ALL
  SELECT team, opponent, 'phase4' AS told_by
  FROM counted_by_phase4
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team ORDER BY told DESC, opponent) = 1
),
with_phase4 AS (
  SELECT
    roster.player_id,
    roster.player_name,
    roster.team_abbreviation,
    tonight.opponent AS opponent_abbreviation,
    tonight.team IS NOT NULL AS has_game,
    tonight.told_by AS opponent_source,
    CASE
      WHEN from_player_shot.has_game IS NULL THEN NULL
      WHEN COALESCE(tonight.told_by, 'phase4') = 'phase4'
        THEN IF(from_player_shot.has_game, 'phase4 only', NULL)
      WHEN NOT from_player_shot.has_game THEN 'schedule only'
      WHEN from_player_shot.opponent_abbreviation <> tonight.opponent THEN 'other opponent'
      ELSE 'same'
    END AS player_shot_game,
    CASE
      WHEN from_composite.has_game IS NULL THEN NULL
      WHEN COALESCE(tonight.told_by, 'phase4') = 'phase4'
        THEN IF(from_composite.has_game, 'phase4 only', NULL)
      WHEN NOT from_composite.has_game THEN 'schedule only'
      WHEN from_composite.opponent_abbreviation <> tonight.opponent THEN 'other opponent'
      ELSE 'same'
    END AS composite_game,
    CASE
      WHEN from_daily_cache.has_game IS NULL THEN NULL
      WHEN COALESCE(tonight.told_by, 'phase4') = 'phase4'
        THEN IF(from_daily_cache.has_game, 'phase4 only', NULL)
      WHEN NOT from_daily_cache.has_game THEN 'schedule only'
      WHEN from_daily_cache.opponent_abbreviation <> tonight.opponent THEN 'other opponent'
      ELSE 'same'
    END AS daily_cache_game,
    from_composite.offensive_rating AS phase4_offensive_rating,
    from_composite.usage_rate AS phase4_usage_rate,
    from_composite.true_shooting_pct AS phase4_true_shooting_pct,
    from_composite.points_per_36 AS phase4_points_per_36,
    from_composite.defensive_rating AS phase4_defensive_rating,
    from_composite.defensive_win_shares AS phase4_defensive_win_shares,
    from_composite.steal_rate AS phase4_steal_rate,
    from_composite.block_rate AS phase4_block_rate,
    from_composite.points_projection AS phase4_points_projection,
    from_composite.rebounds_projection AS phase4_rebounds_projection,
    from_composite.assists_projection AS phase4_assists_projection,
    from_composite.pace AS phase4_pace,
    from_player_shot.restricted_area_shot_pct AS phase4_restricted_area_shot_pct,
    from_player_shot.paint_shot_pct AS phase4_paint_shot_pct,
    from_player_shot.mid_range_shot_pct AS phase4_mid_range_shot_pct,
    from_player_shot.three_point_attempt_rate AS phase4_three_point_attempt_rate,
    from_team_defense.opponent_def_rating AS phase4_opponent_def_rating,
    from_team_defense.opponent_rim_protection_rating AS phase4_opponent_rim_protection_rating,
    from_team_defense.opponent_perimeter_def_rating AS phase4_opponent_perimeter_def_rating,
    from_daily_cache.last_5_games_ppg AS phase4_last_5_games_ppg,
    from_daily_cache.last_10_games_ppg AS phase4_last_10_games_ppg,
    from_daily_cache.season_avg_ppg AS phase4_season_avg_ppg,
    (
      from_composite.offensive_rating IS NULL
      OR from_composite.usage_rate IS NULL
      OR from_composite.true_shooting_pct IS NULL
      OR from_composite.points_per_36 IS NULL
      OR from_composite.defensive_rating IS NULL
      OR from_composite.defensive_win_shares IS NULL
      OR from_composite.steal_rate IS NULL
      OR from_composite.block_rate IS NULL
      OR from_composite.points_projection IS NULL
      OR from_composite.rebounds_projection IS NULL
      OR from_composite.assists_projection IS NULL
      OR from_player_shot.restricted_area_shot_pct IS NULL
      OR from_player_shot.paint_shot_pct IS NULL
      OR from_player_shot.mid_range_shot_pct IS NULL
      OR from_player_shot.three_point_attempt_rate IS NULL
      OR from_daily_cache.last_5_games_ppg IS NULL
      OR from_daily_cache.last_10_games_ppg IS NULL
      OR from_daily_cache.season_avg_ppg IS NULL
    ) AS player_game_summary_gap
  FROM roster
  LEFT JOIN tonight ON tonight.team = roster.team_abbreviation
  LEFT JOIN from_team_defense ON from_team_defense.team_abbreviation = tonight.opponent
  LEFT JOIN from_player_shot ON from_player_shot.player_id = roster.player_id
  LEFT JOIN from_composite ON from_composite.player_id = roster.player_id
  LEFT JOIN from_daily_cache ON from_daily_cache.player_id = roster.player_id
),
-- Only players with a gap: on most nights few have one, and this table is the largest. One window per sort key,
-- because DuckDB turns a window over one key into an aggregate, three times as fast as the sort that two would take.
from_player_game_summary_version AS (
  SELECT
    player_id,
    game_date,
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
    IF(IS_NAN(restricted_area_shot_pct) OR IS_INF(restricted_area_shot_pct), NULL, restricted_area_shot_pct)
      AS restricted_area_shot_pct,
    IF(IS_NAN(paint_shot_pct) OR IS_INF(paint_shot_pct), NULL, paint_shot_pct) AS paint_shot_pct,
    IF(IS_NAN(mid_range_shot_pct) OR IS_INF(mid_range_shot_pct), NULL, mid_range_shot_pct) AS mid_range_shot_pct,
    IF(IS_NAN(three_point_attempt_rate) OR IS_INF(three_point_attempt_rate), NULL, three_point_attempt_rate)
      AS three_point_attempt_rate,
    IF(IS_NAN(last_5_games_ppg) OR IS_INF(last_5_games_ppg), NULL, last_5_games_ppg) AS last_5_games_ppg,
    IF(IS_NAN(last_10_games_ppg) OR IS_INF(last_10_games_ppg), NULL, last_10_games_ppg) AS last_10_games_ppg,
    IF(IS_NAN(season_avg_ppg) OR IS_INF(season_avg_ppg), NULL, season_avg_ppg) AS season_avg_ppg
  FROM nba_analytics.player_game_summary
  WHERE game_date BETWEEN @lookback_start AND @previous_date AND processed_at <= @as_of
    AND player_id IN (SELECT player_id FROM with_phase4 WHERE player_game_summary_gap)
  QUALIFY ROW_NUMBER() OVER (PARTITION BY player_id, game_date ORDER BY processed_at DESC) = 1
),
from_player_game_summary AS (
  SELECT
    player_id, game_date, offensive_rating, usage_rate, true_shooting_pct, points_per_36, defensive_rating,
    defensive_win_shares, steal_rate, block_rate, points_projection, rebounds_projection, assists_projection,
    restricted_area_shot_pct, paint_shot_pct, mid_range_shot_pct, three_point_attempt_rate, last_5_games_ppg,
    last_10_games_ppg, season_avg_ppg
  FROM from_player_game_summary_version
  -- GoogleSQL refuses a QUALIFY without a WHERE beside it.
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY player_id ORDER BY game_date DESC) = 1
),
from_team_offense_game_summary AS (
  SELECT
    team_abbreviation,
    game_date,
    IF(IS_NAN(pace) OR IS_INF(pace), NULL, pace) AS pace
  FROM nba_analytics.team_offense_game_summary
  WHERE game_date BETWEEN @lookback_start AND @previous_date AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team_abbreviation ORDER BY game_date DESC, processed_at DESC) = 1
),
from_team_defense_game_summary AS (
  SELECT
    team_abbreviation,
    game_date,
    IF(IS_NAN(opponent_def_rating) OR IS_INF(opponent_def_rating), NULL, opponent_def_rating) AS opponent_def_rating,
    IF(IS_NAN(opponent_rim_protection_rating) OR IS_INF(opponent_rim_protection_rating), NULL,
      opponent_rim_protection_rating) AS opponent_rim_protection_rating,
    IF(IS_NAN(opponent_perimeter_def_rating) OR IS_INF(opponent_perimeter_def_rating), NULL,
      opponent_perimeter_def_rating) AS opponent_perimeter_def_rating
  FROM nba_analytics.team_defense_game_summary
  WHERE game_date BETWEEN @lookback_start AND @previous_date AND processed_at <= @as_of
  QUALIFY ROW_NUMBER() OVER (PARTITION BY team_abbreviation ORDER BY game_date DESC, processed_at DESC) = 1
),
cells AS (
  SELECT
    with_phase4.*,
    from_player_game_summary.game_date AS player_game_summary_date,
    from_team_offense_game_summary.game_date AS team_offense_game_summary_date,
    from_team_defense_game_summary.game_date AS team_defense_game_summary_date,
    COALESCE(phase4_offensive_rating, from_player_game_summary.offensive_rating) AS offensive_rating,
    COALESCE(phase4_usage_rate, from_player_game_summary.usage_rate) AS usage_rate,
    COALESCE(phase4_true_shooting_pct, from_player_game_summary.true_shooting_pct) AS true_shooting_pct,
    COALESCE(phase4_points_per_36, from_player_game_summary.points_per_36) AS points_per_36,
    COALESCE(phase4_defensive_rating, from_player_game_summary.defensive_rating) AS defensive_rating,
    COALESCE(phase4_defensive_win_shares, from_player_game_summary.defensive_win_shares) AS defensive_win_shares,
    COALESCE(phase4_steal_rate, from_player_game_summary.steal_rate) AS steal_rate,
    COALESCE(phase4_block_rate, from_player_game_summary.block_rate) AS block_rate,
    COALESCE(phase4_points_projection, from_player_game_summary.points_projection) AS points_projection,
    COALESCE(phase4_rebounds_projection, from_player_game_summary.rebounds_projection) AS rebounds_projection,
    COALESCE(phase4_assists_projection, from_player_game_summary.assists_projection) AS assists_projection,
    COALESCE(phase4_pace, from_team_offense_game_summary.pace) AS pace,
    COALESCE(phase4_restricted_area_shot_pct, from_player_game_summary.restricted_area_shot_pct)
      AS restricted_area_shot_pct,
    COALESCE(phase4_paint_shot_pct, from_player_game_summary.paint_shot_pct) AS paint_shot_pct,
    COALESCE(phase4_mid_range_shot_pct, from_player_game_summary.mid_range_shot_pct) AS mid_range_shot_pct,
    COALESCE(phase4_three_point_attempt_rate, from_player_game_summary.three_point_attempt_rate)
      AS three_point_attempt_rate,
    COALESCE(phase4_opponent_def_rating, from_team_defense_game_summary.opponent_def_rating) AS opponent_def_rating,
    COALESCE(phase4_opponent_rim_protection_rating, from_team_defense_game_summary.opponent_rim_protection_rating)
      AS opponent_rim_protection_rating,
    COALESCE(phase4_opponent_perimeter_def_rating, from_team_defense_game_summary.opponent_perimeter_def_rating)
      AS opponent_perimeter_def_rating,
    COALESCE(phase4_last_5_games_ppg, from_player_game_summary.last_5_games_ppg) AS last_5_games_ppg,
    COALESCE(phase4_last_10_games_ppg, from_player_game_summary.last_10_games_ppg) AS last_10_games_ppg,
    COALESCE(phase4_season_avg_ppg, from_player_game_summary.season_avg_ppg) AS season_avg_ppg
  FROM with_phase4
  LEFT JOIN from_player_game_summary ON from_player_game_summary.player_id = with_phase4.player_id
  LEFT JOIN from_team_offense_game_summary
    ON from_team_offense_game_summary.team_abbreviation = with_phase4.team_abbreviation
  LEFT JOIN from_team_defense_game_summary
    ON from_team_defense_game_summary.team_abbreviation = with_phase4.opponent_abbreviation
),
counted AS (
  SELECT
    cells.*,
    (
      IF(phase4_opponent_def_rating IS NULL, 0, 1) + IF(phase4_opponent_rim_protection_rating IS NULL, 0, 1)
      + IF(phase4_opponent_perimeter_def_rating IS NULL, 0, 1)
    ) AS team_defense_phase4_cells,
    (
      IF(phase4_restricted_area_shot_pct IS NULL, 0, 1) + IF(phase4_paint_shot_pct IS NULL, 0, 1)
      + IF(phase4_mid_range_shot_pct IS NULL, 0, 1) + IF(phase4_three_point_attempt_rate IS NULL, 0, 1)
    ) AS player_shot_phase4_cells,
    (
      IF(phase4_offensive_rating IS NULL, 0, 1) + IF(phase4_usage_rate IS NULL, 0, 1)
      + IF(phase4_true_shooting_pct IS NULL, 0, 1) + IF(phase4_points_per_36 IS NULL, 0, 1)
      + IF(phase4_defensive_rating IS NULL, 0, 1) + IF(phase4_defensive_win_shares IS NULL, 0, 1)
      + IF(phase4_steal_rate IS NULL, 0, 1) + IF(phase4_block_rate IS NULL, 0, 1)
      + IF(phase4_points_projection IS NULL, 0, 1) + IF(phase4_rebounds_projection IS NULL, 0, 1)
      + IF(phase4_assists_projection IS NULL, 0, 1) + IF(phase4_pace IS NULL, 0, 1)
    ) AS composite_phase4_cells,
    (
      IF(phase4_last_5_games_ppg IS NULL, 0, 1) + IF(phase4_last_10_games_ppg IS NULL, 0, 1)
      + IF(phase4_season_avg_ppg IS NULL, 0, 1)
    ) AS daily_cache_phase4_cells,
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
  FROM cells
),
summed AS (
  SELECT
    counted.*,
    (
      team_defense_phase4_cells + player_shot_phase4_cells + composite_phase4_cells + daily_cache_phase4_cells
    ) AS phase4_cells,
    (
      team_defense_cells + player_shot_cells + composite_cells + daily_cache_cells
    ) AS present_cells,
    IF(has_game, 22, 19) AS cells_wanted,
    -- Not from Phase 4, each block in 12 parts, over the blocks that apply: whole numbers until the one division.
    SAFE_DIVIDE(
      IF(has_game, 4 * (3 - team_defense_phase4_cells), 0) + 3 * (4 - player_shot_phase4_cells)
      + (12 - composite_phase4_cells) + 4 * (3 - daily_cache_phase4_cells),
      IF(has_game, 48, 36)
    ) AS fallback_rate
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
  -- 100 less the penalty for the row's fallback rate, a line through the corners of the pipeline's penalty_line.
  ROUND(
    CASE
      WHEN fallback_rate <= CAST(0.05 AS FLOAT64) THEN 100 - 100 * fallback_rate
      WHEN fallback_rate <= CAST(0.25 AS FLOAT64) THEN CAST(96.25 AS FLOAT64) - 25 * fallback_rate
      WHEN fallback_rate <= CAST(0.5 AS FLOAT64) THEN 100 - 40 * fallback_rate
      ELSE 85 - 10 * fallback_rate
    END,
    1
  ) AS quality_score,
  CASE
    WHEN present_cells = 0 THEN 'missing'
    WHEN phase4_cells = present_cells THEN 'phase4'
    WHEN phase4_cells = 0 THEN 'phase3'
    ELSE 'mixed'
  END AS data_source,
  phase4_cells > 0 AS phase4_available,
  present_cells > phase4_cells AS phase3_fallback_used,
  CASE
    WHEN NOT has_game THEN NULL
    WHEN team_defense_cells = 0 THEN 'missing'
    WHEN team_defense_phase4_cells = team_defense_cells THEN 'phase4'
    WHEN team_defense_phase4_cells = 0 THEN 'phase3'
    ELSE 'mixed'
  END AS team_defense_source,
  CASE
    WHEN player_shot_cells = 0 THEN 'missing'
    WHEN player_shot_phase4_cells = player_shot_cells THEN 'phase4'
    WHEN player_shot_phase4_cells = 0 THEN 'phase3'
    ELSE 'mixed'
  END AS player_shot_source,
  CASE
    WHEN composite_cells = 0 THEN 'missing'
    WHEN composite_phase4_cells = composite_cells THEN 'phase4'
    WHEN composite_phase4_cells = 0 THEN 'phase3'
    ELSE 'mixed'
  END AS composite_source,
  CASE
    WHEN daily_cache_cells = 0 THEN 'missing'
    WHEN daily_cache_phase4_cells = daily_cache_cells THEN 'phase4'
    WHEN daily_cache_phase4_cells = 0 THEN 'phase3'
    ELSE 'mixed'
  END AS daily_cache_source,
  CASE
    WHEN present_cells = phase4_cells THEN ARRAY<STRING>[]
    ELSE SPLIT(
      RTRIM(
        CONCAT(
          IF(phase4_offensive_rating IS NULL AND offensive_rating IS NOT NULL, 'offensive_rating,', ''),
          IF(phase4_usage_rate IS NULL AND usage_rate IS NOT NULL, 'usage_rate,', ''),
          IF(phase4_true_shooting_pct IS NULL AND true_shooting_pct IS NOT NULL, 'true_shooting_pct,', ''),
          IF(phase4_points_per_36 IS NULL AND points_per_36 IS NOT NULL, 'points_per_36,', ''),
          IF(phase4_defensive_rating IS NULL AND defensive_rating IS NOT NULL, 'defensive_rating,', ''),
          IF(phase4_defensive_win_shares IS NULL AND defensive_win_shares IS NOT NULL, 'defensive_win_shares,', ''),
          IF(phase4_steal_rate IS NULL AND steal_rate IS NOT NULL, 'steal_rate,', ''),
          IF(phase4_block_rate IS NULL AND block_rate IS NOT NULL, 'block_rate,', ''),
          IF(phase4_points_projection IS NULL AND points_projection IS NOT NULL, 'points_projection,', ''),
          IF(phase4_rebounds_projection IS NULL AND rebounds_projection IS NOT NULL, 'rebounds_projection,', ''),
          IF(phase4_assists_projection IS NULL AND assists_projection IS NOT NULL, 'assists_projection,', ''),
          IF(phase4_pace IS NULL AND pace IS NOT NULL, 'pace,', ''),
          IF(phase4_restricted_area_shot_pct IS NULL AND restricted_area_shot_pct IS NOT NULL,
            'restricted_area_shot_pct,', ''),
          IF(phase4_paint_shot_pct IS NULL AND paint_shot_pct IS NOT NULL, 'paint_shot_pct,', ''),
          IF(phase4_mid_range_shot_pct IS NULL AND mid_range_shot_pct IS NOT NULL, 'mid_range_shot_pct,', ''),
          IF(phase4_three_point_attempt_rate IS NULL AND three_point_attempt_rate IS NOT NULL,
            'three_point_attempt_rate,', ''),
          IF(phase4_opponent_def_rating IS NULL AND opponent_def_rating IS NOT NULL, 'opponent_def_rating,', ''),
          IF(phase4_opponent_rim_protection_rating IS NULL AND opponent_rim_protection_rating IS NOT NULL,
            'opponent_rim_protection_rating,', ''),
          IF(phase4_opponent_perimeter_def_rating IS NULL AND opponent_perimeter_def_rating IS NOT NULL,
            'opponent_perimeter_def_rating,', ''),
          IF(phase4_last_5_games_ppg IS NULL AND last_5_games_ppg IS NOT NULL, 'last_5_games_ppg,', ''),
          IF(phase4_last_10_games_ppg IS NULL AND last_10_games_ppg IS NOT NULL, 'last_10_games_ppg,', ''),
          IF(phase4_season_avg_ppg IS NULL AND season_avg_ppg IS NOT NULL, 'season_avg_ppg,', '')
        ),
        ','
      ),
      ','
    )
  END AS phase3_features,
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
  CASE
    WHEN phase4_cells > 0 THEN @analysis_date
    WHEN present_cells = 0 THEN NULL
    ELSE GREATEST(
      -- Only the rows that gave a cell; a day before all data stands for those that gave none.
      IF(
        offensive_rating IS NOT NULL OR usage_rate IS NOT NULL OR true_shooting_pct IS NOT NULL
        OR points_per_36 IS NOT NULL OR defensive_rating IS NOT NULL OR defensive_win_shares IS NOT NULL
        OR steal_rate IS NOT NULL OR block_rate IS NOT NULL OR points_projection IS NOT NULL
        OR rebounds_projection IS NOT NULL OR assists_projection IS NOT NULL OR restricted_area_shot_pct IS NOT NULL
        OR paint_shot_pct IS NOT NULL OR mid_range_shot_pct IS NOT NULL OR three_point_attempt_rate IS NOT NULL
        OR last_5_games_ppg IS NOT NULL OR last_10_games_ppg IS NOT NULL OR season_avg_ppg IS NOT NULL,
        player_game_summary_date,
        DATE '1900-01-01'
      ),
      IF(
        pace IS NOT NULL,
        team_offense_game_summary_date,
        DATE '1900-01-01'
      ),
      IF(
        opponent_def_rating IS NOT NULL OR opponent_rim_protection_rating IS NOT NULL
        OR opponent_perimeter_def_rating IS NOT NULL,
        team_defense_game_summary_date,
        DATE '1900-01-01'
      )
    )
  END AS source_data_date,
  @build_generation AS build_generation,
  @build_id AS build_id,
  @built_at AS processed_at,
  IF(points_projection IS NULL, 'no points_projection in Phase 4 or Phase 3', NULL) AS left_out_reason,
  team_defense_phase4_cells,
  team_defense_cells - team_defense_phase4_cells AS team_defense_phase3_cells,
  player_shot_phase4_cells,
  player_shot_cells - player_shot_phase4_cells AS player_shot_phase3_cells,
  composite_phase4_cells,
  composite_cells - composite_phase4_cells AS composite_phase3_cells,
  daily_cache_phase4_cells,
  daily_cache_cells - daily_cache_phase4_cells AS daily_cache_phase3_cells,
  opponent_source,
  player_shot_game,
  composite_game,
  daily_cache_game
FROM summed
