"""What BigQuery charged for the pipeline's jobs, by their labels; and what bytes cost."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from worker.features.model import StepCost

# Where BigQuery puts what names no place.
DEFAULT_LOCATION = "US"
BYTES_PER_TIB = 1024**4
# Each table that a query reads is billed with ten megabytes at least.
BILLED_MIN_PER_TABLE = 10 * 1024**2

# A script's own row sums up its statements, so the statements' rows (they have a parent) would count twice. The view is
# partitioned by creation_time.
# By project: the worker's jobs and those of people count alike. JOBS_BY_USER would show people their own jobs only.
COSTS_SQL = """
WITH labelled AS (
  SELECT
    DATE(creation_time) AS executed_on,
    (SELECT label.value FROM UNNEST(labels) AS label WHERE label.key = 'analysis_date') AS analysis_date,
    (SELECT label.value FROM UNNEST(labels) AS label WHERE label.key = 'step') AS step,
    (SELECT label.value FROM UNNEST(labels) AS label WHERE label.key = 'pipeline') AS pipeline,
    total_bytes_processed, total_bytes_billed, total_slot_ms
  FROM jobs_view
  WHERE creation_time >= @since AND creation_time < @until AND job_type = 'QUERY' AND parent_job_id IS NULL
)
SELECT
  executed_on, analysis_date, step, COUNT(*) AS jobs,
  COALESCE(SUM(total_bytes_processed), 0) AS bytes_processed,
  COALESCE(SUM(total_bytes_billed), 0) AS bytes_billed,
  COALESCE(SUM(total_slot_ms), 0) AS slot_ms
FROM labelled
WHERE pipeline = @pipeline
GROUP BY executed_on, analysis_date, step
ORDER BY executed_on DESC, analysis_date, step
"""


def jobs_view(location: str | None) -> str:
    """Return the name of the project's job history for the region or multi-region in which the datasets lie."""
    return f"`region-{(location or DEFAULT_LOCATION).lower()}`.INFORMATION_SCHEMA.JOBS_BY_PROJECT"


def costs_sql(location: str | None) -> str:
    """Return the report's SQL for the region or multi-region in which the datasets lie."""
    return COSTS_SQL.replace("jobs_view", jobs_view(location))


def usd(bytes_billed: int, usd_per_tib: float) -> float:
    """Price bytes on demand."""
    return bytes_billed / BYTES_PER_TIB * usd_per_tib


def read_costs(rows: Sequence[Mapping[str, Any]], usd_per_tib: float) -> list[StepCost]:
    """Read the report's rows."""
    return [
        StepCost(
            executed_on=row["executed_on"],
            analysis_date=date.fromisoformat(row["analysis_date"]) if row["analysis_date"] else None,
            step=row["step"] or "",
            jobs=row["jobs"],
            bytes_processed=row["bytes_processed"],
            bytes_billed=row["bytes_billed"],
            slot_ms=row["slot_ms"],
            usd=usd(row["bytes_billed"], usd_per_tib),
        )
        for row in rows
    ]
