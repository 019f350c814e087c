-- Purpose:     the day-ahead forecasts that are read downstream.
-- Parameters:  none.
-- Creates:     grid_out.day_ahead
-- Result:      one row per analysis_date and zone_code; a commit replaces the rows of its date.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS grid_out.day_ahead (
  analysis_date DATE NOT NULL,
  zone_code STRING NOT NULL,
  zone_name STRING,
  temperature_c FLOAT64,
  wind_m_s FLOAT64,
  load_mw FLOAT64,
  price_eur_mwh FLOAT64,
  quality_score FLOAT64 NOT NULL,
  data_source STRING NOT NULL,
  phase4_available BOOL,
  phase3_fallback_used BOOL,
  weather_source STRING,
  demand_source STRING,
  price_source STRING,
  phase3_features ARRAY<STRING>,
  missing_features ARRAY<STRING>,
  source_data_date DATE,
  build_generation INT64 NOT NULL,
  build_id STRING NOT NULL,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY zone_code
