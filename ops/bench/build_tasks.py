"""What `mlfs bench build` measures: the build from claim to ledger, and two yardsticks.

The first yardstick is one `CREATE TABLE` of the very select that a build stores, into the same file: whatever a build
takes more is its claim, its checks, its counts and its publication. The second one is the bare join.

The bare join (`bare_join.sql`) is what a competent engineer writes who wants the same feature cells and nothing else:
one `CREATE TABLE AS` over the same nine tables into the same file; the roster joined to the four Phase 4 tables of the
date and to each player's and team's latest Phase 3 row in the window; 6 identity columns and 22
`COALESCE(phase 4, phase 3)` cells, computed from the same rows. It leaves out what the product adds: the 14 metadata
columns, care for duplicates (in Phase 4, and two versions of one game in Phase 3), `--as-of`, the count of cells, the
score, the gate, the ledger and the publication.

Each task runs once in a fresh process, and once more in the same, warm one.

What `mlfs bench profile` measures of a build: the phases that the worker's own metrics name.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import date, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb

from statemachine.model import BuildMode
from worker.adapters.duckdb.dialect import to_duckdb
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.builds.steps import run_build
from worker.clock import SystemClock
from worker.features.model import BuildKey, BuildPhase, BuildRequest
from worker.features.plan import plan_build
from worker.pipelines.files import shipped_pipeline

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


def bare(path: str, memory_limit: str, threads: int, warm: bool = False) -> dict[str, Any]:
    """Run the bare join, and where asked once more in this process; gives seconds and rows."""
    window = {"analysis_date": NIGHT, "lookback_start": NIGHT - timedelta(days=LOOKBACK_DAYS)}
    return _create(path, memory_limit, threads, _sql("bare_join.sql"), window, warm=warm)


def same_select(path: str, memory_limit: str, threads: int) -> dict[str, Any]:
    """Create a table of the select that a build stores; gives seconds and rows."""
    pipeline = shipped_pipeline()
    features = plan_build(make_request(1, SystemClock().now()), pipeline, built_at=SystemClock().now()).features
    sql = f"CREATE OR REPLACE TABLE nba_predictions.same_select AS {to_duckdb(features.sql)}"
    return _create(path, memory_limit, threads, sql, features.parameters)


def _create(
    path: str, memory_limit: str, threads: int, sql: str, values: Mapping[str, Any], *, warm: bool = False
) -> dict[str, Any]:
    with closing(_connect(path, memory_limit, threads)) as connection:
        started, cpu = time.perf_counter(), time.process_time()
        row = connection.execute(sql, dict(values)).fetchone()
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        again = time.perf_counter()
        if warm:
            connection.execute(sql, dict(values))
        warm_seconds = time.perf_counter() - again
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "warm_seconds": warm_seconds if warm else None,
        "rows": row[0] if row else 0,
    }


def build(path: str, memory_limit: str, threads: int, warm: bool = False) -> dict[str, Any]:
    """Build the night, claim to ledger, and where asked once more; gives seconds, by step, and warehouse statements."""
    clock = SystemClock()
    steps: dict[str, float] = {}
    with closing(DuckDbWarehouse(path, memory_limit=memory_limit, threads=threads)) as warehouse:
        warehouse.ensure_tables()
        warehouse.prepare_builds()  # as a worker does when it starts
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
        # The COMMIT that ended the start of the logging, and the BEGIN and the SELECT of the count itself. A build of
        # several seconds gives the file back in between, and DuckDB's log of statements is lost with the connection.
        statements = counted[0] - LOGGING_STATEMENTS if counted and counted[0] > LOGGING_STATEMENTS else None
        again = time.perf_counter()
        if warm:
            run_build(warehouse, make_request(2, clock.now()), now=clock.now)
        warm_seconds = time.perf_counter() - again
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "warm_seconds": warm_seconds if warm else None,
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
        "preserve_insertion_order": False,
    }
    connection = duckdb.connect(path, config=config)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


ENTITIES = 400


def phases(folder: str) -> dict[str, Any]:
    """Build a night of 400 once, as the first build of its process; gives milliseconds by phase, and of all of it."""
    path, clock = str(Path(folder) / "warehouse.duckdb"), SystemClock()
    generate(path, ENTITIES, "1GB", 2)
    milliseconds: dict[str, float] = {}

    @contextmanager
    def timed(phase: BuildPhase) -> Iterator[None]:
        started = time.perf_counter()
        yield
        milliseconds[phase.value] = (time.perf_counter() - started) * 1000

    with closing(DuckDbWarehouse(path)) as warehouse:
        warehouse.ensure_tables()
        warehouse.prepare_builds()  # as a worker does when it starts
        request = make_request(1, clock.now())
        started = time.perf_counter()
        run_build(warehouse, request, now=clock.now, watch=timed)
        total = (time.perf_counter() - started) * 1000
    return {"phases_ms": milliseconds, "total_ms": total}
