-- Purpose:     the Phase 4 tables joined beforehand, for frequent readers. The build does not read the view: with an
--              outer join the view may lag behind the tables by max_staleness; see docs/adr/0013.
-- Parameters:  none.
-- Creates:     nba_precompute.ml_feature_store_base_mv
-- Result:      one row per analysis_date and player_id of player_composite_factors, with repetitions.
-- Second run:  changes nothing.
CREATE MATERIALIZED VIEW IF NOT EXISTS nba_precompute.ml_feature_store_base_mv
PARTITION BY analysis_date
CLUSTER BY player_id
OPTIONS (
  enable_refresh = TRUE,
  refresh_interval_minutes = 30,
  max_staleness = INTERVAL "0:30:0" HOUR TO SECOND,
  allow_non_incremental_definition = TRUE
)
AS
SELECT
  composite.analysis_date,
  composite.player_id,
  composite.player_name,
  composite.team_abbreviation,
  composite.opponent_abbreviation,
  composite.offensive_rating,
  composite.usage_rate,
  composite.true_shooting_pct,
  composite.points_per_36,
  composite.defensive_rating,
  composite.defensive_win_shares,
  composite.steal_rate,
  composite.block_rate,
  composite.points_projection,
  composite.rebounds_projection,
  composite.assists_projection,
  composite.pace,
  player_shot.restricted_area_shot_pct,
  player_shot.paint_shot_pct,
  player_shot.mid_range_shot_pct,
  player_shot.three_point_attempt_rate,
  team_defense.opponent_def_rating,
  team_defense.opponent_rim_protection_rating,
  team_defense.opponent_perimeter_def_rating,
  daily_cache.last_5_games_ppg,
  daily_cache.last_10_games_ppg,
  daily_cache.season_avg_ppg
FROM nba_precompute.player_composite_factors AS composite
LEFT JOIN nba_precompute.team_defense_zone_analysis AS team_defense
  ON team_defense.analysis_date = composite.analysis_date
  AND team_defense.team_abbreviation = composite.opponent_abbreviation
LEFT JOIN nba_precompute.player_shot_zone_analysis AS player_shot
  ON player_shot.analysis_date = composite.analysis_date
  AND player_shot.player_id = composite.player_id
LEFT JOIN nba_precompute.player_daily_cache AS daily_cache
  ON daily_cache.analysis_date = composite.analysis_date
  AND daily_cache.player_id = composite.player_id
