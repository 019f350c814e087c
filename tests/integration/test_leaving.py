"""A process that leaves waits for no build: to close the warehouse takes no writer away, and hangs on none."""

from pathlib import Path

from worker.adapters.duckdb.warehouse import DuckDbWarehouse


def test_a_warehouse_is_closed_around_a_writer_that_is_not_done(tmp_path: Path) -> None:
    warehouse = DuckDbWarehouse(str(tmp_path / "warehouse.duckdb"))
    warehouse.ensure_tables()

    with warehouse.writing("a build under way") as cursor:
        warehouse.close()

        assert cursor.execute("SELECT 1").fetchone() == (1,)

    warehouse.close()
    reopened = DuckDbWarehouse(str(tmp_path / "warehouse.duckdb"))
    reopened.close()
