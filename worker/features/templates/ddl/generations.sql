{{ head("Purpose", "the rows of every attempt to build a date, published or not; the ledger names the attempt that is published.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per analysis_date, build_id and " ~ entity.key ~ "; written once, never changed. A row with a left_out_reason is no published row. The columns that end in _cells count the cells of a block from each phase.") }}
{{ head("Second run", "changes nothing.") }}
CREATE TABLE IF NOT EXISTS {{ table }} (
{% for column in generation_columns %}
  {{ column.name }} {{ column.type }}{{ " NOT NULL" if column.required }}{{ "" if loop.last else "," }}
{% endfor %}
)
PARTITION BY analysis_date
CLUSTER BY build_id, {{ entity.key }}
