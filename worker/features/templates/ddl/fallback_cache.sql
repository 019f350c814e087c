{{ head("Purpose", "the fallback values of the active " ~ entity.plural ~ ", stored by Phase 3 for the night. The build does not read the table: see docs/adr/0013.") }}
{{ head("Parameters", "none.") }}
{{ head("Creates", table) }}
{{ head("Result", "one row per cache_date (the analysis date of use) and " ~ entity.key ~ ". A column named after a Phase 3 table holds the date of the values from this table, so that freshness stays visible.") }}
{{ head("Second run", "changes nothing.") }}
CREATE TABLE IF NOT EXISTS {{ table }} (
  cache_date DATE NOT NULL,
{% for column in identity if column.name != entity.label and column.type != "BOOL" %}
  {{ column.name }} {{ column.type }}{{ " NOT NULL" if column.name == entity.key }},
{% endfor %}
{% for feature in features %}
  {{ feature.name }} {{ feature.type }},
{% endfor %}
{% for source in phase3_tables %}
  {{ source.short }}_date DATE,
{% endfor %}
  processed_at TIMESTAMP NOT NULL
)
PARTITION BY cache_date
CLUSTER BY {{ entity.key }}
