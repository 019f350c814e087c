"""The join on DBOS: one durable workflow per date, named after it, that receives its four messages.

The workflow is what DBOS is made for: `recv` with a timeout is a durable wait, and a step that has returned is not run
again. Its state lies in Postgres.
"""

import os
import subprocess
import sys
import threading
import time

from dbos import DBOS, DBOSClient

from bench.peers import sink

PROCESSORS = 4
NAME = "peers"
QUEUE = "nights"
# What a date without a deadline waits for: longer than any run.
NO_DEADLINE_S = 3600.0


@DBOS.workflow(name="night")
def night(day: str, deadline_at: float | None) -> None:
    """Wait for four distinct completions or the deadline, then build."""
    seen: set[str] = set()
    ends = deadline_at or time.time() + NO_DEADLINE_S
    while len(seen) < PROCESSORS:
        left = ends - time.time()
        processor = DBOS.recv("completion", timeout_seconds=max(left, 0.0))
        if processor is None:
            break
        seen.add(processor)
    build(day, "join" if len(seen) == PROCESSORS else "deadline")


@DBOS.step(name="build")
def build(day: str, mode: str) -> None:
    """Build."""
    sink.build(_client(), day, mode)


_connections: list = []


def _client():
    if not _connections:
        _connections.append(sink.connect())
    return _connections[0]


def launch() -> None:
    """Connect, make tables and queue; a process takes up its own unfinished workflows when it starts again."""
    DBOS(
        config={
            "name": NAME,
            "system_database_url": os.environ["PEERS_POSTGRES"],
            "application_version": "1",
            "executor_id": os.environ.get("PEERS_EXECUTOR", "one"),
            "log_level": "ERROR",
            "max_executor_threads": 512,
            "use_listen_notify": True,
            "notification_listener_polling_interval_sec": 0.01,
        }
    )
    DBOS.launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=0.05)


class Peer:
    """How the run drives it."""

    name = "dbos"

    def __init__(self) -> None:
        subprocess.run([sys.executable, "-m", "bench.peers.dbos_join", "tables"], check=True)
        self._client = DBOSClient(system_database_url=os.environ["PEERS_POSTGRES"])
        self._open: set[str] = set()

    def worker(self) -> subprocess.Popen:
        """Start one process."""
        return subprocess.Popen([sys.executable, "-m", "bench.peers.dbos_join"], start_new_session=True)

    def open(self, day: str, deadline_at: float | None) -> None:
        """Start the date's workflow; a second start under its name is none."""
        self._open.add(day)
        options = {"queue_name": QUEUE, "workflow_name": "night", "workflow_id": day, "app_version": "1"}
        self._client.enqueue(options, day, deadline_at)

    def complete(self, day: str, processor: str) -> None:
        """Send one completion to the date's workflow."""
        if day not in self._open:
            self.open(day, None)
        self._client.send(day, processor, "completion")

    def close(self) -> None:
        """Close the connections."""
        self._client.destroy()


if __name__ == "__main__":
    launch()
    if sys.argv[1:] != ["tables"]:
        threading.Event().wait()
    os._exit(0)
