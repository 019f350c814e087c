-- Purpose:     the counts from which a staged build is scored.
-- Parameters:  none.
-- Reads:       mlfs_staging.this_build.
-- Result:      one row.
-- Second run:  reads only.
SELECT
  COUNT(IF(left_out_reason IS NULL, 1, NULL)) AS row_count,
  COUNT(IF(left_out_reason IS NOT NULL, 1, NULL)) AS left_out_count,
  COUNT(*) AS weather_zones,
  COUNT(*) AS demand_zones,
  COUNT(*) AS price_zones,
  COALESCE(SUM(IF(left_out_reason IS NULL, weather_phase4_cells, 0)), 0) AS weather_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, weather_phase3_cells, 0)), 0) AS weather_phase3_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, demand_phase4_cells, 0)), 0) AS demand_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, demand_phase3_cells, 0)), 0) AS demand_phase3_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, price_phase4_cells, 0)), 0) AS price_phase4_cells,
  COALESCE(SUM(IF(left_out_reason IS NULL, price_phase3_cells, 0)), 0) AS price_phase3_cells,
  COALESCE(
    SUM(IF(left_out_reason IS NULL, IF(load_mw IS NULL, 1, 0) + IF(price_eur_mwh IS NULL, 1, 0), 0)), 0
  ) AS required_nulls,
  MAX(IF(left_out_reason IS NULL, source_data_date, NULL)) AS newest_source_date
FROM mlfs_staging.this_build
