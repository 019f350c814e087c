JOIN (
  SELECT DISTINCT analysis_date, build_id
  FROM {{ tables.ledger }}
  WHERE generation > 0
) AS published
