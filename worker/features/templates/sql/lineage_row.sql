{{ head("Purpose", "one published row, whole.") }}
{{ head("Parameters", "analysis_date DATE; " ~ entity.key ~ " " ~ lookups[0].type ~ ".") }}
{{ head("Reads", tables.published ~ ".") }}
{{ head("Result", "one row; none for a " ~ entity.singular ~ " without a row that night.") }}
{{ head("Second run", "reads only.") }}
SELECT *
FROM {{ tables.published }}
WHERE analysis_date = @analysis_date AND {{ entity.key }} = @{{ entity.key }}
