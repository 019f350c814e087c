"""A BigQuery warehouse over the wire peer, and small publications to send through it."""

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from sqlglot import exp

from statemachine.model import BuildMode
from tests.support.bigquery_peer.engine import split_script
from tests.support.bigquery_peer.estimate import pruning_conditions
from tests.support.bigquery_peer.project import Project
from tests.support.bigquery_peer.server import BigQueryServer
from worker.adapters.warehouse_bigquery import BigQueryWarehouse
from worker.adapters.warehouse_bigquery_connection import connect
from worker.adapters.warehouse_bigquery_jobs import Limits
from worker.adapters.warehouse_duckdb_dialect import parse
from worker.catalogue import BLOCKS, PROCESSORS, PUBLISHED_TABLE, SHIPPED
from worker.features.model import BlockCounts, BuildKey, BuildRequest, BuildStats, Publication, Statement
from worker.features.quality import score

NIGHT = date(2024, 12, 15)
AT = datetime(2024, 12, 16, 4, 20, tzinfo=UTC)
CLAIMANT = "worker-a/1"
# Short, so that a peer that stays silent is given up at once.
LIMITS = Limits(job_timeout_s=5.0, call_s=3.0)

_LITERALS = {
    "DATE": "DATE '2024-12-15'",
    "INT64": "7",
    "FLOAT64": "1.5e0",
    "STRING": "'text'",
    "BOOL": "TRUE",
    "TIMESTAMP": "TIMESTAMP '2024-12-16 04:20:00+00'",
    "ARRAY<STRING>": "['pace']",
}


@dataclass
class Site:
    """One project of the peer, and a warehouse on it."""

    server: BigQueryServer
    name: str
    warehouse: BigQueryWarehouse

    @property
    def project(self) -> Project:
        return self.server.project(self.name)

    def ran(self, step: str) -> list[str]:
        """The ids of the jobs of one step that ran to a success."""
        return [job_id for job_id in self.project.jobs.ran if f"-{step}-" in job_id]

    def another(self, limits: Limits = LIMITS) -> BigQueryWarehouse:
        """A warehouse as a second worker opens it."""
        return open_warehouse(self.server, self.name, limits)

    def stage(self, key: BuildKey) -> None:
        self.warehouse.stage(key, staging_select(key))

    def rows(self) -> list[str]:
        """The build ids of the published rows."""
        sql = "SELECT build_id FROM that ORDER BY 1".replace("that", PUBLISHED_TABLE)
        return [row["build_id"] for row in self.warehouse.query(Statement(name="rows", sql=sql))]


def open_warehouse(server: BigQueryServer, project: str, limits: Limits = LIMITS) -> BigQueryWarehouse:
    return BigQueryWarehouse(connect(f"bigquery://{project}", server.address), limits=limits)


def open_site(server: BigQueryServer, limits: Limits = LIMITS) -> Site:
    name = f"test-{uuid.uuid4().hex[:12]}"
    site = Site(server, name, open_warehouse(server, name, limits))
    site.warehouse.ensure_tables()
    return site


def attempt(generation: int = 1, number: int = 1, night: date = NIGHT) -> BuildKey:
    return BuildKey(analysis_date=night, generation=generation, attempt=number)


def staging_select(key: BuildKey) -> Statement:
    """One row of the published shape that names its build."""
    special = {"analysis_date": "@analysis_date", "build_id": "@build_id"}
    special["left_out_reason"] = "CAST(NULL AS STRING)"
    columns = ", ".join(f"{special.get(c.name, _LITERALS[c.type])} AS {c.name}" for c in SHIPPED.generation_columns)
    return Statement(
        name="features",
        sql=f"SELECT {columns}",
        parameters={"analysis_date": key.analysis_date, "build_id": key.build_id},
    )


def publication(key: BuildKey, claimant: str = CLAIMANT) -> Publication:
    stats = BuildStats(
        analysis_date=key.analysis_date,
        row_count=1,
        dependency_rows=dict.fromkeys(PROCESSORS, 30),
        blocks={b.name: BlockCounts(players=1, cells_each=4, phase4_cells=4, phase3_cells=0) for b in BLOCKS},
        required_nulls=0,
        newest_source_date=key.analysis_date,
        left_out_count=0,
        left_out=(),
    )
    request = BuildRequest(
        key=key,
        mode=BuildMode.NORMAL,
        trigger="join",
        phase3_lookback_days=30,
        as_of=None,
        started_at=AT,
        claimant=claimant,
    )
    return Publication(request=request, stats=stats, report=score(stats, BuildMode.NORMAL), committed_at=AT)


def unpruned(sql: str, partitions: dict[str, str]) -> list[str]:
    """The tables that a statement or script reads or changes without a condition on their partition column."""
    found: list[str] = []
    for statement in split_script(sql):
        if statement.upper().startswith(("BEGIN ", "COMMIT ", "IF ", "CREATE ")):
            continue
        tree = parse(statement)
        for table in tree.find_all(exp.Table):
            column = partitions.get(f"{table.db}.{table.name}")
            if column and not _is_target_of_insert(table) and not pruning_conditions(table, column):
                found.append(f"{table.db}.{table.name}")
    return found


def _is_target_of_insert(table: exp.Table) -> bool:
    insert = table.find_ancestor(exp.Insert)
    return insert is not None and table.find_ancestor(exp.Select) is None


def hurried(limits: Limits = LIMITS, **changes: float) -> Limits:
    return replace(limits, **changes)
