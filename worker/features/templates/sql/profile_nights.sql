{{ head("Purpose", "the nights with which a build is compared, with the statistics of their features.") }}
{{ head("Parameters", "nights INT64 (how many at most); first_date, last_date DATE (both ends included).") }}
{{ head("Reads", [tables.history, tables.ledger, tables.profile] | join(", ") ~ ".") }}
{{ head("Result", "one row per feature of the newest published nights without a critical finding; one row without feature for a night without statistics. active_count: " ~ entity.plural ~ " of the roster, with and without a row.") }}
{{ head("Second run", "reads only.") }}
WITH nights AS (
  SELECT analysis_date, build_id, row_count + left_out AS active_count
  FROM {{ tables.history }}
  WHERE analysis_date BETWEEN @first_date AND @last_date
    AND build_id IN (
      SELECT build_id
      FROM {{ tables.ledger }}
      WHERE analysis_date BETWEEN @first_date AND @last_date AND generation > 0
    )
    AND {{ believable }}
  QUALIFY ROW_NUMBER() OVER (ORDER BY analysis_date DESC, build_id, row_count, left_out) <= @nights
)
SELECT
  nights.analysis_date,
  nights.active_count,
{% for column in profiled %}
  profile.{{ column }}{{ "" if loop.last else "," }}
{% endfor %}
FROM nights
LEFT JOIN {{ tables.profile }} AS profile
  ON profile.analysis_date = nights.analysis_date
  AND profile.build_id = nights.build_id
  AND profile.analysis_date BETWEEN @first_date AND @last_date
