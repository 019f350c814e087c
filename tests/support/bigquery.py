"""A BigQuery warehouse over the wire peer, and small publications to send through it."""

import re
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from sqlglot import exp

from tests.support.bigquery_peer.engine import split_script
from tests.support.bigquery_peer.estimate import pruning_conditions
from tests.support.bigquery_peer.project import Project
from tests.support.bigquery_peer.server import BigQueryServer
from tests.support.generation_rows import publication_of, rows_select
from worker.adapters.bigquery.jobs import Limits, connect
from worker.adapters.bigquery.warehouse import BigQueryWarehouse
from worker.features.model import BuildKey, Publication, Statement
from worker.pipelines.shipped import PUBLISHED_TABLE
from worker.pipelines.sql_checks import parse_statement

NIGHT = date(2024, 12, 15)
AT = datetime(2024, 12, 16, 4, 20, tzinfo=UTC)
CLAIMANT = "worker-a/1"
# Short, so that a peer that stays silent is given up at once.
LIMITS = Limits(job_timeout_s=5.0, call_s=3.0)


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
        return [job_id for job_id in self.project.jobs.ran if re.search(rf"-{step}(-|$)", job_id)]

    def another(self, limits: Limits = LIMITS) -> BigQueryWarehouse:
        """A warehouse as a second worker opens it."""
        return open_warehouse(self.server, self.name, limits)

    def stage(self, key: BuildKey) -> None:
        """Claim an attempt, and stage its row."""
        self.warehouse.claim(key, AT, CLAIMANT)
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
    return rows_select(key)


def publication(key: BuildKey, claimant: str = CLAIMANT) -> Publication:
    return publication_of(key, claimant=claimant, committed_at=AT)


def unpruned(sql: str, partitions: dict[str, str]) -> list[str]:
    """The tables that a statement or script reads or changes without a condition on their partition column."""
    found: list[str] = []
    for statement in split_script(sql):
        if statement.upper().startswith("CREATE "):
            continue
        tree = parse_statement(statement)
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
