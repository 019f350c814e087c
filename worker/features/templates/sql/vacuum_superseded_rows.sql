{{ head("Purpose", "what vacuum_superseded would delete.") }}
{{ head("Parameters", "superseded_before TIMESTAMP.") }}
{{ head("Reads", tables.ledger ~ ", " ~ tables.generations ~ ".") }}
{{ head("Result", "one row; rows that were left out count, too.") }}
{{ head("Second run", "reads only.") }}
SELECT COUNT(*) AS row_count
FROM {{ tables.generations }} AS made
WHERE
  {% include "parts/superseded.sql" %}
