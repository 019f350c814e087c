-- Purpose: the same roster, schedule and Phase 4 rows for the nights before the generated one.
-- Inputs:  the variable `nights` (1: nothing is added); the tables of entities.sql. Dialect: DuckDB.
-- Result:  `nights` nights in a row, the last one as generated. A second run would add the rows again.
INSERT INTO nba_raw.nbac_player_list
SELECT t.* REPLACE (t.snapshot_date - back::INTEGER AS snapshot_date) FROM nba_raw.nbac_player_list t, range(1, getvariable('nights')::BIGINT) AS r(back);
INSERT INTO nba_raw.nbac_schedule
SELECT t.* REPLACE (t.game_date - back::INTEGER AS game_date, t.game_id || '-' || back AS game_id) FROM nba_raw.nbac_schedule t, range(1, getvariable('nights')::BIGINT) AS r(back);
INSERT INTO nba_precompute.team_defense_zone_analysis
SELECT t.* REPLACE (t.analysis_date - back::INTEGER AS analysis_date) FROM nba_precompute.team_defense_zone_analysis t, range(1, getvariable('nights')::BIGINT) AS r(back);
INSERT INTO nba_precompute.player_shot_zone_analysis
SELECT t.* REPLACE (t.analysis_date - back::INTEGER AS analysis_date) FROM nba_precompute.player_shot_zone_analysis t, range(1, getvariable('nights')::BIGINT) AS r(back);
INSERT INTO nba_precompute.player_composite_factors
SELECT t.* REPLACE (t.analysis_date - back::INTEGER AS analysis_date) FROM nba_precompute.player_composite_factors t, range(1, getvariable('nights')::BIGINT) AS r(back);
INSERT INTO nba_precompute.player_daily_cache
SELECT t.* REPLACE (t.analysis_date - back::INTEGER AS analysis_date) FROM nba_precompute.player_daily_cache t, range(1, getvariable('nights')::BIGINT) AS r(back);
