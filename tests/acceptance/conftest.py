"""The program as a user has it: the `mlfs` command and a worker process, each in a data folder of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "ops"]


@dataclass
class Program:
    """Runs `mlfs` with one data folder."""

    data_dir: Path
    environment: dict[str, str] = field(default_factory=dict)

    def environ(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFS_")}
        clean.pop("PUBSUB_EMULATOR_HOST", None)
        return {**clean, "MLFS_DATA_DIR": str(self.data_dir), "COLUMNS": "200", **self.environment}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments], env=self.environ(), capture_output=True, text=True, timeout=60, check=False
        )

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.stdout, f"no output; exit {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)


@dataclass
class RunningWorker:
    """A `mlfs run` in the background."""

    program: Program
    process: "subprocess.Popen[bytes]"
    log_path: Path

    def log_lines(self) -> list[dict[str, Any]]:
        lines = self.log_path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def address(self) -> str | None:
        started = [line for line in self.log_lines() if line["message"] == "worker_started"]
        return started[-1]["http"] if started else None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "data", {"MLFS_HTTP_PORT": "0"})


@pytest.fixture
def start_worker(program: Program, tmp_path: Path, wait_until: Any) -> Iterator[Callable[[], RunningWorker]]:
    """Start `mlfs run` and give it back once it takes messages; what still runs at the end is stopped."""
    started: list[RunningWorker] = []

    def start() -> RunningWorker:
        log_path = tmp_path / f"worker-{len(started)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen([*COMMAND, "run"], env=program.environ(), stdout=log, stderr=log)
        worker = RunningWorker(program, process, log_path)
        started.append(worker)
        wait_until(lambda: worker.address() or process.poll() is not None, "the worker starts", timeout_s=30.0)
        assert worker.address(), log_path.read_text(encoding="utf-8")
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.terminate()
