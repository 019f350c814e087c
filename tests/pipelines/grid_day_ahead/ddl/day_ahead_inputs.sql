-- Purpose:     which model tables had rows for each published date.
-- Parameters:  none.
-- Creates:     grid_out.day_ahead_inputs
-- Result:      one row per analysis_date, replaced by each commit.
-- Second run:  changes nothing.
CREATE TABLE IF NOT EXISTS grid_out.day_ahead_inputs (
  analysis_date DATE NOT NULL,
  weather_available BOOL NOT NULL,
  demand_available BOOL NOT NULL,
  price_available BOOL NOT NULL,
  weather_rows INT64 NOT NULL,
  demand_rows INT64 NOT NULL,
  price_rows INT64 NOT NULL,
  generation INT64 NOT NULL,
  build_id STRING NOT NULL,
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY analysis_date
CLUSTER BY analysis_date
