{{ head("Purpose", "how many rows each Phase 4 table holds for the date: what the build relies on, and the deadline's probe; for a build also how many keys, and which rows look wrong.") }}
{{ head("Parameters", "analysis_date DATE; as_of TIMESTAMP (rows processed later are not seen; without it the condition is left out); old_before, ahead_after TIMESTAMP (rows processed before and after; a probe leaves both out, and counts rows, rows with a key and rows with processed_at).") }}
{{ head("Reads", blocks | map(attribute="table") | join(", ") ~ ".") }}
{{ head("Result", "(processor, row_count, undated_rows, old_rows, ahead_rows, not_finite, key_count, doubled_keys), one row per processor, 0 where there is nothing. doubled_keys counts the keys with several rows; undated_rows the rows without processed_at; not_finite holds the number of NaN and infinite values of each FLOAT64 feature, in the order of the catalogue.") }}
{{ head("Second run", "reads only.") }}
{% for block in blocks %}
{% if with_facts %}
{% set floats = features_of(block.name) | selectattr("phase4.not_finite") | list %}
SELECT
  '{{ block.processor }}' AS processor,
  counted.*,
  keyed.*
FROM (
  SELECT
    COUNT(*) AS row_count,
    COUNT(IF(processed_at IS NULL, 1, NULL)) AS undated_rows,
    COUNT(IF(processed_at < @old_before, 1, NULL)) AS old_rows,
    COUNT(IF(processed_at > @ahead_after, 1, NULL)) AS ahead_rows,
    [
{% for feature in floats %}
      COUNT(IF({{ feature.phase4.not_finite }}, 1, NULL)){{ "" if loop.last else "," }}
{% endfor %}
    ] AS not_finite
  FROM {{ source(block.table) }}
  WHERE analysis_date = @analysis_date{{ seen }}
) AS counted
CROSS JOIN (
  SELECT
    COUNT({{ block.key }}) AS key_count,
    COUNT(IF(key_rows > 1, {{ block.key }}, NULL)) AS doubled_keys
  FROM (
    SELECT {{ block.key }}, COUNT(*) AS key_rows
    FROM {{ source(block.table) }}
    WHERE analysis_date = @analysis_date{{ seen }}
    GROUP BY {{ block.key }}
  )
) AS keyed
{% else %}
{# Counting key and processed_at makes the probe fail where a build could not use the rows. #}
SELECT
  '{{ block.processor }}' AS processor,
  COUNT(*) AS row_count,
  COUNT({{ block.key }}) AS keyed_rows,
  COUNT(processed_at) AS dated_rows
FROM {{ source(block.table) }}
WHERE analysis_date = @analysis_date{{ seen }}
{% endif %}
{% if not loop.last %}
UNION ALL
{% endif %}
{% endfor %}
