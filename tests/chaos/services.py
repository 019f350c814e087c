"""Processes of a chaos run: the two services that obey orders, worker processes, and what a signal does to them."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

LEASH = shutil.which("setpriv")


def leashed(command: list[str]) -> list[str]:
    """A process that dies with this one, even when this one is killed."""
    return [LEASH, "--pdeathsig", "KILL", *command] if LEASH else command


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


@dataclass
class Service:
    """A process that takes orders on its standard input."""

    module: str
    folder: Path
    port: int
    process: "subprocess.Popen[str]" = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        command = leashed([sys.executable, "-m", self.module, str(self.folder), str(self.port)])
        with (self.folder / f"{self.module.rpartition('.')[2]}.log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        if not first:
            raise RuntimeError(f"{self.module} did not start; its log is in {self.folder}")

    def order(self, do: str, **arguments: Any) -> Any:
        """Have it do something and give its answer.

        Raises:
            RuntimeError: It said why not, or it is gone.
        """
        with self._lock:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            try:
                self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
                self.process.stdin.flush()
                line = self.process.stdout.readline()
            except (OSError, ValueError) as exc:
                raise RuntimeError(f"{self.module} is gone: {exc}") from exc
        if not line:
            raise RuntimeError(f"{self.module} is gone")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.module}: {do}: {answer['error']}")
        return answer["ok"]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a lost machine would."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(timeout=20)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue

    def restart(self) -> None:
        with self._lock:
            self.kill()
            self.start()


def environment(settings: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFS_")}
    clean.pop("PUBSUB_EMULATOR_HOST", None)
    return {**clean, "COLUMNS": "200", **settings}


class LogReader:
    """Copies what a process prints from a pipe into a file, and can stop reading: then the pipe fills up.

    The pipe holds 4 KiB, the least that Linux gives, so that a stalled reader is felt within a few lines.
    """

    PIPE_BYTES = 4096

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reading = threading.Event()
        self._reading.set()

    def follow(self, pipe: "IO[bytes]") -> None:
        """Read *pipe* on a thread until its last writer has closed it."""
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, self.PIPE_BYTES)
        threading.Thread(target=self._copy, args=(pipe,), name="log reader", daemon=True).start()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Read nothing meanwhile."""
        self._reading.clear()
        try:
            yield
        finally:
            self._reading.set()

    def _copy(self, pipe: "IO[bytes]") -> None:
        with pipe, self._path.open("ab", buffering=0) as file:
            while self._reading.wait() and (chunk := os.read(pipe.fileno(), self.PIPE_BYTES)):
                file.write(chunk)


@dataclass
class WorkerProcess:
    """One replica, restarted whenever it ends, as an orchestrator would.

    Attributes:
        name: Of the replica.
        place: Where its next start is to die, empty for a sound one.
        clock_file: Says how far its wall clock is ahead, for a process whose clock can step; None for one that cannot.
        armed: Where the process that runs is to die.
        killed: Whether somebody else has killed it.
        meant: Whether its next end is the nemesis's doing.
    """

    name: str
    folder: Path
    settings: dict[str, str]
    place: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    skew_s: int = 0
    clock_file: Path | None = None
    process: "subprocess.Popen[bytes] | None" = None
    meant: bool = False
    killed: bool = False
    armed: str = ""
    starts: int = 0

    def __post_init__(self) -> None:
        self.log = LogReader(self.log_path)

    def start(self) -> int:
        """Start `mlfs run`, or one that dies at `place`; gives the process id."""
        command = [sys.executable, "-m", "ops", "run"]
        if self.place:
            command = [sys.executable, "-m", "tests.chaos.crashing", self.place]
        elif self.clock_file is not None:
            command = [sys.executable, "-m", "tests.chaos.stepping"]
        self.meant, self.armed, self.killed = bool(self.place), self.place, False
        self.starts += 1
        self.process = subprocess.Popen(
            leashed(command),
            env=environment({**self.settings, **self.extra}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdout is not None
        self.log.follow(self.process.stdout)
        return self.process.pid

    @property
    def log_path(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def ended(self) -> int | None:
        """The exit code, None while it runs."""
        return self.process.poll() if self.process is not None else None

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False if it is gone."""
        if self.process is None or self.process.poll() is not None:
            return False
        self.killed = self.killed or number == signal.SIGKILL
        self.process.send_signal(number)
        return True

    def stop(self) -> int | None:
        if self.process is None:
            return None
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(timeout=10)

    def http(self) -> str:
        """Where it serves, by the last line of its log that says so; empty if it never started."""
        lines = self._lines_of_starts()
        return str(json.loads(lines[-1])["http"]) if lines else ""

    def times_served(self) -> int:
        """How often it has begun to serve."""
        return len(self._lines_of_starts())

    def _lines_of_starts(self) -> list[str]:
        if not self.log_path.exists():
            return []
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        return [line for line in text.splitlines() if '"worker_started"' in line]
