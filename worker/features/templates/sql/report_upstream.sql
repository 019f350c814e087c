{% set read = blocks | map(attribute="table") | list + phase3_tables | map(attribute="name") | list + [entity.roster] + ([schedule.table] if schedule else []) %}
{{ head("Purpose", "what upstream holds now for a date: the Phase 4 tables, what a fallback would read, the active " ~ entity.plural ~ ("" if schedule is none else ", the games") ~ ".") }}
{{ head("Parameters", "analysis_date DATE; lookback_start DATE, previous_date DATE (first and last date of a fallback's rows).") }}
{{ head("Reads", read | join(", ") ~ ".") }}
{{ head("Result", "(source, row_count, last_processed), one row per table: the processor of a Phase 4 table, else the table without its dataset; 0 and NULL where there is nothing.") }}
{{ head("Second run", "reads only.") }}
{% for block in blocks %}
SELECT '{{ block.processor }}' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM {{ source(block.table) }}
WHERE analysis_date = @analysis_date
UNION ALL
{% endfor %}
{% for table in phase3_tables %}
SELECT '{{ table.short }}' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM {{ source(table.name) }}
WHERE {{ table.date }} BETWEEN @lookback_start AND @previous_date
UNION ALL
{% endfor %}
{% if schedule %}
SELECT '{{ upstream_tables[schedule.table].short }}' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM {{ source(schedule.table) }}
WHERE {{ upstream_tables[schedule.table].date }} = @analysis_date
UNION ALL
{% endif %}
SELECT '{{ roster.short }}' AS source, COUNT(*) AS row_count, MAX(processed_at) AS last_processed
FROM {{ source(entity.roster) }}
WHERE {{ roster.date }} = @analysis_date
