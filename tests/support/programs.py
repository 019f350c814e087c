"""The program as a user has it: the `mlfs` command and a worker process, each with a data folder of its own."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from ops import output
from ops.cli import main
from worker.clock import SystemClock

COMMAND = [sys.executable, "-m", "ops"]


def not_tonight() -> dict[str, str]:
    """Return settings by which the calendar opens no date now: between 23:25 and midnight in New York, the deadline of
    tonight could fall into a test. The dates of the past are expected as ever."""
    today = SystemClock().now().date()
    near = (today + timedelta(days=days) for days in (-1, 0, 1))
    return {"MLFS_SEASON": "01-01..12-31", "MLFS_SKIP_DATES": ",".join(map(str, near))}


def run_here(arguments: Sequence[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run `mlfs` with this whole environment in this process, which saves a second; every question gets a yes."""
    said, complained = io.StringIO(), io.StringIO()
    code: object = 0
    width = int(environment["COLUMNS"])
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["mlfs", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO("y\n")),
        mock.patch.object(output.out, "_width", width),
        mock.patch.object(output.err, "_width", width),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    number = int(code) if isinstance(code, int) else int(code is not None)
    return subprocess.CompletedProcess(["mlfs", *arguments], number, said.getvalue(), complained.getvalue())


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

    def here(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run what `run` runs without a process of its own, where nothing depends on how a process begins or ends."""
        return run_here(arguments, self.environ())

    def json_here(self, *arguments: str) -> Any:
        return self._answer(self.here(*arguments, "--json"))

    def json(self, *arguments: str) -> Any:
        return self._answer(self.run(*arguments, "--json"))

    def _answer(self, done: "subprocess.CompletedProcess[str]") -> Any:
        assert done.stdout, f"no output; exit {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)

    def launch(self, log_path: Path, *command: str) -> "RunningWorker":
        """Start *command*, `mlfs run` by default, in the background, its output in *log_path*."""
        with log_path.open("wb") as log:
            process = subprocess.Popen(command or [*COMMAND, "run"], env=self.environ(), stdout=log, stderr=log)
        return RunningWorker(self, process, log_path)


@dataclass
class RunningWorker:
    """A worker process in the background."""

    program: Program
    process: "subprocess.Popen[bytes]"
    log_path: Path

    def log_lines(self) -> list[dict[str, Any]]:
        lines = self.log_path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def address(self) -> str | None:
        """Where it serves HTTP; None until it takes messages."""
        started = [line for line in self.log_lines() if line["message"] == "worker_started"]
        return started[-1]["http"] if started else None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)
