"""`mlfs run` is killed at a named place of the night and started again: the night ends once, and is told at least once.

The four reports wait in the queue before the first start. Whatever the place, the second start finds what it needs in
the queue, the store and the warehouse; nothing is remembered by the process that died.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from statemachine.model import State
from tests.conftest import WaitUntil
from tests.support.crashing_worker import PLACES
from tests.support.nights import PROCESSORS
from tests.support.programs import Program, RunningWorker
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.adapters.pubsub.connection import subscriber_client
from worker.features.model import Statement
from worker.local.ownership import read_address
from worker.local.valkey import EmbeddedValkey
from worker.pipelines.shipped import SHIPPED
from worker.ports import OutgoingMessage
from worker.resources import ProcessKind, Resources
from worker.settings import load

DATE = "2024-12-15"
ENVIRONMENT = {
    "MLFS_HTTP_PORT": "0",
    "MLFS_LEASE_S": "5",  # the shortest that the settings take: a crash during a build costs this long
    "MLFS_RETRY_DELAY_S": "0.1",
    "MLFS_TICK_S": "0.1",
    "MLFS_SEASON": "02-29..02-29",  # the calendar opens nothing: tonight's own deadline could fall into the test
}

# For each place, the attempt whose build is the one in the ledger, and how often the outcome was published.
FIRST, SECOND = 1, 2
EXPECTED = {
    "before the commit of the fourth report": (FIRST, 1),
    "after the commit of the fourth report": (FIRST, 1),
    "after the claim": (SECOND, 1),
    "after the rows are staged": (SECOND, 1),
    "before the warehouse publishes": (SECOND, 1),
    "between the quality and the pointer": (SECOND, 1),
    "after the warehouse published": (FIRST, 1),
    "after the attempt is logged": (FIRST, 1),
    "after the commit of the result": (FIRST, 1),
    "before the outcome is published": (FIRST, 1),
    "after the outcome is published": (FIRST, 2),
}


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a loaded warehouse and four reports in the queue, before any worker has run."""
    folder = tmp_path_factory.mktemp("evening")
    loaded = Program(folder / "data").run("load", str(folder / "sample"), "--generate", DATE)
    assert loaded.returncode == 0, loaded.stderr
    settings = load({}, data_dir=folder / "data")
    with Resources(settings, ProcessKind.COMMAND) as parts:
        for processor in PROCESSORS:
            body = {"processor": processor, "analysis_date": DATE, "status": "success", "run_id": f"run-{processor}"}
            message = OutgoingMessage(event_id="", topic=settings.topic, data=json.dumps(body).encode(), attributes={})
            parts.publisher.publish(message)
    return folder / "data"


@pytest.fixture
def program(evening: Path, tmp_path: Path) -> Iterator[Program]:
    data_dir = tmp_path / "data"
    shutil.copytree(evening, data_dir)
    yield Program(data_dir, ENVIRONMENT)
    # A killed worker leaves its store running, and only the next worker would stop it.
    valkey = EmbeddedValkey(data_dir / "valkey")
    valkey.start()
    valkey.stop()


def shown(worker: RunningWorker) -> Any:
    """What the worker says of the night; None until it has heard of it."""
    answer = httpx.get(f"{worker.address()}/dates/{DATE}", timeout=10)
    return answer.json() if answer.status_code == httpx.codes.OK else None


def is_over(worker: RunningWorker) -> bool:
    """Whether the night is done and its outcome out of the worker's hands."""
    night = shown(worker)
    metrics = httpx.get(f"{worker.address()}/metrics", timeout=10).text
    return night is not None and night["state"] == State.DONE and "mlfs_outbox_pending 0.0" in metrics


def outcomes(program: Program, wait_until: WaitUntil, at_least: int) -> list[tuple[str, str, int]]:
    """Event id, state and generation of every outcome that a subscriber gets."""
    received: list[tuple[str, str, int]] = []
    with subscriber_client(read_address(program.data_dir / "pubsub")) as client:
        subscription = client.subscription_path("nba-props-platform", "ml-feature-store-success-phase5")

        def pull() -> bool:
            answer = client.pull(subscription=subscription, max_messages=10, timeout=10)
            told = [json.loads(item.message.data) for item in answer.received_messages]
            received.extend((outcome["event_id"], outcome["state"], outcome["generation"]) for outcome in told)
            return len(received) >= at_least

        wait_until(pull, "the outcome arrives")
    return received


def found(warehouse: DuckDbWarehouse, select: str) -> list[tuple[Any, ...]]:
    """The rows of a SELECT about the night."""
    sql = f"{select} WHERE analysis_date = @night ORDER BY 1"
    rows = warehouse.query(Statement(name="rows", sql=sql, parameters={"night": date.fromisoformat(DATE)}))
    return [tuple(row.values()) for row in rows]


# The places on both sides of each store that a night writes to; `EVERY_NIGHT=1` goes through all places.
PLAYED = (
    "before the commit of the fourth report",
    "after the commit of the fourth report",
    "after the rows are staged",
    "between the quality and the pointer",
    "after the warehouse published",
    "before the outcome is published",
    "after the outcome is published",
)


@pytest.mark.parametrize("place", PLACES if os.environ.get("EVERY_NIGHT") else PLAYED)
def test_a_night_ends_once_though_its_worker_is_killed(
    place: str, program: Program, tmp_path: Path, wait_until: WaitUntil
) -> None:
    attempt, published = EXPECTED[place]
    first = program.launch(tmp_path / "first.log", sys.executable, "-m", "tests.support.crashing_worker", place)
    assert -signal.SIGKILL == first.process.wait(timeout=30), first.log_path.read_text(encoding="utf-8")

    second = program.launch(tmp_path / "second.log")
    try:
        wait_until(second.address, "the worker starts again", timeout_s=30.0)
        wait_until(lambda: is_over(second), "the night is done and told", timeout_s=30.0)
        told = outcomes(program, wait_until, published)
        night = shown(second)
    finally:
        ended = second.terminate()

    assert ended == 0
    assert 1 == night["generation"]
    assert 1 == [entry["reason"] for entry in night["history"]].count("committed_done")
    assert [(f"ml_feature_store_v2:{DATE}:1", "done", 1)] * published == told
    warehouse = DuckDbWarehouse(str(program.data_dir / "warehouse.duckdb"))
    try:
        published_build, tables = f"{DATE}-g1-a{attempt}", SHIPPED.tables
        ledger = f"SELECT DISTINCT made.build_id FROM {tables.ledger}, UNNEST(publications) AS made"  # noqa: S608
        assert [(published_build,)] == found(warehouse, ledger)
        assert [(published_build, 449)] == found(warehouse, f"SELECT build_id, row_count FROM {tables.quality}")  # noqa: S608
        assert [(published_build,)] == found(warehouse, f"SELECT DISTINCT build_id FROM {tables.published}")  # noqa: S608
        # What dies before it can log leaves no row, and no row of an attempt that was not published says it was.
        logged = found(warehouse, f"SELECT build_id FROM {tables.execution}")  # noqa: S608
        assert set(logged) <= {(published_build,)}
    finally:
        warehouse.close()
