"""The pipeline document's four cross-dataset permission tests, run as the account that will build: for `mlfs doctor`.

They read one Phase 4 and one Phase 3 table, write a scratch table beside the feature store's, read that back, and
remove it. Rows are not asked for: a night without data is no lack of permission.
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta

from google.cloud.bigquery import Client, QueryJobConfig, ScalarQueryParameter, TableReference

from worker.adapters.warehouse_bigquery_errors import translated_errors
from worker.errors import Fatal

CALL_S = 60.0
PHASE4 = "SELECT COUNT(*) AS row_count FROM nba_precompute.player_composite_factors WHERE analysis_date = @day"
PHASE3 = "SELECT COUNT(*) AS row_count FROM nba_analytics.player_game_summary WHERE game_date = @day"
WRITTEN = "SELECT @day AS analysis_date, 999999 AS player_id, CAST(25.5 AS FLOAT64) AS points_projection"


class PermissionTests:
    """One run of the four tests. Each raises `Fatal` or `Unavailable` where it does not pass."""

    def __init__(self, client: Client, analysis_date: date, scratch: str) -> None:
        """Prepare them; nothing is asked yet.

        Args:
            client: Signed in as the account to test.
            analysis_date: The date whose rows are counted.
            scratch: Name of the table to write in `nba_predictions`; replaced if it exists, removed afterwards.
        """
        self._client = client
        self._day = analysis_date
        self._scratch = TableReference.from_string(f"nba_predictions.{scratch}", default_project=client.project)

    def tests(self) -> Mapping[str, Callable[[], None]]:
        """Give the tests by name, in their order; the last one reads what the one before has written."""
        return {
            "read nba_precompute (Phase 4)": lambda: self._count(PHASE4, self._day),
            "read nba_analytics (Phase 3)": lambda: self._count(PHASE3, self._day - timedelta(days=1)),
            "write nba_predictions": self._write,
            "read back what was written": self._read_back,
        }

    def remove(self) -> None:
        """Remove the scratch table; no error when it was never written."""
        with translated_errors(f"removing {self._scratch}"):
            self._client.delete_table(self._scratch, not_found_ok=True, timeout=CALL_S)

    def _count(self, sql: str, day: date) -> None:
        self._run(sql, QueryJobConfig(query_parameters=[ScalarQueryParameter("day", "DATE", day)]))

    def _write(self) -> None:
        day = ScalarQueryParameter("day", "DATE", self._day)
        config = QueryJobConfig(query_parameters=[day], destination=self._scratch, write_disposition="WRITE_TRUNCATE")
        self._run(WRITTEN, config)

    def _read_back(self) -> None:
        table = f"{self._scratch.dataset_id}.{self._scratch.table_id}"
        # The name is made here, of a fixed prefix and hexadecimal digits.
        sql = f"SELECT COUNT(*) AS row_count FROM {table} WHERE player_id = 999999"  # noqa: S608
        if self._run(sql, QueryJobConfig()) != 1:
            raise Fatal(f"what was written to {table} is not there")

    def _run(self, sql: str, config: QueryJobConfig) -> int:
        with translated_errors("testing a permission"):
            rows = list(self._client.query(sql, job_config=config, timeout=CALL_S).result(timeout=CALL_S))
        return int(rows[0][0]) if rows and isinstance(rows[0][0], int) else 0
