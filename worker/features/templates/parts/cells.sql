{# How many cells of each block a row has, in a SELECT list. #}
{% for block in blocks %}
    (
      {{ features_of(block.name) | each("IF({} IS NULL, 0, 1)") | joined("+", 6) }}
    ) AS {{ block.name }}_cells{{ "" if loop.last else "," }}
{% endfor %}
