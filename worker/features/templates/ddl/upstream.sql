{% set required = [upstream_table.date, upstream_table.key, "processed_at"] + ([schedule.game] if schedule and schedule.table == table else []) %}
{{ head("Purpose", upstream_table.purpose) }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", upstream_table.rows) }}
{{ head("Second run", "changes nothing.") }}
CREATE TABLE IF NOT EXISTS {{ table }} (
{% for name, type in upstream_columns.items() %}
  {{ name }} {{ type }}{{ " NOT NULL" if name in required }}{{ "" if loop.last else "," }}
{% endfor %}
)
PARTITION BY {{ upstream_table.date }}
CLUSTER BY {{ upstream_table.key }}
