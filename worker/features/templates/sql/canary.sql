{{ head("Purpose", "the row that the canary writes, reads and deletes in each journey.") }}
{{ head("Parameters", "analysis_date DATE; build_generation INT64; build_id STRING; built_at TIMESTAMP.") }}
{{ head("Reads", "no table.") }}
{{ head("Result", "one row in the shape of the statement features, without values. No view shows the row: the row has a reason to be left out, and the ledger never names the build.") }}
{{ head("Second run", "reads only.") }}
SELECT
{% for column in generation_columns %}
  {{ canary_value(column) }} AS {{ column.name }}{{ "" if loop.last else "," }}
{% endfor %}
