{% set switches = blocks | each("use_{}") %}
{{ head("Purpose", "the active " ~ entity.plural ~ " of the date with their features, each cell from Phase 4 where it has a value, else from the latest Phase 3 row of the lookback window, else NULL; where each came from; the row's score.") }}
{{ head("Parameters", "analysis_date DATE; lookback_start, previous_date DATE (the Phase 3 window, both ends included); " ~ ("first_game_date, last_game_date DATE (the rows of the schedule that are looked at); " if schedule else "") ~ "as_of TIMESTAMP (upstream rows processed later are not seen; without it the condition is left out); " ~ switches | join(", ") ~ " BOOL (FALSE: as if that Phase 4 table had no row); build_generation INT64; build_id STRING; built_at TIMESTAMP.") }}
{{ head("Reads", (upstream | list + references | list) | join(", ") ~ ".") }}
{{ head("Result", "one row per active " ~ entity.key ~ ": the published columns, then left_out_reason (NULL for a row that may be published) and, per block, how many cells came from each phase." ~ (" opponent_source says whether the schedule or Phase 4 named the opponent, <block>_game how the block's Phase 4 table and the schedule agree." if schedule else "")) }}
{{ head("Second run", "reads only; the same parameters over the same tables give the same rows, but for ties (see below).") }}
--
-- The latest row counts, not the latest value: a NULL in it stays NULL. Of several rows for one key the newest
-- processed_at wins, so rows never multiply; of several with the very same one, any, and always whole. NaN and infinity
-- are NULL from where they are read.
WITH roster AS (
{% set key = listed | selectattr("name", "equalto", entity.key) | first %}
  SELECT
{% for column in listed %}
    {{ column.columns[0] }}{{ "" if column.columns[0] == column.name else " AS " ~ column.name }}{{ "" if loop.last else "," }}
{% endfor %}
  FROM {{ source(entity.roster) }}
  WHERE {{ roster.date }} = @analysis_date{{ seen }}
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {{ key.columns[0] }} ORDER BY processed_at DESC) = 1
),
{% if schedule %}
{% include "parts/scheduled.sql" %}
{% endif %}
{% for block in blocks %}
from_{{ block.name }} AS (
  SELECT
    {{ block.key }},
{% for column in columns_of_witness(block) %}
    {{ column }},
{% endfor %}
{% for feature in features_of(block.name) %}
    {{ feature.phase4.named(feature.name) | fit(4) }}{{ "" if loop.last else "," }}
{% endfor %}
  FROM {{ source(block.table) }}
  WHERE @use_{{ block.name }} AND analysis_date = @analysis_date{{ seen }}
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {{ block.key }} ORDER BY processed_at DESC) = 1
),
{% endfor %}
{% if schedule %}
{% include "parts/tonight.sql" %}
{% endif %}
{% set own_tables = phase3_tables | selectattr("matches", "equalto", entity.key) | list %}
with_phase4 AS (
  SELECT
{% for column in listed %}
    roster.{{ column.name }},
{% endfor %}
{% if schedule %}
    tonight.opponent AS {{ schedule.opponent }},
    tonight.team IS NOT NULL AS {{ schedule.plays }},
    tonight.told_by AS opponent_source,
{% for block in witnesses %}
    CASE
      WHEN from_{{ block.name }}.{{ schedule.plays }} IS NULL THEN NULL
      WHEN COALESCE(tonight.told_by, 'phase4') = 'phase4'
        THEN IF(from_{{ block.name }}.{{ schedule.plays }}, 'phase4 only', NULL)
      WHEN NOT from_{{ block.name }}.{{ schedule.plays }} THEN 'schedule only'
      WHEN from_{{ block.name }}.{{ schedule.opponent }} <> tonight.opponent THEN 'other opponent'
      ELSE 'same'
    END AS {{ block.name }}_game,
{% endfor %}
{% endif %}
{% for feature in features %}
    from_{{ feature.block }}.{{ feature.name }} AS phase4_{{ feature.name }}{{ "" if loop.last and not own_tables else "," }}
{% endfor %}
{% for table in own_tables %}
    (
{% for feature in features_from(table.name) %}
      {{ "OR " if not loop.first }}from_{{ feature.block }}.{{ feature.name }} IS NULL
{% endfor %}
    ) AS {{ table.short }}_gap{{ "" if loop.last else "," }}
{% endfor %}
  FROM roster
{% if schedule %}
  LEFT JOIN tonight ON tonight.team = roster.{{ schedule.team }}
{% endif %}
{% for block in blocks %}
  {{ ["LEFT JOIN from_" ~ block.name, "ON from_" ~ block.name ~ "." ~ block.key ~ " = " ~ looked_up(block.matches)] | fit(2) }}
{% endfor %}
),
{% for table in phase3_tables %}
{% set wanted = features_from(table.name) %}
{% if table in own_tables %}
-- Only {{ entity.plural }} with a gap: on most nights few have one, and this table is the largest. One window per sort key,
-- because DuckDB turns a window over one key into an aggregate, three times as fast as the sort that two would take.
from_{{ table.short }}_version AS (
  SELECT
    {{ table.key }},
    {{ table.date }},
{% for feature in wanted %}
    {{ feature.phase3.named(feature.name) | fit(4) }}{{ "" if loop.last else "," }}
{% endfor %}
  FROM {{ source(table.name) }}
  WHERE {{ table.date }} BETWEEN @lookback_start AND @previous_date{{ seen }}
    AND {{ table.key }} IN (SELECT {{ entity.key }} FROM with_phase4 WHERE {{ table.short }}_gap)
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {{ table.key }}, {{ table.date }} ORDER BY processed_at DESC) = 1
),
from_{{ table.short }} AS (
  SELECT
    {{ ([table.key, table.date] + wanted | each("{}")) | commas(4) }}
  FROM from_{{ table.short }}_version
  -- GoogleSQL refuses a QUALIFY without a WHERE beside it.
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {{ table.key }} ORDER BY {{ table.date }} DESC) = 1
),
{% else %}
from_{{ table.short }} AS (
  SELECT
    {{ table.key }},
    {{ table.date }},
{% for feature in wanted %}
    {{ feature.phase3.named(feature.name) | fit(4) }}{{ "" if loop.last else "," }}
{% endfor %}
  FROM {{ source(table.name) }}
  WHERE {{ table.date }} BETWEEN @lookback_start AND @previous_date{{ seen }}
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {{ table.key }} ORDER BY {{ table.date }} DESC, processed_at DESC) = 1
),
{% endif %}
{% endfor %}
cells AS (
  SELECT
    with_phase4.*,
{% for table in phase3_tables %}
    from_{{ table.short }}.{{ table.date }} AS {{ table.short }}_date,
{% endfor %}
{% for feature in features %}
    {{ [cell(feature), "AS " ~ feature.name] | fit(4) }}{{ "" if loop.last else "," }}
{% endfor %}
  FROM with_phase4
{% for table in phase3_tables %}
  {{ ["LEFT JOIN from_" ~ table.short, "ON from_" ~ table.short ~ "." ~ table.key ~ " = with_phase4." ~ table.matches] | fit(2) }}
{% endfor %}
),
counted AS (
  SELECT
    cells.*,
{% for block in blocks %}
    (
      {{ features_of(block.name) | each("IF(phase4_{} IS NULL, 0, 1)") | joined("+", 6) }}
    ) AS {{ block.name }}_phase4_cells,
{% if not block.required %}
    (SELECT COUNT(*) FROM from_{{ block.name }}) > 0 AS {{ block.name }}_there,
{% endif %}
{% endfor %}
{% include "parts/cells.sql" %}
  FROM cells
),
summed AS (
  SELECT
    counted.*,
    (
      {{ blocks | each("{}_phase4_cells") | joined("+", 6) }}
    ) AS phase4_cells,
    (
      {{ blocks | each("{}_cells") | joined("+", 6) }}
    ) AS present_cells,
    {{ cells_wanted() }} AS cells_wanted,
    -- Not from Phase 4, each block in {{ parts_of_a_block() }} parts, over the blocks that apply: whole numbers until the one division.
{% if blocks | rejectattr("required") | list %}
    -- An optional block applies if its Phase 4 table has a row of the date.
{% endif %}
    SAFE_DIVIDE(
      {{ parts_not_from_phase4() | joined("+", 6) }},
      {{ parts_wanted() | joined("+", 6) }}
    ) AS fallback_rate
  FROM counted
)
SELECT
  @analysis_date AS analysis_date,
{% for column in identity %}
  {{ column.name }},
{% endfor %}
{% for feature in features %}
  {{ feature.name }},
{% endfor %}
  -- 100 less the penalty for the row's fallback rate, a line through the corners of the pipeline's penalty_line.
  ROUND(
    CASE
{% for up_to, intercept, slope in score_line() %}
      {{ "ELSE" if loop.last else "WHEN fallback_rate <= " ~ up_to ~ " THEN" }} {{ intercept }} - {{ slope }} * fallback_rate
{% endfor %}
    END,
    1
  ) AS quality_score,
  CASE
    WHEN present_cells = 0 THEN 'missing'
    WHEN phase4_cells = present_cells THEN 'phase4'
    WHEN phase4_cells = 0 THEN 'phase3'
    ELSE 'mixed'
  END AS data_source,
  phase4_cells > 0 AS phase4_available,
  present_cells > phase4_cells AS phase3_fallback_used,
{% for block in blocks %}
  CASE
{% if needs_game(block) %}
    WHEN NOT {{ schedule.plays }} THEN NULL
{% endif %}
    WHEN {{ block.name }}_cells = 0 THEN 'missing'
    WHEN {{ block.name }}_phase4_cells = {{ block.name }}_cells THEN 'phase4'
    WHEN {{ block.name }}_phase4_cells = 0 THEN 'phase3'
    ELSE 'mixed'
  END AS {{ block.name }}_source,
{% endfor %}
  CASE
    WHEN present_cells = phase4_cells THEN ARRAY<STRING>[]
    ELSE SPLIT(
      RTRIM(
        CONCAT(
{% for feature in features %}
          {{ ["IF(phase4_" ~ feature.name ~ " IS NULL AND " ~ feature.name ~ " IS NOT NULL,", "'" ~ feature.name ~ ",', '')"] | fit(10) }}{{ "" if loop.last else "," }}
{% endfor %}
        ),
        ','
      ),
      ','
    )
  END AS phase3_features,
{% include "parts/missing_features.sql" %}
  CASE
    WHEN phase4_cells > 0 THEN @analysis_date
    WHEN present_cells = 0 THEN NULL
    ELSE GREATEST(
      -- Only the rows that gave a cell; a day before all data stands for those that gave none.
{% for table in phase3_tables %}
      IF(
        {{ features_from(table.name) | each("{} IS NOT NULL") | joined("OR", 8) }},
        {{ table.short }}_date,
        DATE '1900-01-01'
      ){{ "" if loop.last else "," }}
{% endfor %}
    )
  END AS source_data_date,
  @build_generation AS build_generation,
  @build_id AS build_id,
  @built_at AS processed_at,
  IF({{ entity.must_have }} IS NULL, 'no {{ entity.must_have }} in Phase 4 or Phase 3', NULL) AS left_out_reason,
{% for block in blocks %}
  {{ block.name }}_phase4_cells,
  {{ block.name }}_cells - {{ block.name }}_phase4_cells AS {{ block.name }}_phase3_cells{{ "" if loop.last and not schedule else "," }}
{% endfor %}
{% if schedule %}
  opponent_source{{ "," if witnesses }}
{% for block in witnesses %}
  {{ block.name }}_game{{ "" if loop.last else "," }}
{% endfor %}
{% endif %}
FROM summed
