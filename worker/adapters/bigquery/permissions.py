"""Permission tests for `mlfs doctor`, run with the account of the worker.

Each test needs only permissions of a worker. The write test inserts a row into the audit table in a transaction that is
rolled back. The script counts the row before the rollback and selects the count as the last statement, because BigQuery
does not document whether the rows of an earlier SELECT are the answer. Read tests accept an empty table: missing data
is no missing permission. A crash leaves no row, because BigQuery rolls an abandoned transaction back.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta

from google.cloud.bigquery import Client, QueryJobConfig, ScalarQueryParameter, TableReference

from worker.adapters.bigquery.costs import jobs_view
from worker.adapters.bigquery.errors import translated_errors
from worker.errors import Fatal
from worker.pipelines.shipped import REPLAY_TABLE, SHIPPED

CALL_S = 60.0
TABLE_PERMISSIONS = ("bigquery.tables.get", "bigquery.tables.getData", "bigquery.tables.updateData")
"""Permissions of a worker on each table of the product, and all permissions in `ops/terraform/roles.yaml` there."""
VIEW_PERMISSIONS = TABLE_PERMISSIONS[:2]
"""Permissions of a worker on each view of the product."""

PHASE4 = "SELECT COUNT(*) AS row_count FROM nba_precompute.player_composite_factors WHERE analysis_date = @day"
PHASE3 = "SELECT COUNT(*) AS row_count FROM nba_analytics.player_game_summary WHERE game_date = @day"
ROSTER = "SELECT COUNT(*) AS row_count FROM nba_raw.nbac_player_list WHERE snapshot_date = @day"
FOUND = f"SELECT COUNT(*) AS row_count FROM {REPLAY_TABLE} WHERE analysis_date = @day AND request_id = @mark"  # noqa: S608 -- from the catalogue
WRITTEN = f"""DECLARE found INT64;
BEGIN TRANSACTION;
INSERT INTO {REPLAY_TABLE} (analysis_date, requested_at, requested_by, reason, mode, request_id, decision)
VALUES (@day, CAST(@day AS TIMESTAMP), 'mlfs doctor', 'permission test, rolled back', 'normal', @mark, 'none');
SET found = ({FOUND});
ROLLBACK TRANSACTION;
SELECT found AS row_count;"""  # noqa: S608 -- from the catalogue


class PermissionTests:
    """A run of the permission tests. A failing test raises `Fatal` or `Unavailable`."""

    def __init__(self, client: Client, analysis_date: date, mark: str) -> None:
        """Prepare the tests without a call to BigQuery.

        Args:
            client: Signed in as the account to test.
            analysis_date: The analysis date for the row counts.
            mark: Name of the written row: letters, digits, underscores.
        """
        self._client = client
        self._day = analysis_date
        self._mark = mark
        self._found = 0

    def tests(self) -> Mapping[str, Callable[[], None]]:
        """Return the tests by name, in order: a test may depend on the test before."""
        return {
            "read nba_precompute (Phase 4)": lambda: self._count(PHASE4, self._day),
            "read nba_analytics (Phase 3)": lambda: self._count(PHASE3, self._day - timedelta(days=1)),
            "write nba_predictions": self._write,
            "read back the written row": self._read_back,
            "read nba_raw (roster, schedule)": lambda: self._count(ROSTER, self._day),
            "permissions on each of the worker's tables and views": self._ask,
            "see what jobs cost (mlfs cost)": self._see_costs,
        }

    def remove(self) -> None:
        """Check that the rollback removed the row; raise no error if no row was written."""
        if self._found and self._run(FOUND, self._marked()):
            raise Fatal(f"{REPLAY_TABLE} still has the row of {self._mark}, although the transaction was rolled back")

    def _count(self, sql: str, day: date) -> None:
        self._run(sql, QueryJobConfig(query_parameters=[ScalarQueryParameter("day", "DATE", day)]))

    def _write(self) -> None:
        self._found = self._run(WRITTEN, self._marked())

    def _read_back(self) -> None:
        if self._found != 1:
            raise Fatal(f"the row written to {REPLAY_TABLE} is not there")

    def _ask(self) -> None:
        lacking = [
            f"{permission} on {table}"
            for table in SHIPPED.tables.all
            for permission in sorted(set(_needed_on(table)) - self._granted(table))
        ]
        if lacking:
            raise Fatal(f"not granted: {', '.join(lacking)}")

    def _granted(self, table: str) -> frozenset[str]:
        reference = TableReference.from_string(table, default_project=self._client.project)
        with translated_errors(f"asking for permissions on {table}"):
            answer = self._client.test_iam_permissions(reference, _needed_on(table), timeout=CALL_S)
        return frozenset(answer.get("permissions", ()))

    def _see_costs(self) -> None:
        sql = f"SELECT COUNT(*) AS row_count FROM {jobs_view(self._client.location)} WHERE creation_time >= @since"  # noqa: S608 -- from the settings
        since = ScalarQueryParameter("since", "TIMESTAMP", datetime.combine(self._day, time(), UTC))
        self._run(sql, QueryJobConfig(query_parameters=[since]))

    def _marked(self) -> QueryJobConfig:
        day, mark = ScalarQueryParameter("day", "DATE", self._day), ScalarQueryParameter("mark", "STRING", self._mark)
        return QueryJobConfig(query_parameters=[day, mark])

    def _run(self, sql: str, config: QueryJobConfig) -> int:
        with translated_errors("testing a permission"):
            rows = list(self._client.query(sql, job_config=config, timeout=CALL_S).result(timeout=CALL_S))
        return int(rows[0][0]) if rows and isinstance(rows[0][0], int) else 0


def _needed_on(table: str) -> tuple[str, ...]:
    return VIEW_PERMISSIONS if table in SHIPPED.tables.views else TABLE_PERMISSIONS
