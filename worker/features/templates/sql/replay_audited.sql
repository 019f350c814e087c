{{ head("Purpose", "whether a replay has its audit row.") }}
{{ head("Parameters", "@analysis_date DATE; @request_id STRING.") }}
{{ head("Reads", tables.replay ~ ".") }}
{{ head("Result", "one row with the number of rows of that request, 0 or 1.") }}
{{ head("Second run", "reads only.") }}
SELECT COUNT(*) AS row_count
FROM {{ tables.replay }}
WHERE analysis_date = @analysis_date AND request_id = @request_id
