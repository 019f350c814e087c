"""`mlfs doctor` names every drifted upstream table and column, before a build meets them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.cli import app
from worker.adapters.warehouse_duckdb import DuckDbWarehouse
from worker.features.catalogue import UPSTREAM

DUCKDB_TYPES = {"DATE": "DATE", "INT64": "BIGINT", "FLOAT64": "DOUBLE", "STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ"}


def execute(folder: Path, *statements: str) -> None:
    warehouse = DuckDbWarehouse(str(folder / "warehouse.duckdb"))
    warehouse.ensure_tables()
    with warehouse.writing("changing upstream") as cursor:
        for sql in statements:
            cursor.execute(sql)
    warehouse.close()


def test_the_doctor_names_what_upstream_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    tables = {
        table: ", ".join(f"{n} {DUCKDB_TYPES[k]}" for n, k in columns.items()) for table, columns in UPSTREAM.items()
    }
    execute(tmp_path, *(f"CREATE TABLE {table} ({columns})" for table, columns in tables.items()))
    healthy = CliRunner().invoke(app, ["doctor", "--json"])
    execute(
        tmp_path,
        "DROP TABLE nba_raw.nbac_schedule",
        "ALTER TABLE nba_precompute.player_daily_cache ALTER season_avg_ppg TYPE VARCHAR",
    )
    drifted = CliRunner().invoke(app, ["doctor", "--json"])
    shown = CliRunner().invoke(app, ["doctor"])

    assert (healthy.exit_code, [check["ok"] for check in json.loads(healthy.stdout)]) == (0, [True, True])
    assert (drifted.exit_code, [check["ok"] for check in json.loads(drifted.stdout)]) == (1, [True, False])
    assert json.loads(drifted.stdout)[1]["faults"] == [
        "table nba_raw.nbac_schedule does not exist",
        "nba_precompute.player_daily_cache.season_avg_ppg is STRING, not FLOAT64",
    ]
    assert (shown.exit_code, shown.stdout.count("ok   "), shown.stdout.count("FAULT")) == (1, 1, 1)
