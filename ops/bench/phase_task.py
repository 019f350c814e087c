"""What `mlfs bench profile` measures of a build: the phases that the worker's own metrics name."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ops.bench.build_tasks import generate, make_request
from worker.adapters.warehouse_duckdb import DuckDbWarehouse
from worker.building import run_build
from worker.clock import SystemClock
from worker.features.model import BuildPhase

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
