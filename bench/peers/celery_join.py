"""The join on Celery: one task per completion, a set per date in Redis, and a build task named after its date.

Settings are those that Celery's documentation gives for work that must not be lost: late acknowledgement, rejection of
a lost worker's tasks, one task taken at a time. `visibility_timeout` is how long Redis waits before it hands a dead
worker's task to another; its default of an hour would lose the night, so the run shortens it.
"""

import os
import subprocess
import sys
from datetime import UTC, datetime

from celery import Celery

from bench.peers import sink

PROCESSORS = 4
# Adds the completion and tells how many there are, and whether the build was asked for already: one step, so that two
# last completions cannot both miss the fourth.
_ARRIVED = "redis.call('SADD', KEYS[1], ARGV[1]) return {redis.call('SCARD', KEYS[1]), redis.call('EXISTS', KEYS[2])}"

app = Celery("peers", broker=os.environ.get("PEERS_REDIS", "redis://"))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=int(os.environ.get("PEERS_PREFETCH", "1")),
    broker_transport_options={"visibility_timeout": 10},
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="arrived")
def arrived(day: str, processor: str) -> None:
    """Take one completion; ask for the build when it was the fourth."""
    client = _client()
    count, fired = client.eval(_ARRIVED, 2, f"peers:join:{day}", f"peers:fired:{day}", processor)
    if count == PROCESSORS and not fired:
        _fire(day, "join")


@app.task(name="deadline")
def deadline(day: str) -> None:
    """Ask for the fallback, unless the build was asked for."""
    if not _client().exists(f"peers:fired:{day}"):
        _fire(day, "deadline")


@app.task(name="build")
def build(day: str, mode: str) -> None:
    """Build."""
    sink.build(_client(), day, mode)


def _fire(day: str, mode: str) -> None:
    """Ask first and mark after: a death in between asks twice; the other order would lose the date."""
    build.apply_async((day, mode), task_id=f"build-{day}")
    _client().set(f"peers:fired:{day}", 1)


_connections: list = []


def _client():
    if not _connections:
        _connections.append(sink.connect())
    return _connections[0]


class Peer:
    """How the run drives it."""

    name = "celery"

    def worker(self) -> subprocess.Popen:
        """Start one worker of one process."""
        command = [sys.executable, "-m", "celery", "-A", "bench.peers.celery_join", "worker"]
        options = ["--pool", "solo", "--loglevel", "ERROR", "--without-gossip", "--without-mingle", "-n", "w%i@h"]
        return subprocess.Popen([*command, *options], start_new_session=True)

    def open(self, day: str, deadline_at: float | None) -> None:
        """Ask for the deadline."""
        if deadline_at is not None:
            deadline.apply_async((day,), eta=datetime.fromtimestamp(deadline_at, UTC))

    def complete(self, day: str, processor: str) -> None:
        """Send one completion."""
        arrived.delay(day, processor)

    def close(self) -> None:
        """Nothing to close."""
