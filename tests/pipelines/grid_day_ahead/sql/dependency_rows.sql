-- Purpose:     how many rows each model's table holds for the date.
-- Parameters:  @analysis_date DATE; @as_of TIMESTAMP or NULL.
-- Reads:       the three model tables.
-- Result:      (processor, row_count), one row per processor.
-- Second run:  reads only.
SELECT 'weather_ensemble' AS processor, COUNT(*) AS row_count
FROM grid_models.weather_ensemble
WHERE analysis_date = @analysis_date AND (@as_of IS NULL OR processed_at <= @as_of)
UNION ALL
SELECT 'demand_curves' AS processor, COUNT(*) AS row_count
FROM grid_models.demand_curves
WHERE analysis_date = @analysis_date AND (@as_of IS NULL OR processed_at <= @as_of)
UNION ALL
SELECT 'price_curves' AS processor, COUNT(*) AS row_count
FROM grid_models.price_curves
WHERE analysis_date = @analysis_date AND (@as_of IS NULL OR processed_at <= @as_of)
