"""The local Pub/Sub server with a topic and a subscription, and what waits there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from google.pubsub_v1.types import PullRequest

from worker.adapters.pubsub.connection import ensure_topology, publisher_client, subscriber_client
from worker.local.pubsub.faults import FaultHooks
from worker.local.pubsub.model import LeasedMessage
from worker.local.pubsub.server import PubSubServer

PROJECT, TOPIC, SUBSCRIPTION = "p", "completions", "worker"
ANSWER_S = 10.0


class Watched(FaultHooks):
    """Notes what is served; streams of the first *silent* clients get nothing."""

    def __init__(self, silent: int = 0) -> None:
        self.silent = silent
        self.streams: list[str] = []
        self.sent: list[bytes] = []

    def on_deliver(self, _subscription: str, deliveries: Sequence[LeasedMessage]) -> Sequence[LeasedMessage]:
        self.sent += [delivery.message.data for delivery in deliveries]
        return deliveries

    def on_stream(self, _subscription: str, stream: str) -> bool:
        if stream not in self.streams:
            self.streams.append(stream)
        return self.streams.index(stream) >= self.silent


def take_waiting(address: str, path: str) -> list[bytes]:
    """Take and acknowledge what can be delivered now from a subscription, given by its full name."""
    client = subscriber_client(address)
    taken: list[bytes] = []
    request = PullRequest(subscription=path, max_messages=1000, return_immediately=True)
    while received := client.transport.pull(request, timeout=ANSWER_S).received_messages:
        taken += [one.message.data for one in received]
        client.acknowledge(subscription=path, ack_ids=[one.ack_id for one in received])
    client.close()
    return taken


@dataclass
class LocalBus:
    """A running server and the other end of the wire."""

    server: PubSubServer
    address: str = field(init=False)

    def __post_init__(self) -> None:
        self.address = self.server.address
        ensure_topology(self.address, PROJECT, topics=(TOPIC,), subscriptions={SUBSCRIPTION: TOPIC})
        self._publisher = publisher_client(self.address)

    def publish(self, *bodies: bytes) -> None:
        topic = self._publisher.topic_path(PROJECT, TOPIC)
        for future in [self._publisher.publish(topic, body) for body in bodies]:
            future.result(ANSWER_S)

    def take_waiting(self) -> list[bytes]:
        """Take and acknowledge what can be delivered now."""
        return take_waiting(self.address, f"projects/{PROJECT}/subscriptions/{SUBSCRIPTION}")

    def close(self) -> None:
        self._publisher.stop()
        self._publisher.transport.close()
        self.server.stop()


@contextmanager
def local_bus(faults: FaultHooks | None = None, journal: Path | None = None) -> Iterator[LocalBus]:
    server = PubSubServer(journal, faults=faults)
    server.start()
    bus = LocalBus(server)
    try:
        yield bus
    finally:
        bus.close()
