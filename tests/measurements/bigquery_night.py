"""How long a date takes on BigQuery, and eight dates at once: `python -m tests.measurements.bigquery_night`.

An estimate, not a measurement of Google's service. The dates run through Google's client against the peer of the tests,
whose statements last as long as the same kind of statement was recorded to last at Google (`RECORDED_S`). The work of
the peer itself comes on top: a busy machine makes the figures longer, not shorter.
"""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from statemachine.model import BuildMode
from tests.support.bigquery_peer.project import Project
from tests.support.bigquery_peer.server import BigQueryServer
from worker.adapters.bigquery.jobs import connect
from worker.adapters.bigquery.warehouse import BigQueryWarehouse
from worker.builds.steps import run_build
from worker.clock import SystemClock
from worker.features.model import BuildKey, BuildPhase, BuildRequest
from worker.local.sample.data import write_sample_data
from worker.pipelines.shipped import UPSTREAM

NIGHT = date(2024, 12, 15)
NIGHTS = [NIGHT + timedelta(days=number) for number in range(8)]
PACE = 1.0
PROJECT = "measured"
WORKERS = 2


class Claimed:
    """The instants at which a build claimed its date and published it: the watch of `run_build`."""

    def __init__(self) -> None:
        self.began: dict[BuildPhase, float] = {}
        self.ended: dict[BuildPhase, float] = {}

    def __call__(self, phase: BuildPhase) -> "_Phase":
        return _Phase(self, phase)

    @property
    def seconds(self) -> float:
        """From the begin of the claim to the end of the publication."""
        return self.ended[BuildPhase.PUBLISH] - self.began[BuildPhase.CLAIM]


class _Phase:
    def __init__(self, claimed: Claimed, phase: BuildPhase) -> None:
        self._claimed = claimed
        self._phase = phase

    def __enter__(self) -> None:
        self._claimed.began[self._phase] = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        self._claimed.ended[self._phase] = time.perf_counter()


def fill(project: Project, folder: Path) -> None:
    """Load the upstream tables of one night, and give the other nights the same rows."""
    write_sample_data(folder, analysis_date=NIGHT)
    project.engine.load(folder)
    with project.engine.cursor() as cursor:
        for table in UPSTREAM:
            day = project.engine.partitions[table]
            for number in range(1, len(NIGHTS)):
                moved = f"SELECT * REPLACE (CAST({day} + {number} AS DATE) AS {day}) FROM {table} WHERE {day} = ?"  # noqa: S608 -- from the catalogue
                cursor.execute(f"INSERT INTO {table} {moved}", [NIGHT])


def build(warehouse: BigQueryWarehouse, night: date, generation: int) -> tuple[bool, float]:
    """Build one night; return whether it was published, and the seconds from the claim to the ledger."""
    request = BuildRequest(
        key=BuildKey(analysis_date=night, generation=generation, attempt=1),
        mode=BuildMode.NORMAL,
        trigger="join",
        phase3_lookback_days=30,
        as_of=None,
        started_at=SystemClock().now(),
        claimant="measured/1",
    )
    claimed = Claimed()
    published = run_build(warehouse, request, now=SystemClock().now, watch=claimed).published
    return published, claimed.seconds


def build_at_once(warehouses: Sequence[BigQueryWarehouse], generation: int) -> tuple[int, float]:
    """Build all nights at once; return how many were published, and the longest time."""
    started = threading.Barrier(len(NIGHTS))

    def one(number: int) -> tuple[bool, float]:
        started.wait()
        return build(warehouses[number % len(warehouses)], NIGHTS[number], generation)

    with ThreadPoolExecutor(len(NIGHTS)) as threads:
        ends = list(threads.map(one, range(len(NIGHTS))))
    return sum(published for published, _ in ends), max(seconds for _, seconds in ends)


def main() -> None:
    """Print the figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with TemporaryDirectory() as folder, BigQueryServer() as server:
        project = server.project(PROJECT)
        fill(project, Path(folder))
        warehouses = [BigQueryWarehouse(connect(f"bigquery://{PROJECT}", server.address)) for _ in range(WORKERS)]
        warehouses[0].ensure_tables()
        project.engine.pace(PACE)
        published, seconds = build(warehouses[0], NIGHT, 1)
        billed = sum(project.jobs.billed)
        print(f"one date: published {published}, {seconds:.1f} s, {billed / 1024**2:.0f} MB billed")  # noqa: T201 -- a script's output
        for generation, strictly in ((2, False), (3, True)):
            if strictly:
                project.engine.conflict_by_table()
            before = project.jobs.conflicts
            count, longest = build_at_once(warehouses, generation)
            rule = "any two changes of a table conflict" if strictly else "changes of one partition conflict"
            conflicts = project.jobs.conflicts - before
            print(f"{len(NIGHTS)} dates, {rule}: {count} published, {longest:.1f} s, {conflicts} conflicts")  # noqa: T201
        for warehouse in warehouses:
            warehouse.close()


if __name__ == "__main__":
    main()
