"""Who owns an embedded part's directory: one process at a time, found out by a file lock that dies with the process.

The owner starts the server and stops it; guests read the address file and connect. A killed owner leaves no lock
behind, so the next one takes over, and adopts a server that outlived it.
"""

import fcntl
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.errors import Unavailable

POLL_S = 0.05


class DirectoryLock:
    """An exclusive lock on one directory, held until `release` or the end of the process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it; True when this process holds it now."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.directory / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor
        return True

    def acquire(self, timeout_s: float) -> None:
        """Take the lock, waiting for a short-lived owner to finish.

        Raises:
            Unavailable: Another process keeps it; the message names its process id.
        """
        pause = threading.Event()
        for _ in range(max(1, round(timeout_s / POLL_S))):
            if self.try_acquire():
                return
            pause.wait(POLL_S)
        raise Unavailable(f"{self.directory} is in use by process {self.owner()}; stop it, or use another directory")

    def owner(self) -> str:
        """Give the process id written by the present owner."""
        try:
            return (self.directory / "owner.lock").read_text(encoding="ascii") or "unknown"
        except OSError:
            return "unknown"

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Give the lock back; repeatable."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def write_address(directory: Path, address: str) -> None:
    """Tell guests where the server listens; replaced in one step, so nobody reads half of it."""
    fresh = directory / "address.new"
    fresh.write_text(address, encoding="utf-8")
    fresh.replace(directory / "address")


def read_address(directory: Path) -> str | None:
    """Give the address the last owner wrote, None when there never was one."""
    try:
        return (directory / "address").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
