"""The embedded bus: the local Pub/Sub server in this process, with its journal in a directory."""

import socket
import threading
from pathlib import Path

import structlog

from worker.errors import Unavailable
from worker.local.ownership import DirectoryLock, read_address, write_address
from worker.local.pubsub.faults import FaultHooks
from worker.local.pubsub.server import PubSubServer

log = structlog.get_logger(__name__)

ATTACH_TIMEOUT_S = 5.0
OWN_TIMEOUT_S = 5.0
_POLL_S = 0.02


class EmbeddedBus:
    """A Pub/Sub server of this machine; `address` is valid after `start` or `attach`."""

    def __init__(self, directory: Path, faults: FaultHooks | None = None) -> None:
        """Prepare to serve from *directory*, with *faults* between this server and its clients."""
        self._directory = directory.absolute()
        self._faults = faults
        self._lock = DirectoryLock(self._directory)
        self._server: PubSubServer | None = None
        self.address = ""

    def start(self) -> None:
        """Own the directory and serve from it.

        Raises:
            Unavailable: Another process owns it.
        """
        self._lock.acquire(OWN_TIMEOUT_S)
        self._serve()

    def attach(self) -> None:
        """Use the running server of another process, or serve for as long as this object lives.

        Raises:
            Unavailable: The owner's server does not answer.
        """
        if self._lock.try_acquire():
            self._serve()
            return
        pause = threading.Event()
        for _ in range(round(ATTACH_TIMEOUT_S / _POLL_S)):
            address = read_address(self._directory)
            if address is not None and _listens(address):
                self.address = address
                return
            pause.wait(_POLL_S)
        raise Unavailable(f"process {self._lock.owner()} owns {self._directory}, but its server does not answer")

    def _serve(self) -> None:
        self._server = PubSubServer(self._directory / "journal.sqlite", faults=self._faults)
        self._server.start()
        self.address = self._server.address
        write_address(self._directory, self.address)

    @property
    def is_serving(self) -> bool:
        """Whether the server runs in this process."""
        return self._server is not None

    @property
    def failure(self) -> Unavailable | None:
        """Why the server of this process has ended by itself; None while it serves."""
        ended = self._server.failure if self._server is not None else None
        return None if ended is None else Unavailable(f"the local Pub/Sub server has ended: {ended!r}; start it again")

    def stop(self) -> None:
        """Stop serving if this process does; repeatable."""
        if self._server is not None:
            try:
                self._server.stop()
            except Exception as exc:  # noqa: BLE001 - the process ends, and has more to close
                # Acknowledgements of the last moments may be lost: their messages come again.
                log.error("bus_stopped_with_fault", kind=type(exc).__name__, error=str(exc))
            self._server = None
        self._lock.release()


def _listens(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False
