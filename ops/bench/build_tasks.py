"""Tasks of `mlfs bench build` and `mlfs bench profile`: a build, two yardsticks, the phases of a build.

The first yardstick (`same_select`) is a `CREATE TABLE` of the select stored by a build, into the same file. The
difference is the cost of the claim, the checks, the counts and the publication.

The second yardstick (`bare`) is the bare join (`bare_join.sql`): the shortest statement for the same feature cells. A
`CREATE TABLE AS` reads the same nine tables into the same file. The roster is joined to the four Phase 4 tables of the
analysis date and to the latest Phase 3 row of each player and team in the window. The result has 6 identity columns
and 22 `COALESCE(phase 4, phase 3)` cells, computed from the same rows. The bare join lacks the additions of the
product: the 14 metadata columns, the removal of duplicates (in Phase 4, and two versions of a game in Phase 3),
`--as-of`, the count of cells, the score, the quality gate, the ledger and the publication.

A task runs in a new process, and on request a second time in the same, warm process. `phases` measures the phases named
by the metrics of the worker.
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
ENTITIES = 400
# Logged statements outside the build: COMMIT after the start of the log, BEGIN and SELECT of the count.
LOGGING_STATEMENTS = 3


def _sql(name: str) -> str:
    return resources.files("ops.bench").joinpath(name).read_text(encoding="utf-8")


def generate(path: str, entities: int, memory_limit: str, threads: int, nights: int = 1) -> dict[str, Any]:
    """Write the upstream tables of *nights* dates up to NIGHT with *entities* players into a new database file."""
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
    """Run the bare join, with *warm* a second time in this process; return seconds and rows."""
    window = {"analysis_date": NIGHT, "lookback_start": NIGHT - timedelta(days=LOOKBACK_DAYS)}
    return _create(path, memory_limit, threads, _sql("bare_join.sql"), window, warm=warm)


def same_select(path: str, memory_limit: str, threads: int) -> dict[str, Any]:
    """Create a table of the select stored by a build; return seconds and rows."""
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
    """Build the date from claim to ledger, with *warm* twice; return seconds, seconds by step, and statements."""
    clock = SystemClock()
    steps: dict[str, float] = {}
    warehouse = DuckDbWarehouse(path, memory_limit=memory_limit, threads=threads)
    # DuckDB's log of statements would be lost with the connection.
    with closing(warehouse), warehouse.held_open():
        warehouse.ensure_tables()
        warehouse.prepare_builds()  # like a worker at the start
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
            [[logged]] = cursor.execute("SELECT count(*) FROM duckdb_logs WHERE type = 'QueryLog'").fetchall()
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
        "statements": logged - LOGGING_STATEMENTS,
        "steps": steps,
    }


def make_request(generation: int, started_at: datetime) -> BuildRequest:
    """Return the request for a build, as the worker makes the request after the fourth completion."""
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
    """Open a database like the warehouse, so that both sides get the same memory and threads."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "threads": threads,
        "autoinstall_known_extensions": False,
        "preserve_insertion_order": False,
    }
    connection = duckdb.connect(path, config=config)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


def phases(folder: str) -> dict[str, Any]:
    """Build a date of 400 entities as the first build of the process; return milliseconds by phase and in total."""
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
        warehouse.prepare_builds()  # like a worker at the start
        request = make_request(1, clock.now())
        started = time.perf_counter()
        run_build(warehouse, request, now=clock.now, watch=timed)
        total = (time.perf_counter() - started) * 1000
    return {"phases_ms": milliseconds, "total_ms": total}
