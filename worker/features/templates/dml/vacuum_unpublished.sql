{{ head("Purpose", "delete the rows of unpublished attempts that cannot publish any more.") }}
{{ head("Parameters", "processed_before TIMESTAMP (rows processed later stay).") }}
{{ head("Reads", tables.ledger ~ ".") }}
{{ head("Changes", tables.generations ~ ".") }}
{{ head("Result", "the number of rows deleted. Rows that are or were published stay, and rows of the newest claim of a date, and rows of a date without a ledger row.") }}
{{ head("Second run", "changes nothing.") }}
DELETE FROM {{ tables.generations }} AS made
WHERE
  {% include "parts/unpublished.sql" %}
