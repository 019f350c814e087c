{# Which rows of `made` belong to an attempt that was never published, and that cannot publish any more. #}
made.processed_at < @processed_before
  -- A date is claimed before its rows are stored: where the ledger knows no such date, the ledger was lost.
  AND made.analysis_date IN (SELECT analysis_date FROM {{ tables.ledger }})
  AND made.build_id NOT IN (SELECT build_id FROM {{ tables.ledger }} WHERE build_id IS NOT NULL)
  AND made.build_id NOT IN (
    SELECT published.build_id
    FROM {{ tables.ledger }} AS ledger, UNNEST(ledger.publications) AS published
  )
  -- The rows of a claim that still stands: only their attempt can still publish them.
  AND made.build_id NOT IN (
    SELECT staged.build_id
    FROM {{ tables.generations }} AS staged
    JOIN {{ tables.ledger }} AS ledger
      ON ledger.analysis_date = staged.analysis_date AND ledger.claimed_generation = staged.build_generation
    WHERE ledger.generation < ledger.claimed_generation AND staged.processed_at >= ledger.claimed_at
  )
