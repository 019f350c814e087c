{{ head("Purpose", "delete the rows of generations superseded long ago.") }}
{{ head("Parameters", "superseded_before TIMESTAMP (generations that were superseded later stay).") }}
{{ head("Reads", tables.ledger ~ ".") }}
{{ head("Changes", tables.generations ~ ".") }}
{{ head("Result", "the number of rows deleted. The published generation of a date always stays.") }}
{{ head("Second run", "changes nothing.") }}
DELETE FROM {{ tables.generations }} AS made
WHERE
  {% include "parts/superseded.sql" %}
