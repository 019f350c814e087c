-- Purpose:     the zones that get no row, and why.
-- Parameters:  none.
-- Reads:       mlfs_staging.this_build.
-- Result:      (zone_code, zone_name, reason), by zone_code.
-- Second run:  reads only.
SELECT zone_code, zone_name, left_out_reason AS reason
FROM mlfs_staging.this_build
WHERE left_out_reason IS NOT NULL
ORDER BY zone_code
LIMIT 1000
