"""The started programs: each with a log, each in a process group of its own, all ended in reverse order."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from time import monotonic

from worker.errors import Unavailable

# A virtual machine for Java and a first import on a busy machine.
HEALTHY_WITHIN_S = 60.0
# What docker-compose.yml gives the worker to stop.
STOP_WITHIN_S = 10.0
WATCH_EVERY_S = 1.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Running:
    """A program that was started."""

    name: str
    process: "subprocess.Popen[str]"
    log: Path

    def end(self) -> int:
        """Ask its group to stop, end it if it does not; give the exit code, negative for a signal."""
        self._signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            return self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return


@dataclass
class Processes:
    """Everything that was started.

    Args:
        folder: Where logs go and programs run.
        tell: Shown to a person, one line each.
    """

    folder: Path
    tell: Callable[[str], None]
    _running: list[Running] = field(default_factory=list)
    _pause: Event = field(default_factory=Event)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Running:
        """Start a program that stays; its output goes to a log."""
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                _leashed(command),
                env=dict(environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                # Ctrl-C is for the runner alone, which then ends the others one after the other.
                start_new_session=True,
            )
        running = Running(name, process, log)
        self._running.append(running)
        return running

    def wait_healthy(self, running: Running, is_healthy: Callable[[], bool]) -> float:
        """Wait until a check holds; give the seconds.

        Raises:
            Unavailable: The program ended, or was not healthy in time.
        """
        began = monotonic()
        while not is_healthy():
            self._raise_if_ended(running)
            if monotonic() - began > HEALTHY_WITHIN_S:
                raise Unavailable(
                    f"{running.name} was not healthy in {HEALTHY_WITHIN_S:.0f} s; its log is {running.log}"
                )
            self._pause.wait(_POLL_S)
        return monotonic() - began

    def watch(self) -> None:
        """Wait for as long as everything runs.

        Raises:
            Unavailable: Something ended.
        """
        while True:
            for running in self._running:
                self._raise_if_ended(running)
            self._pause.wait(WATCH_EVERY_S)

    def _raise_if_ended(self, running: Running) -> None:
        code = running.process.poll()
        if code is not None:
            raise Unavailable(f"{running.name} ended with exit code {code}; its log is {running.log}")

    def run_job(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run a program to its end, showing what it says.

        Raises:
            Unavailable: It did not end with exit code 0.
        """
        running = self.start(name, command, environment)
        with running.log.open(encoding="utf-8") as said:
            code = None
            while code is None:
                code = running.process.poll()
                for line in said:
                    self.tell(f"  {line.rstrip()}")
                if code is None:
                    self._pause.wait(_POLL_S)
        self._running.remove(running)
        if code:
            raise Unavailable(f"{name} ended with exit code {code}; its log is {running.log}")

    def end_all(self) -> dict[str, int]:
        """End what still runs, the last started first; give exit codes by name."""
        codes = {}
        while self._running:
            running = self._running.pop()
            codes[running.name] = running.end()
        return codes


def _leashed(command: Sequence[str]) -> list[str]:
    """Where Linux can do it, the program dies with the runner, even when that is killed."""
    leash = shutil.which("setpriv")
    return [leash, "--pdeathsig", "TERM", *command] if leash else list(command)
