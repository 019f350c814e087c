"""The engines behind the `Warehouse` port. A new engine joins by adding itself to `warehouse`."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bigquery_peer.server import BigQueryServer
from worker.adapters.warehouse_bigquery import BigQueryWarehouse
from worker.adapters.warehouse_bigquery_connection import connect
from worker.adapters.warehouse_bigquery_jobs import Limits
from worker.adapters.warehouse_duckdb import DuckDbWarehouse
from worker.ports import Warehouse


@pytest.fixture(scope="module")
def bigquery_server() -> Iterator[BigQueryServer]:
    with BigQueryServer() as server:
        yield server


def open_bigquery(server: BigQueryServer, project: str) -> BigQueryWarehouse:
    client = connect(f"bigquery://{project}", server.address)
    return BigQueryWarehouse(client, limits=Limits(call_s=5.0))


@pytest.fixture(params=["memory", "file", "bigquery"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    opened: Warehouse
    match request.param:
        case "memory":
            opened = DuckDbWarehouse(":memory:")
        case "file":
            opened = DuckDbWarehouse(str(tmp_path / "warehouse.duckdb"))
        case _:
            opened = open_bigquery(request.getfixturevalue("bigquery_server"), f"test-{uuid.uuid4().hex[:12]}")
    opened.ensure_tables()
    yield opened
    opened.close()
