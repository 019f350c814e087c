"""`make stack` leaves nothing behind: what it starts ends, and what fails is named with its log."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compose_runner.processes import Processes
from tests.support.compose_runner.runner import choose_ports
from worker.errors import Unavailable

STAYS = "import time; print('up', flush=True); time.sleep(600)"
WITH_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STAYS!r}])"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def processes(tmp_path: Path, said: list[str]) -> Iterator[Processes]:
    started = Processes(tmp_path, said.append)
    yield started
    started.end_all()


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_ending_takes_the_children_of_what_was_started_too(processes, wait_until):
    running = processes.start("parent", [sys.executable, "-c", WITH_CHILD], os.environ)
    wait_until(lambda: "up" in running.log.read_text(encoding="utf-8"), "the child runs")

    codes = processes.end_all()

    assert {"parent": -signal.SIGTERM} == codes
    wait_until(lambda: group_is_gone(running.process.pid), "no process of the group is left")


def test_a_program_that_ends_early_is_named_with_its_log(processes, tmp_path):
    running = processes.start("broken", [sys.executable, "-c", "print('why'); raise SystemExit(3)"], os.environ)

    with pytest.raises(Unavailable, match=r"broken ended with exit code 3; its log is .*broken\.log"):
        processes.wait_healthy(running, lambda: False)
    assert "why\n" == (tmp_path / "logs" / "broken.log").read_text(encoding="utf-8")


def test_what_ends_while_the_stack_is_kept_is_named(processes):
    processes.start("stays", [sys.executable, "-c", STAYS], os.environ)
    processes.start("leaves", [sys.executable, "-c", "raise SystemExit(1)"], os.environ)

    with pytest.raises(Unavailable, match="leaves ended with exit code 1"):
        processes.watch()


def test_a_job_is_shown_while_it_runs_and_must_end_well(processes, said):
    processes.run_job("good", [sys.executable, "-c", "print('one'); print('two')"], os.environ)

    assert ["  one", "  two"] == said
    with pytest.raises(Unavailable, match="bad ended with exit code 4"):
        processes.run_job("bad", [sys.executable, "-c", "raise SystemExit(4)"], os.environ)


def test_a_taken_port_is_replaced_and_no_port_is_given_twice():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        chosen = choose_ports([port, port + 1], any_free=False)
        free = choose_ports(range(1, 200), any_free=True)

    assert port != chosen[port]
    assert 199 == len(set(free.values()))
    assert all(20_000 <= one < 32_000 for one in free.values())
