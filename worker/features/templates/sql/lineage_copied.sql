{{ head("Purpose", "the row that the statement yesterday copies for one " ~ entity.key ~ ", with the current values.") }}
{{ head("Parameters", "earliest_date, previous_date DATE (the nights that may be copied, both ends included); " ~ entity.key ~ " " ~ lookups[0].type ~ ".") }}
{{ head("Reads", tables.published ~ ".") }}
{{ head("Result", "one row with every published column; none if the copied build has no row of this " ~ entity.key ~ ".") }}
{{ head("Second run", "reads only.") }}
WITH night AS (
  SELECT MAX(analysis_date) AS copied_date
  FROM {{ tables.published }}
  WHERE analysis_date BETWEEN @earliest_date AND @previous_date AND data_source <> 'yesterday'
)
SELECT
  {{ shown(2, "published") }}
FROM {{ tables.published }} AS published
JOIN night ON night.copied_date = published.analysis_date
WHERE published.analysis_date BETWEEN @earliest_date AND @previous_date AND published.{{ entity.key }} = @{{ entity.key }}
