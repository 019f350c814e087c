WITH this_build AS (
{% if rows_of %}
{% include "sql/" ~ rows_of ~ ".sql" %}
{% else %}
  SELECT *
  FROM {{ tables.generations }}
  WHERE analysis_date = @analysis_date AND build_id = @build_id
{% endif %}
)
