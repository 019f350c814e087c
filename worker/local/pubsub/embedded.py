"""Embedded bus: the local Pub/Sub server in this process, with a journal in a directory.

A single process owns the directory and serves; other processes connect to the written address. After a crash the next
owner reads the journal.
"""

import socket
from pathlib import Path

import structlog

from worker.errors import Unavailable
from worker.local.ownership import DirectoryLock, write_address
from worker.local.pubsub.faults import FaultHooks
from worker.local.pubsub.server import PubSubServer

log = structlog.get_logger(__name__)

ATTACH_TIMEOUT_S = 5.0
OWN_TIMEOUT_S = 5.0


class EmbeddedBus:
    """Pub/Sub server of this machine; `address` is valid after `start` or `attach`."""

    def __init__(self, directory: Path, faults: FaultHooks | None = None) -> None:
        """Prepare to serve from *directory*, with *faults* between this server and its clients."""
        self._directory = directory.absolute()
        self._faults = faults
        self._lock = DirectoryLock(self._directory)
        self._server: PubSubServer | None = None
        self.address = ""

    def start(self) -> None:
        """Own the directory and serve.

        Raises:
            Unavailable: Another process owns the directory.
        """
        self._lock.acquire(OWN_TIMEOUT_S)
        self._serve()

    def attach(self) -> None:
        """Use the running server of another process, or serve while this object lives.

        Raises:
            Unavailable: The owner's server does not answer.
        """
        if self._lock.try_acquire():
            self._serve()
            return
        self.address = self._lock.wait_for_server(ATTACH_TIMEOUT_S, _listens)

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
        """Error that ended the server of this process; None while the server runs."""
        ended = self._server.failure if self._server is not None else None
        return (
            None
            if ended is None
            else Unavailable(f"the local Pub/Sub server has ended: {ended!r}; restart the process")
        )

    def stop(self) -> None:
        """Stop the server of this process; repeatable."""
        if self._server is not None:
            try:
                self._server.stop()
            except Exception as exc:  # noqa: BLE001 - the process ends, and has more to close
                # The last acknowledgements may be lost: the server then delivers the messages again.
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
