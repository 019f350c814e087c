{{ head("Purpose", "delete the canary's row, with the rows of builds of the canary that died.") }}
{{ head("Parameters", "analysis_date DATE.") }}
{{ head("Reads", "no other table.") }}
{{ head("Changes", tables.generations ~ ".") }}
{{ head("Result", "the number of rows deleted. Rows with another reason to be left out, or with none, stay.") }}
{{ head("Second run", "changes nothing.") }}
DELETE FROM {{ tables.generations }} AS made
WHERE made.analysis_date = @analysis_date AND made.left_out_reason = '{{ canary_reason }}'
