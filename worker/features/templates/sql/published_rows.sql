{{ head("Purpose", "the rows of one published build, the published one or one before it.") }}
{{ head("Parameters", "analysis_date DATE; build_id STRING.") }}
{{ head("Reads", tables.generations ~ ".") }}
{{ head("Result", "one row per " ~ entity.key ~ ", every published column, in this order; none where the rows were deleted.") }}
{{ head("Second run", "reads only; the same rows each time, for as long as they are there; NaN and infinity, which older releases stored, are NULL.") }}
SELECT
  {{ shown(2) }}
FROM {{ tables.generations }}
WHERE analysis_date = @analysis_date AND build_id = @build_id AND left_out_reason IS NULL
ORDER BY {{ entity.key }}
