{{ head("Purpose", "one row of one published build, whole.") }}
{{ head("Parameters", "analysis_date DATE; build_id STRING; " ~ entity.key ~ " " ~ lookups[0].type ~ ".") }}
{{ head("Reads", tables.generations ~ ".") }}
{{ head("Result", "one row; none if the build has no row of this " ~ entity.key ~ ".") }}
{{ head("Second run", "reads only.") }}
SELECT
  {{ shown(2) }}
FROM {{ tables.generations }}
WHERE
  analysis_date = @analysis_date AND build_id = @build_id AND left_out_reason IS NULL
  AND {{ entity.key }} = @{{ entity.key }}
