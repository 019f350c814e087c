{{ head("Purpose", "the active " ~ entity.plural ~ " that get no row, and why.") }}
{{ head("Parameters", "analysis_date DATE; build_id STRING.") }}
{{ head("Reads", tables.generations ~ ".") }}
{{ head("Result", "(" ~ listed | map(attribute="name") | join(", ") ~ ", reason), by " ~ entity.key ~ ", at most a thousand.") }}
{{ head("Second run", "reads only.") }}
{% include "parts/this_build.sql" %}
SELECT {{ listed | map(attribute="name") | join(", ") }}, left_out_reason AS reason
FROM this_build
WHERE left_out_reason IS NOT NULL
ORDER BY {{ entity.key }}
LIMIT 1000
