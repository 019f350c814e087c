"""Workers, commands and Phase 5 use one DuckDB file beside each other, each as a separate process."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import WaitUntil
from tests.support.programs import Program, RunningWorker, not_tonight
from worker.adapters.pubsub.connection import publisher_client
from worker.local.ownership import read_address

NIGHTS = ("2024-12-14", "2024-12-15")
PROCESSORS = (
    "team_defense_zone_analysis",
    "player_shot_zone_analysis",
    "player_composite_factors",
    "player_daily_cache",
)
# Prints rows and generations of each night, one line for each read. An error ends the process.
PHASE_5 = """
import sys
import structlog
from worker.phase5 import FeatureStoreNotReady, load_features_for_prediction, read_readiness
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
while True:
    generations = []
    for night in sys.argv[1:]:
        try:
            rows = load_features_for_prediction(night) if read_readiness(night).row_count else []
        except FeatureStoreNotReady:
            rows = []
        generations.append(f"{len(rows)}:" + "+".join(sorted({str(row["build_generation"]) for row in rows})))
    print(*generations, flush=True)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shared.duckdb"


@pytest.fixture
def programs(tmp_path: Path, file: Path) -> list[Program]:
    """Two programs with a store and a bus for each, and one warehouse file."""
    environment = {"MLFS_HTTP_PORT": "0", "MLFS_WAREHOUSE": f"duckdb://{file}", **not_tonight()}
    return [Program(tmp_path / name, environment) for name in ("one", "two")]


@pytest.fixture
def workers(
    programs: list[Program], file: Path, loaded_folder: Path, tmp_path: Path, wait_until: WaitUntil
) -> Iterator[list[RunningWorker]]:
    shutil.copy(loaded_folder / "data" / "warehouse.duckdb", file)
    started = [program.launch(tmp_path / f"{number}.log") for number, program in enumerate(programs)]
    for worker in started:
        wait_until(lambda worker=worker: worker.address(), "the worker starts", timeout_s=30.0)  # type: ignore[misc]
    yield started
    codes = [worker.terminate() for worker in started]
    assert codes == [0, 0]


def report(program: Program, night: str) -> None:
    client = publisher_client(read_address(program.data_dir / "pubsub"))
    topic = client.topic_path("nba-props-platform", "phase4-processor-success")
    for processor in PROCESSORS:
        body = {"processor": processor, "analysis_date": night, "status": "success", "run_id": "r"}
        client.publish(topic, json.dumps(body).encode()).result(timeout=10)
    client.stop()
    client.transport.close()


def is_done(worker: RunningWorker, night: str, generation: int) -> bool:
    answer = httpx.get(f"{worker.address()}/dates/{night}", timeout=20)
    found: dict[str, Any] = answer.json() if answer.is_success else {}
    return (found.get("state"), found.get("published_generation")) == ("done", generation)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_workers_commands_and_phase_5_read_and_write_one_file_beside_each_other(
    programs: list[Program],
    workers: list[RunningWorker],
    loaded_folder: Path,
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PHASE_5, *NIGHTS], env=programs[0].environ(), stdout=subprocess.PIPE, text=True
    ) as phase_5:
        for program, night in zip(programs, NIGHTS, strict=True):
            report(program, night)
        for worker, night in zip(workers, NIGHTS, strict=True):
            wait_until(lambda w=worker, n=night: is_done(w, n, 1), f"{night} is done", timeout_s=40.0)  # type: ignore[misc]
        replayed = programs[1].run("replay", NIGHTS[1], "--reason", "bad rows", "--yes", "--wait", "40")
        commands = {
            word[0]: programs[0].run(*word).returncode
            for word in (
                ("load", str(loaded_folder / "sample")),
                ("features", NIGHTS[0], "--out", str(tmp_path / "rows.parquet")),
                ("build", NIGHTS[0], "--dry-run"),
                ("doctor",),
            )
        }
        answers = iter(phase_5.stdout or ())
        seen = [next(answers).split()]
        while seen[-1] != ["449:1", "449:2"]:
            seen.append(next(answers).split())
        phase_5.terminate()

    assert replayed.returncode == 0, replayed.stderr
    assert commands == {"load": 0, "features": 0, "build": 0, "doctor": 0}
    # Each read saw one whole generation, or nothing before the first publication.
    assert {line[0] for line in seen} <= {"0:", "449:1"}
    assert {line[1] for line in seen} <= {"0:", "449:1", "449:2"}
