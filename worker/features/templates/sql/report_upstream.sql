{% set games = phase3_tables | selectattr("matches", "equalto", entity.key) | list %}
{{ head("Purpose", "what upstream holds now for a date: the Phase 4 tables, what a fallback would read, the active " ~ entity.plural ~ ".") }}
{{ head("Parameters", "analysis_date DATE; lookback_start DATE, previous_date DATE (first and last date of a fallback's rows).") }}
{{ head("Reads", (blocks | map(attribute="table") | list + games | map(attribute="name") | list + [entity.roster]) | join(", ") ~ ".") }}
{{ head("Result", "(source, row_count, last_processed), one row per table; 0 and NULL where there is nothing.") }}
{{ head("Second run", "reads only.") }}
{% for block in blocks %}
SELECT '{{ block.processor }}' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM {{ source(block.table) }}
WHERE analysis_date = @analysis_date
UNION ALL
{% endfor %}
{% for table in games %}
SELECT '{{ table.short }}' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM {{ source(table.name) }}
WHERE {{ table.date }} BETWEEN @lookback_start AND @previous_date
UNION ALL
{% endfor %}
SELECT '{{ roster.short }}' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM {{ source(entity.roster) }}
WHERE {{ roster.date }} = @analysis_date
