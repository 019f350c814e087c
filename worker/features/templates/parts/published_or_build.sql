{# What a FROM reads: the published rows, or those of one build, in brackets. #}
{% if rows_of %}
FROM (
{% include "sql/" ~ rows_of ~ ".sql" %}
)
{% else %}
FROM {{ tables.published }}
{% endif %}
