{{ head("Purpose", "how many rows each Phase 4 table holds for the date: what the build relies on, and the deadline's probe.") }}
{{ head("Parameters", "analysis_date DATE; as_of TIMESTAMP (rows processed later are not seen; without it the condition is left out).") }}
{{ head("Reads", blocks | map(attribute="table") | join(", ") ~ ".") }}
{{ head("Result", "(processor, row_count), one row per processor, 0 where there is nothing.") }}
{{ head("Second run", "reads only.") }}
{% for block in blocks %}
SELECT '{{ block.processor }}' AS processor, COUNT(*) AS row_count
FROM {{ source(block.table) }}
WHERE analysis_date = @analysis_date{{ seen }}
{% if not loop.last %}
UNION ALL
{% endif %}
{% endfor %}
