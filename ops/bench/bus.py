"""Local Pub/Sub server in a separate process: like Google's server, the server shares no interpreter with a worker."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from google.cloud.pubsub_v1.types import BatchSettings

from worker.adapters.pubsub.connection import ensure_topology, publisher_client
from worker.errors import Unavailable
from worker.local.pubsub.server import PubSubServer

PROJECT = "bench"
TOPIC = "completions"
SUBSCRIPTION = "worker"
PUBLISH_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


@contextmanager
def bus_process(folder: Path) -> Iterator[str]:
    """Serve from a journal in *folder* during the block; create topic and subscription and return `host:port`.

    Raises:
        Unavailable: The server did not start.
    """
    command = [sys.executable, "-m", "ops.bench.measure", "bus", json.dumps({"folder": str(folder)})]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this program
        started, stop = cast("IO[str]", process.stdout), cast("IO[str]", process.stdin)
        address = started.readline().strip()
        try:
            if not address:
                raise Unavailable("the Pub/Sub server of the benchmark did not start")
            ensure_topology(address, PROJECT, topics=(TOPIC,), subscriptions={SUBSCRIPTION: TOPIC})
            yield address
        finally:
            stop.close()
            process.wait(STOP_TIMEOUT_S)


def serve(folder: str) -> dict[str, Any]:
    """Serve until standard input ends; write the address as the first line."""
    with PubSubServer(Path(folder) / "journal.sqlite") as server:
        sys.stdout.write(f"{server.address}\n")
        sys.stdout.flush()
        sys.stdin.read()
    return {}


def publish_all(address: str, bodies: Iterator[bytes]) -> int:
    """Publish messages in large batches and wait for all confirmations; return the number of messages."""
    client: Any = publisher_client(address, batch_settings=BatchSettings(max_messages=500))
    topic = client.topic_path(PROJECT, TOPIC)
    futures = [client.publish(topic, body) for body in bodies]
    for future in futures:
        future.result(timeout=PUBLISH_TIMEOUT_S)
    client.stop()
    client.transport.close()
    return len(futures)
