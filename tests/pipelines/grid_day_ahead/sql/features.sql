-- Purpose:     every zone of the date with its forecasts, each from its model where it has a value, else from the latest
--              observation of the lookback window, else NULL.
-- Parameters:  @analysis_date, @lookback_start, @previous_date DATE; @as_of TIMESTAMP or NULL;
--              @use_weather, @use_demand, @use_price BOOL; @build_generation INT64; @build_id STRING; @built_at TIMESTAMP.
-- Reads:       grid_raw.zones, the three model tables, grid_history.observations.
-- Result:      one row per zone: the published columns, left_out_reason, and how many cells came from each phase.
-- Second run:  reads only.
WITH zones AS (
  SELECT zone_code, zone_name
  FROM grid_raw.zones
  WHERE valid_on = @analysis_date
  QUALIFY ROW_NUMBER() OVER (PARTITION BY zone_code ORDER BY processed_at DESC) = 1
),
weather AS (
  SELECT zone_code, temperature_c, wind_m_s
  FROM grid_models.weather_ensemble
  WHERE @use_weather AND analysis_date = @analysis_date AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (PARTITION BY zone_code ORDER BY processed_at DESC) = 1
),
demand AS (
  SELECT zone_code, load_mw
  FROM grid_models.demand_curves
  WHERE @use_demand AND analysis_date = @analysis_date AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (PARTITION BY zone_code ORDER BY processed_at DESC) = 1
),
price AS (
  SELECT zone_code, price_eur_mwh
  FROM grid_models.price_curves
  WHERE @use_price AND analysis_date = @analysis_date AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (PARTITION BY zone_code ORDER BY processed_at DESC) = 1
),
observed AS (
  SELECT zone_code, observed_on, temperature_c, wind_speed, load_mw, price_eur_mwh
  FROM grid_history.observations
  WHERE observed_on BETWEEN @lookback_start AND @previous_date AND (@as_of IS NULL OR processed_at <= @as_of)
  QUALIFY ROW_NUMBER() OVER (PARTITION BY zone_code ORDER BY observed_on DESC, processed_at DESC) = 1
),
cells AS (
  SELECT
    zones.zone_code,
    zones.zone_name,
    observed.observed_on,
    COALESCE(weather.temperature_c, observed.temperature_c) AS temperature_c,
    COALESCE(weather.wind_m_s, observed.wind_speed) AS wind_m_s,
    COALESCE(demand.load_mw, observed.load_mw) AS load_mw,
    COALESCE(price.price_eur_mwh, observed.price_eur_mwh) AS price_eur_mwh,
    IF(weather.temperature_c IS NULL, 0, 1) + IF(weather.wind_m_s IS NULL, 0, 1) AS weather_phase4_cells,
    IF(demand.load_mw IS NULL, 0, 1) AS demand_phase4_cells,
    IF(price.price_eur_mwh IS NULL, 0, 1) AS price_phase4_cells
  FROM zones
  LEFT JOIN weather ON weather.zone_code = zones.zone_code
  LEFT JOIN demand ON demand.zone_code = zones.zone_code
  LEFT JOIN price ON price.zone_code = zones.zone_code
  LEFT JOIN observed ON observed.zone_code = zones.zone_code
),
counted AS (
  SELECT
    *,
    IF(temperature_c IS NULL, 0, 1) + IF(wind_m_s IS NULL, 0, 1) - weather_phase4_cells AS weather_phase3_cells,
    IF(load_mw IS NULL, 0, 1) - demand_phase4_cells AS demand_phase3_cells,
    IF(price_eur_mwh IS NULL, 0, 1) - price_phase4_cells AS price_phase3_cells
  FROM cells
)
SELECT
  @analysis_date AS analysis_date,
  zone_code,
  zone_name,
  temperature_c,
  wind_m_s,
  load_mw,
  price_eur_mwh,
  CAST(IF(weather_phase3_cells + demand_phase3_cells + price_phase3_cells = 0, 100, 75) AS FLOAT64) AS quality_score,
  IF(
    weather_phase3_cells + demand_phase3_cells + price_phase3_cells = 0,
    'phase4',
    IF(weather_phase4_cells + demand_phase4_cells + price_phase4_cells = 0, 'phase3', 'mixed')
  ) AS data_source,
  weather_phase4_cells + demand_phase4_cells + price_phase4_cells > 0 AS phase4_available,
  weather_phase3_cells + demand_phase3_cells + price_phase3_cells > 0 AS phase3_fallback_used,
  IF(weather_phase4_cells = 2, 'phase4', IF(weather_phase3_cells = 2, 'phase3', 'mixed')) AS weather_source,
  IF(demand_phase4_cells = 1, 'phase4', IF(demand_phase3_cells = 1, 'phase3', 'missing')) AS demand_source,
  IF(price_phase4_cells = 1, 'phase4', IF(price_phase3_cells = 1, 'phase3', 'missing')) AS price_source,
  ARRAY<STRING>[] AS phase3_features,
  ARRAY<STRING>[] AS missing_features,
  IF(weather_phase4_cells + demand_phase4_cells + price_phase4_cells > 0, @analysis_date, observed_on)
    AS source_data_date,
  @build_generation AS build_generation,
  @build_id AS build_id,
  @built_at AS processed_at,
  IF(load_mw IS NULL, 'no load_mw in Phase 4 or Phase 3', NULL) AS left_out_reason,
  weather_phase4_cells,
  weather_phase3_cells,
  demand_phase4_cells,
  demand_phase3_cells,
  price_phase4_cells,
  price_phase3_cells
FROM counted
