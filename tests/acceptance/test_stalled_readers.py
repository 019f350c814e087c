"""A reader of the log or of the console that stalls stops no date and no stop, and a stop leaves no child."""

import fcntl
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.conftest import WaitUntil
from tests.support.programs import COMMAND, Program
from worker.adapters.pubsub.connection import publisher_client
from worker.local.ownership import read_address

DATE = "2024-12-15"
PROCESSORS = (
    "team_defense_zone_analysis",
    "player_shot_zone_analysis",
    "player_composite_factors",
    "player_daily_cache",
)
TOPIC = "projects/nba-props-platform/topics/phase4-processor-success"
LEAVE_WITHIN_S = 8.0


@pytest.fixture
def stalled() -> Iterator[int]:
    """The writing end of a small pipe, full already, that nobody reads."""
    reading_end, writing_end = os.pipe()
    size = fcntl.fcntl(writing_end, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing_end, b"x" * size)
    yield writing_end
    os.close(writing_end)
    os.close(reading_end)


@pytest.fixture
def port() -> int:
    """A free port: where the log is not read, nobody is told which one the worker took."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def launch(program: Program, output: int, *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([*COMMAND, *words], env=program.environ(), stdout=output, stderr=output)


def answer(port: int, path: str) -> httpx.Response | None:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10)
    except httpx.TransportError:
        return None


def is_ready(port: int) -> bool:
    found = answer(port, "/readyz")
    return found is not None and found.status_code == 200


def publish_night(data_dir: Path) -> None:
    address = read_address(data_dir / "pubsub")
    assert address is not None
    client = publisher_client(address)
    body = '{"processor": "%s", "analysis_date": "%s", "status": "success", "run_id": "r"}'
    try:
        for number in range(400):
            client.publish(TOPIC, b"junk %d" % number)
        for processor in PROCESSORS:
            client.publish(TOPIC, (body % (processor, DATE)).encode()).result(timeout=10)
    finally:
        client.stop()
        client.transport.close()


def state(port: int) -> Any:
    found = answer(port, f"/dates/{DATE}")
    return None if found is None else found.json().get("state")


def store_process(data_dir: Path) -> int | None:
    """The embedded Valkey of a data folder; None where none answers."""
    address = read_address(data_dir / "valkey")
    if address is None:
        return None
    with redis.Redis.from_url(address) as client:
        try:
            return int(client.info("server")["process_id"])
        except redis.RedisError:
            return None


def test_a_log_that_nobody_reads_stops_neither_a_date_nor_the_stop(
    loaded: Program, stalled: int, port: int, wait_until: WaitUntil
) -> None:
    loaded.environment["MLFS_HTTP_PORT"] = str(port)
    worker = launch(loaded, stalled, "run")
    try:
        wait_until(lambda: is_ready(port), "the worker takes messages", timeout_s=30.0)
        publish_night(loaded.data_dir)
        wait_until(lambda: state(port) == "done", "the night is done", timeout_s=30.0)
        assert is_ready(port)
        shown = answer(port, "/metrics")
        assert shown is not None
        assert "mlfs_log_lines_dropped_total 0.0" in shown.text

        worker.terminate()
        assert worker.wait(LEAVE_WITHIN_S) == 0
    finally:
        worker.kill()
        worker.wait()
    assert store_process(loaded.data_dir) is None


def test_a_demo_whose_screen_nobody_reads_ends_on_sigterm_with_its_store(
    program: Program, tmp_path: Path, stalled: int, wait_until: WaitUntil
) -> None:
    folder = tmp_path / "demo"
    demo = launch(program, stalled, "demo", "--dir", str(folder))
    try:
        wait_until(lambda: store_process(folder) is not None, "its store runs", timeout_s=30.0)

        demo.terminate()
        assert demo.wait(LEAVE_WITHIN_S) == 128 + signal.SIGTERM
    finally:
        demo.kill()
        demo.wait()
    assert store_process(folder) is None


def test_a_worker_goes_on_when_its_store_is_killed_under_it(
    loaded: Program, start_worker: Any, wait_until: WaitUntil
) -> None:
    worker = start_worker()
    port = int(worker.address().rpartition(":")[2])
    killed = store_process(loaded.data_dir)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    publish_night(loaded.data_dir)

    wait_until(lambda: state(port) == "done", "the night is done", timeout_s=30.0)
    assert store_process(loaded.data_dir) not in {None, killed}
    shown = answer(port, "/metrics")
    assert shown is not None
    assert "mlfs_state_store_restarts_total 1.0" in shown.text
    assert is_ready(port)
    assert worker.terminate() == 0
    assert store_process(loaded.data_dir) is None
