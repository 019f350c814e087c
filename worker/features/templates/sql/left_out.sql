{{ head("Purpose", "the active " ~ entity.plural ~ " that get no row, and why.") }}
{{ head("Parameters", "none.") }}
{{ head("Reads", "mlfs_staging.this_build.") }}
{{ head("Result", "(" ~ listed | map(attribute="name") | join(", ") ~ ", reason), by " ~ entity.key ~ ", at most a thousand.") }}
{{ head("Second run", "reads only.") }}
SELECT {{ listed | map(attribute="name") | join(", ") }}, left_out_reason AS reason
FROM mlfs_staging.this_build
WHERE left_out_reason IS NOT NULL
ORDER BY {{ entity.key }}
LIMIT 1000
