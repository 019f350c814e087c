"""What `mlfs bench build` measures: the build from claim to ledger, and the bare join as its yardstick.

The bare join (`bare_join.sql`) is what a competent engineer writes who wants the same feature cells and nothing else:
one `CREATE TABLE AS` over the same nine tables into the same file; the roster joined to the four Phase 4 tables of the
date and to each player's and team's latest Phase 3 row in the window; 6 identity columns and 22
`COALESCE(phase 4, phase 3)` cells, computed from the same rows. It leaves out what the product adds: the 14 metadata
columns, care for duplicates (in Phase 4, and two versions of one game in Phase 3), `--as-of`, the count of cells, the
score, the gate, staging, the ledger, and the replacement of the date's rows in a transaction.
"""

import time
from contextlib import closing
from datetime import date, datetime, timedelta
from importlib import resources
from typing import Any

import duckdb

from statemachine.model import BuildMode
from worker.adapters.warehouse_duckdb import DuckDbWarehouse
from worker.building import run_build
from worker.clock import SystemClock
from worker.features.model import BuildKey, BuildRequest

NIGHT = date(2024, 12, 15)
LOOKBACK_DAYS = 30
LOGGING_STATEMENTS = 3


def _sql(name: str) -> str:
    return resources.files("ops.bench").joinpath(name).read_text(encoding="utf-8")


def generate(path: str, entities: int, memory_limit: str, threads: int, nights: int = 1) -> dict[str, Any]:
    """Write the upstream tables of *nights* nights up to NIGHT with *entities* players into a new database file."""
    started = time.perf_counter()
    with closing(_connect(path, memory_limit, threads)) as connection:
        connection.execute("SET VARIABLE entities = ?", [entities])
        connection.execute("SET VARIABLE analysis_date = ?", [NIGHT])
        connection.execute("SET VARIABLE nights = ?", [nights])
        connection.execute(_sql("entities.sql"))
        connection.execute(_sql("more_nights.sql"))
        connection.execute("CREATE SCHEMA IF NOT EXISTS nba_predictions")
        connection.execute("CHECKPOINT")
    return {"seconds": time.perf_counter() - started}


def bare(path: str, memory_limit: str, threads: int) -> dict[str, Any]:
    """Run the bare join once; gives its seconds and rows."""
    window = {"analysis_date": NIGHT, "lookback_start": NIGHT - timedelta(days=LOOKBACK_DAYS)}
    with closing(_connect(path, memory_limit, threads)) as connection:
        started, cpu = time.perf_counter(), time.process_time()
        row = connection.execute(_sql("bare_join.sql"), window).fetchone()
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "rows": row[0] if row else 0}


def build(path: str, memory_limit: str, threads: int) -> dict[str, Any]:
    """Build the night once, claim to ledger; gives seconds, seconds by step, and warehouse statements."""
    clock = SystemClock()
    steps: dict[str, float] = {}
    with closing(DuckDbWarehouse(path, memory_limit=memory_limit, threads=threads)) as warehouse:
        warehouse.ensure_tables()
        with warehouse.writing("counting statements") as cursor:
            cursor.execute("CALL enable_logging('QueryLog')")
        request = make_request(1, clock.now())
        started, cpu = time.perf_counter(), time.process_time()
        last = started

        def note(step: str) -> None:
            nonlocal last
            now = time.perf_counter()
            steps[step.split(maxsplit=1)[0]] = now - last
            last = now

        outcome = run_build(warehouse, request, now=clock.now, progress=note)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        with warehouse.writing("counting statements") as cursor:
            counted = cursor.execute("SELECT count(*) FROM duckdb_logs WHERE type = 'QueryLog'").fetchone()
        # The COMMIT that ended the start of the logging, and the BEGIN and the SELECT of the count itself.
        statements = (counted[0] if counted else 0) - LOGGING_STATEMENTS
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "rows": outcome.stats.row_count,
        "published": outcome.published,
        "quality_score": outcome.report.quality_score,
        "statements": statements,
        "steps": steps,
    }


def make_request(generation: int, started_at: datetime) -> BuildRequest:
    """Ask for a build of the night, as the worker does at its fourth completion."""
    return BuildRequest(
        key=BuildKey(analysis_date=NIGHT, generation=generation, attempt=1),
        claimant="bench",
        mode=BuildMode.NORMAL,
        trigger="bench",
        phase3_lookback_days=LOOKBACK_DAYS,
        as_of=None,
        started_at=started_at,
    )


def _connect(path: str, memory_limit: str, threads: int) -> duckdb.DuckDBPyConnection:
    """Open a database as the warehouse does, so that both sides get the same means."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "threads": threads,
        "autoinstall_known_extensions": False,
    }
    connection = duckdb.connect(path, config=config)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection
