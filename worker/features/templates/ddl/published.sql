{{ head("Purpose", "the features that Phase 5 reads.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per analysis_date and " ~ entity.key ~ "; a commit replaces the rows of its date.") }}
{{ head("Second run", "changes nothing.") }}
CREATE TABLE IF NOT EXISTS {{ table }} (
{% for column in output_columns %}
  {{ column.name }} {{ column.type }}{{ " NOT NULL" if column.required }}{{ "" if loop.last else "," }}
{% endfor %}
)
PARTITION BY analysis_date
CLUSTER BY {{ entity.key }}
