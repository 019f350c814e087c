"""The engines behind the `Warehouse` port. A new engine joins by adding itself to `warehouse`."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bigquery_peer.server import BigQueryServer
from worker.adapters.bigquery.jobs import Limits, connect
from worker.adapters.bigquery.warehouse import BigQueryWarehouse
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.ports import Warehouse


@pytest.fixture(scope="module")
def bigquery_address() -> Iterator[str]:
    """The address of our peer, or of the emulator that `make second-opinion` has started in its place."""
    if address := os.environ.get("SECOND_OPINION"):
        yield address
        return
    with BigQueryServer() as server:
        yield server.address


def open_bigquery(address: str, project: str) -> BigQueryWarehouse:
    client = connect(f"bigquery://{project}?location=US", address)
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
            opened = open_bigquery(request.getfixturevalue("bigquery_address"), f"test-{uuid.uuid4().hex[:12]}")
    opened.ensure_tables()
    yield opened
    opened.close()
