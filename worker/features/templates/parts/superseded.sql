{# Which rows of `made` belong to a generation in whose place another one was published, long enough ago. #}
made.build_id IN (
    SELECT older.build_id
    FROM {{ tables.ledger }} AS ledger,
      UNNEST(ledger.publications) AS older,
      UNNEST(ledger.publications) AS newer
    WHERE newer.generation > older.generation AND newer.committed_at < @superseded_before
  )
  AND made.build_id NOT IN (SELECT build_id FROM {{ tables.ledger }} WHERE build_id IS NOT NULL)
