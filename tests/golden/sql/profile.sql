-- Purpose:     the distribution of each judged feature of a build, and its values beside those of the night before.
-- Parameters:  analysis_date DATE; build_id STRING; rows_start, previous_date DATE (the dates of which one is the night
--              before, both ends included); judged ARRAY<INT64> (the numbers of the judged features, from 1); low,
--              high, step ARRAY<FLOAT64> (range of each, and what counts as moved); block, team ARRAY<INT64> (block and
--              team column of each, from 1; the first team column is none); edges ARRAY<FLOAT64> (9 for each).
-- Reads:       nba_predictions.ml_feature_store_v2_generations, nba_predictions.ml_feature_store_v2_quality_history,
--              nba_predictions.ml_feature_store_v2_ledger.
-- Result:      one row per judged feature, or per feature and team where the players of a team share the value: highest
--              is the value then. The night before is the newest published one without a critical finding. row_count,
--              present_count and outside_count hold every row; the other figures hold Phase 4 cells inside the range,
--              of 20000 players at most, evenly by player_id. later and earlier are the values of a pair of both
--              nights; from_n counts the values from edge n on.
-- Second run:  reads only; the same parameters over the same tables give the same rows.
WITH
night_before AS (
  SELECT analysis_date, build_id
  FROM nba_predictions.ml_feature_store_v2_quality_history
  WHERE analysis_date BETWEEN @rows_start AND @previous_date
    AND build_id IN (
      SELECT build_id
      FROM nba_predictions.ml_feature_store_v2_ledger
      WHERE analysis_date BETWEEN @rows_start AND @previous_date AND generation > 0
    )
    AND NOT COALESCE(findings, '') LIKE '%"critical"%'
  QUALIFY ROW_NUMBER() OVER (ORDER BY analysis_date DESC, build_id) = 1
),
-- The sample is drawn over the keys alone: a sort of a large roster with all values takes several times as long.
sampled AS (
  SELECT made.player_id
  FROM nba_predictions.ml_feature_store_v2_generations AS made
  WHERE made.analysis_date = @analysis_date AND made.build_id = @build_id AND made.left_out_reason IS NULL
  QUALIFY MOD(ROW_NUMBER() OVER (ORDER BY made.player_id) * 20000, COUNT(*) OVER ()) < 20000
),
before AS (
  SELECT
    made.player_id,
    made.analysis_date,
    made.has_game AS played,
    [
      made.offensive_rating,
      made.usage_rate,
      made.true_shooting_pct,
      made.points_per_36,
      made.defensive_rating,
      made.defensive_win_shares,
      made.steal_rate,
      made.block_rate,
      made.points_projection,
      made.rebounds_projection,
      made.assists_projection,
      made.pace,
      made.restricted_area_shot_pct,
      made.paint_shot_pct,
      made.mid_range_shot_pct,
      made.three_point_attempt_rate,
      made.opponent_def_rating,
      made.opponent_rim_protection_rating,
      made.opponent_perimeter_def_rating,
      made.last_5_games_ppg,
      made.last_10_games_ppg,
      made.season_avg_ppg
    ] AS cells,
    [made.team_defense_source, made.player_shot_source, made.composite_source, made.daily_cache_source] AS sources
  FROM nba_predictions.ml_feature_store_v2_generations AS made
  JOIN night_before ON night_before.analysis_date = made.analysis_date AND night_before.build_id = made.build_id
  WHERE made.analysis_date BETWEEN @rows_start AND @previous_date AND made.left_out_reason IS NULL
    AND made.player_id IN (SELECT player_id FROM sampled)
),
made AS (
  SELECT
    made.player_id,
    [CAST(NULL AS STRING), made.team_abbreviation, made.opponent_abbreviation] AS teams,
    [
      made.offensive_rating,
      made.usage_rate,
      made.true_shooting_pct,
      made.points_per_36,
      made.defensive_rating,
      made.defensive_win_shares,
      made.steal_rate,
      made.block_rate,
      made.points_projection,
      made.rebounds_projection,
      made.assists_projection,
      made.pace,
      made.restricted_area_shot_pct,
      made.paint_shot_pct,
      made.mid_range_shot_pct,
      made.three_point_attempt_rate,
      made.opponent_def_rating,
      made.opponent_rim_protection_rating,
      made.opponent_perimeter_def_rating,
      made.last_5_games_ppg,
      made.last_10_games_ppg,
      made.season_avg_ppg
    ] AS cells,
    [made.team_defense_source, made.player_shot_source, made.composite_source, made.daily_cache_source] AS sources
  FROM nba_predictions.ml_feature_store_v2_generations AS made
  JOIN sampled ON sampled.player_id = made.player_id
  WHERE made.analysis_date = @analysis_date AND made.build_id = @build_id AND made.left_out_reason IS NULL
),
cells AS (
  SELECT
    place,
    @step[ORDINAL(place)] AS step,
    made.teams[ORDINAL(@team[ORDINAL(place)])] AS team,
    before.played,
    before.analysis_date AS compared_date,
    IF(
      made.sources[ORDINAL(@block[ORDINAL(place)])] = 'phase4'
        AND made.cells[ORDINAL(place)] BETWEEN @low[ORDINAL(place)] AND @high[ORDINAL(place)],
      made.cells[ORDINAL(place)],
      NULL
    ) AS value,
    IF(
      before.sources[ORDINAL(@block[ORDINAL(place)])] = 'phase4'
        AND before.cells[ORDINAL(place)] BETWEEN @low[ORDINAL(place)] AND @high[ORDINAL(place)],
      before.cells[ORDINAL(place)],
      NULL
    ) AS earlier
  FROM made
  LEFT JOIN before ON before.player_id = made.player_id
  CROSS JOIN UNNEST(@judged) AS place
),
pairs AS (
  SELECT
    place,
    team,
    step,
    played,
    compared_date,
    value,
    IF(earlier IS NULL, NULL, value) AS later,
    IF(value IS NULL, NULL, earlier) AS earlier
  FROM cells
),
summed AS (
  SELECT
    place,
    team,
    MAX(compared_date) AS compared_date,
    COUNT(value) AS value_count,
    SAFE_DIVIDE(SUM(value), COUNT(value)) AS mean,
    SAFE_DIVIDE(SUM(value * value), COUNT(value)) AS mean_square,
    MIN(value) AS lowest,
    MAX(value) AS highest,
    COUNT(later) AS pair_count,
    SAFE_DIVIDE(SUM(later), COUNT(later)) AS later_mean,
    SAFE_DIVIDE(SUM(earlier), COUNT(later)) AS earlier_mean,
    SAFE_DIVIDE(SUM(later * later), COUNT(later)) AS later_square,
    SAFE_DIVIDE(SUM(earlier * earlier), COUNT(later)) AS earlier_square,
    SAFE_DIVIDE(SUM(later * earlier), COUNT(later)) AS product,
    COUNT(IF(played, later, NULL)) AS played_count,
    COUNT(IF(played AND later = earlier, 1, NULL)) AS unmoved_count,
    COUNT(IF(NOT played, later, NULL)) AS still_count,
    COUNT(IF(NOT played AND (later - earlier > step OR earlier - later > step), 1, NULL)) AS moved_count,
    COUNT(IF(value >= @edges[ORDINAL(place * 9 - 8)], 1, NULL)) AS from_0,
    COUNT(IF(value >= @edges[ORDINAL(place * 9 - 7)], 1, NULL)) AS from_1,
    COUNT(IF(value >= @edges[ORDINAL(place * 9 - 6)], 1, NULL)) AS from_2,
    COUNT(IF(value >= @edges[ORDINAL(place * 9 - 5)], 1, NULL)) AS from_3,
    COUNT(IF(value >= @edges[ORDINAL(place * 9 - 4)], 1, NULL)) AS from_4,
    COUNT(IF(value >= @edges[ORDINAL(place * 9 - 3)], 1, NULL)) AS from_5,
    COUNT(IF(value >= @edges[ORDINAL(place * 9 - 2)], 1, NULL)) AS from_6,
    COUNT(IF(value >= @edges[ORDINAL(place * 9 - 1)], 1, NULL)) AS from_7,
    COUNT(IF(value >= @edges[ORDINAL(place * 9 - 0)], 1, NULL)) AS from_8
  FROM pairs
  GROUP BY place, team
),
repeated AS (
  SELECT place, COUNT(*) AS times
  FROM pairs
  WHERE value IS NOT NULL AND team IS NULL
  GROUP BY place, value
),
modes AS (
  SELECT place, MAX(times) AS mode_count
  FROM repeated
  GROUP BY place
),
exact AS (
  SELECT
    COUNT(*) AS row_count,
    [
      COUNT(made.offensive_rating),
      COUNT(made.usage_rate),
      COUNT(made.true_shooting_pct),
      COUNT(made.points_per_36),
      COUNT(made.defensive_rating),
      COUNT(made.defensive_win_shares),
      COUNT(made.steal_rate),
      COUNT(made.block_rate),
      COUNT(made.points_projection),
      COUNT(made.rebounds_projection),
      COUNT(made.assists_projection),
      COUNT(made.pace),
      COUNT(made.restricted_area_shot_pct),
      COUNT(made.paint_shot_pct),
      COUNT(made.mid_range_shot_pct),
      COUNT(made.three_point_attempt_rate),
      COUNT(made.opponent_def_rating),
      COUNT(made.opponent_rim_protection_rating),
      COUNT(made.opponent_perimeter_def_rating),
      COUNT(made.last_5_games_ppg),
      COUNT(made.last_10_games_ppg),
      COUNT(made.season_avg_ppg)
    ] AS present,
    [
      COUNT(IF(NOT (IS_NAN(made.offensive_rating) OR IS_INF(made.offensive_rating))
        AND (made.offensive_rating < 0 OR made.offensive_rating > 300), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.usage_rate) OR IS_INF(made.usage_rate))
        AND (made.usage_rate < 0 OR made.usage_rate > 2), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.true_shooting_pct) OR IS_INF(made.true_shooting_pct))
        AND (made.true_shooting_pct < 0 OR made.true_shooting_pct > CAST(1.5 AS FLOAT64)), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.points_per_36) OR IS_INF(made.points_per_36))
        AND (made.points_per_36 < 0 OR made.points_per_36 > 200), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.defensive_rating) OR IS_INF(made.defensive_rating))
        AND (made.defensive_rating < (0 - 50) OR made.defensive_rating > 300), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.defensive_win_shares) OR IS_INF(made.defensive_win_shares))
        AND (made.defensive_win_shares < (0 - 5) OR made.defensive_win_shares > 25), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.steal_rate) OR IS_INF(made.steal_rate))
        AND (made.steal_rate < 0 OR made.steal_rate > 1), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.block_rate) OR IS_INF(made.block_rate))
        AND (made.block_rate < 0 OR made.block_rate > CAST(1.5 AS FLOAT64)), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.points_projection) OR IS_INF(made.points_projection))
        AND (made.points_projection < 0 OR made.points_projection > 150), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.rebounds_projection) OR IS_INF(made.rebounds_projection))
        AND (made.rebounds_projection < 0 OR made.rebounds_projection > 60), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.assists_projection) OR IS_INF(made.assists_projection))
        AND (made.assists_projection < 0 OR made.assists_projection > 60), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.pace) OR IS_INF(made.pace)) AND (made.pace < 40 OR made.pace > 200), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.restricted_area_shot_pct) OR IS_INF(made.restricted_area_shot_pct))
        AND (made.restricted_area_shot_pct < 0 OR made.restricted_area_shot_pct > 1), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.paint_shot_pct) OR IS_INF(made.paint_shot_pct))
        AND (made.paint_shot_pct < 0 OR made.paint_shot_pct > 1), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.mid_range_shot_pct) OR IS_INF(made.mid_range_shot_pct))
        AND (made.mid_range_shot_pct < 0 OR made.mid_range_shot_pct > 1), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.three_point_attempt_rate) OR IS_INF(made.three_point_attempt_rate))
        AND (made.three_point_attempt_rate < 0 OR made.three_point_attempt_rate > 1), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.opponent_def_rating) OR IS_INF(made.opponent_def_rating))
        AND (made.opponent_def_rating < 40 OR made.opponent_def_rating > 250), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.opponent_rim_protection_rating) OR IS_INF(made.opponent_rim_protection_rating))
        AND (made.opponent_rim_protection_rating < 10 OR made.opponent_rim_protection_rating > 1000), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.opponent_perimeter_def_rating) OR IS_INF(made.opponent_perimeter_def_rating))
        AND (made.opponent_perimeter_def_rating < 10 OR made.opponent_perimeter_def_rating > 1000), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.last_5_games_ppg) OR IS_INF(made.last_5_games_ppg))
        AND (made.last_5_games_ppg < 0 OR made.last_5_games_ppg > 150), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.last_10_games_ppg) OR IS_INF(made.last_10_games_ppg))
        AND (made.last_10_games_ppg < 0 OR made.last_10_games_ppg > 150), 1, NULL)),
      COUNT(IF(NOT (IS_NAN(made.season_avg_ppg) OR IS_INF(made.season_avg_ppg))
        AND (made.season_avg_ppg < 0 OR made.season_avg_ppg > 150), 1, NULL))
    ] AS outside
  FROM nba_predictions.ml_feature_store_v2_generations AS made
  WHERE made.analysis_date = @analysis_date AND made.build_id = @build_id AND made.left_out_reason IS NULL
)
SELECT
  exact.row_count,
  exact.present[ORDINAL(summed.place)] AS present_count,
  exact.outside[ORDINAL(summed.place)] AS outside_count,
  summed.*,
  modes.mode_count
FROM summed
CROSS JOIN exact
LEFT JOIN modes ON modes.place = summed.place
