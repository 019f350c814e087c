"""A night built on an emulator and on DuckDB: the same rows. `make second-opinion` runs this; the suite does not."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.bigquery import Client, LoadJobConfig, SourceFormat

from statemachine.model import State
from tests.integration.test_bigquery_night import embedded, play, rows
from tests.support.second_opinion import rows_differ
from worker.adapters.bigquery.jobs import Limits, connect
from worker.adapters.bigquery.warehouse import BigQueryWarehouse
from worker.pipelines.shipped import SHIPPED, UPSTREAM
from worker.ports import Warehouse

# Nobody asks for a replay here, and no worker writes arrivals. The last digit of a mean depends on the order of
# the sum.
EMPTY = {SHIPPED.tables.replay, SHIPPED.tables.arrivals, SHIPPED.tables.profile}
COMPARED = tuple(table for table in SHIPPED.tables.all if table not in EMPTY)
REAL = Path(os.environ.get("NBA_DATA") or Path(__file__).parents[3] / "shared" / "nba")


@pytest.fixture
def bigquery_address() -> str:
    return os.environ["SECOND_OPINION"]


@pytest.fixture
def client(bigquery_address: str) -> Iterator[Client]:
    opened = connect(f"bigquery://night-{uuid.uuid4().hex[:8]}?location=US", bigquery_address)
    yield opened
    opened.close()


def upload(client: Client, folder: Path) -> None:
    """Load one Parquet file for each table that a build reads, as an analyst would: by load jobs."""
    for dataset in sorted({table.partition(".")[0] for table in UPSTREAM}):
        client.create_dataset(dataset, exists_ok=True, timeout=60)
    for table in UPSTREAM:
        with (folder / f"{table}.parquet").open("rb") as file:
            parquet = LoadJobConfig(source_format=SourceFormat.PARQUET)
            client.load_table_from_file(file, f"{client.project}.{table}", job_config=parquet, timeout=60).result(
                timeout=120
            )


def comparable(warehouse: Warehouse, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table without the name of the claimant, in which each builder writes a random number."""
    return [{name: cell for name, cell in row.items() if name != "claimed_by"} for row in rows(warehouse, table)]


@pytest.mark.parametrize("source", ["sample", "real"])
def test_a_night_is_the_same_rows_on_the_emulator(client: Client, sample_folder: Path, source: str) -> None:
    folder = sample_folder if source == "sample" else REAL
    if not (folder / "nba_precompute.player_composite_factors.parquet").is_file():
        pytest.skip(
            "the real NBA nights are not beside the project (../shared/nba), and NBA_DATA names no other folder"
        )
    upload(client, folder)
    there = BigQueryWarehouse(client, limits=Limits(call_s=30.0))
    there.ensure_tables()
    here = embedded(folder)

    assert (play(there), play(here)) == (State.DONE, State.DONE)

    for table in COMPARED:
        ours, theirs = comparable(here, table), comparable(there, table)
        differences = [*rows_differ(ours, theirs)]
        assert not differences, f"{table}: {len(differences)} cells differ\n" + "\n".join(differences[:20])
        assert ours, table
    here.close()
