{# The cells that the row lacks, in a SELECT list. Needs present_cells and cells_wanted. #}
  CASE
    WHEN present_cells = cells_wanted THEN ARRAY<STRING>[]
    ELSE SPLIT(
      RTRIM(
        CONCAT(
{% for feature in features %}
          IF({{ schedule.plays ~ " AND " if needs_game(block_of(feature)) }}{{ feature.name }} IS NULL, '{{ feature.name }},', ''){{ "" if loop.last else "," }}
{% endfor %}
        ),
        ','
      ),
      ','
    )
  END AS missing_features,
