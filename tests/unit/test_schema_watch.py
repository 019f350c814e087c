"""A drifted upstream table is told when the worker looks, and never ends the worker."""

from collections.abc import Collection, Iterator

import pytest
from prometheus_client import generate_latest

from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.builds.upstream import SchemaWatch
from worker.errors import Unavailable
from worker.observing.metrics import Metrics
from worker.observing.observer import Notice, Observers, SchemaChecked
from worker.pipelines.shipped import PROCESSORS, SHIPPED, UPSTREAM

DUCKDB_TYPES = {
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "STRING": "VARCHAR",
    "TIMESTAMP": "TIMESTAMPTZ",
}


class Heard:
    def __init__(self) -> None:
        self.looks: list[tuple[tuple[str, ...], bool]] = []

    def note(self, notice: Notice) -> None:
        assert isinstance(notice, SchemaChecked)
        self.looks.append((tuple(notice.faults), notice.changed))


@pytest.fixture
def warehouse() -> Iterator[DuckDbWarehouse]:
    made = DuckDbWarehouse(":memory:")
    made.ensure_tables()
    for table, columns in UPSTREAM.items():
        execute(made, f"CREATE TABLE {table} ({', '.join(f'{n} {DUCKDB_TYPES[k]}' for n, k in columns.items())})")
    yield made
    made.close()


def execute(warehouse: DuckDbWarehouse, sql: str) -> None:
    with warehouse.writing("changing upstream") as cursor:
        cursor.execute(sql)


def test_a_drift_is_told_once_and_so_is_its_repair(warehouse: DuckDbWarehouse) -> None:
    heard, metrics = Heard(), Metrics(PROCESSORS)
    watch = SchemaWatch(warehouse, Observers(heard, metrics))
    watch.run_once()
    execute(warehouse, "ALTER TABLE nba_precompute.player_composite_factors DROP COLUMN pace")
    execute(warehouse, "DROP TABLE nba_raw.nbac_schedule")
    watch.run_once()
    watch.run_once()
    shown = generate_latest(metrics.registry).decode()
    execute(warehouse, "ALTER TABLE nba_precompute.player_composite_factors ADD COLUMN pace DOUBLE")
    watch.run_once()

    gone = "table nba_raw.nbac_schedule does not exist"
    both = (gone, "nba_precompute.player_composite_factors has no column pace (FLOAT64)")
    assert heard.looks == [((), True), (both, True), (both, False), ((gone,), True)]
    assert "mlfs_upstream_schema_faults 2.0" in shown


def test_an_empty_warehouse_lacks_every_table_and_still_answers() -> None:
    warehouse, heard = DuckDbWarehouse(":memory:"), Heard()

    SchemaWatch(warehouse, heard).run_once()

    assert heard.looks == [(tuple(f"table {table} does not exist" for table in UPSTREAM), True)]
    warehouse.close()


def test_a_warehouse_that_does_not_answer_changes_nothing(warehouse: DuckDbWarehouse) -> None:
    class Away:
        pipeline = SHIPPED

        def columns_of(self, tables: Collection[str]) -> dict[str, dict[str, str]]:
            raise Unavailable(f"no answer about {len(tables)} tables")

    heard = Heard()
    watch = SchemaWatch(warehouse, heard)
    watch.run_once()
    watch._warehouse = Away()

    with pytest.raises(Unavailable):
        watch.run_once()

    assert heard.looks == [((), True)]
