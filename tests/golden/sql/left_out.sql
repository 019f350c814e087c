-- Purpose:     the active players that get no row, and why.
-- Parameters:  none.
-- Reads:       mlfs_staging.this_build.
-- Result:      (player_id, player_name, team_abbreviation, reason), by player_id, at most a thousand.
-- Second run:  reads only.
SELECT player_id, player_name, team_abbreviation, left_out_reason AS reason
FROM mlfs_staging.this_build
WHERE left_out_reason IS NOT NULL
ORDER BY player_id
LIMIT 1000
