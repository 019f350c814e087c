"""Costs of the pipeline's BigQuery jobs, found by the labels of the jobs; and the price of bytes."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from worker.features.model import StepCost

# BigQuery's location for a dataset without a location.
DEFAULT_LOCATION = "US"
BYTES_PER_TIB = 1024**4
# BigQuery bills at least ten megabytes for each table in a query.
BILLED_MIN_PER_TABLE = 10 * 1024**2

# The row of a script includes the statements of the script, so rows with a parent job would count twice. The view is
# partitioned by creation_time. JOBS_BY_PROJECT counts the jobs of the worker and of people alike; JOBS_BY_USER would
# show an account only the jobs of this account.
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
    """Return the name of the project's job history in the region or multi-region of the datasets."""
    return f"`region-{(location or DEFAULT_LOCATION).lower()}`.INFORMATION_SCHEMA.JOBS_BY_PROJECT"


def costs_sql(location: str | None) -> str:
    """Return the SQL of the cost report for the region or multi-region of the datasets."""
    return COSTS_SQL.replace("jobs_view", jobs_view(location))


def usd(bytes_billed: int, usd_per_tib: float) -> float:
    """Return the on-demand price of bytes."""
    return bytes_billed / BYTES_PER_TIB * usd_per_tib


def read_costs(rows: Sequence[Mapping[str, Any]], usd_per_tib: float) -> list[StepCost]:
    """Convert the rows of the cost report."""
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
