"""Ownership of the directory of an embedded server: a file lock of a single process.

The owner starts and stops the server; other processes, the guests, read the address file and connect. The kernel
releases the lock when the owner dies, so the next owner takes over and adopts a server that still runs.
"""

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.errors import Unavailable

POLL_S = 0.05
GUEST_POLL_S = 0.02


class DirectoryLock:
    """Exclusive lock on a directory, held until `release` or the end of the process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if the lock is free; return True if this process holds the lock now."""
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
        """Take the lock; wait for a short-lived owner to finish.

        Raises:
            Unavailable: Another process keeps the lock; the message names the process id.
        """
        pause = threading.Event()
        for _ in range(max(1, round(timeout_s / POLL_S))):
            if self.try_acquire():
                return
            pause.wait(POLL_S)
        raise Unavailable(
            f"{self.directory} is in use by process {self.owner()}; stop that process, or use another directory"
        )

    def owner(self) -> str:
        """Return the process id written by the present owner."""
        try:
            return (self.directory / "owner.lock").read_text(encoding="ascii") or "unknown"
        except OSError:
            return "unknown"

    def wait_for_server(self, timeout_s: float, answers: Callable[[str], bool]) -> str:
        """Return the address of the owner's server as soon as the server answers.

        Raises:
            Unavailable: No answer within *timeout_s*.
        """
        pause = threading.Event()
        for _ in range(round(timeout_s / GUEST_POLL_S)):
            address = read_address(self.directory)
            if address is not None and answers(address):
                return address
            pause.wait(GUEST_POLL_S)
        raise Unavailable(f"process {self.owner()} owns {self.directory}, but the server there does not answer")

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Release the lock; repeatable."""
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
    """Write the address of the server for guests; the file is replaced atomically."""
    fresh = directory / "address.new"
    fresh.write_text(address, encoding="utf-8")
    fresh.replace(directory / "address")


def read_address(directory: Path) -> str | None:
    """Return the address written by the last owner; None if no owner wrote an address."""
    try:
        return (directory / "address").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
