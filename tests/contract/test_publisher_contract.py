"""The publisher against the local Pub/Sub server: what it confirms has arrived, byte for byte."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import WaitUntil, free_port
from worker.adapters.pubsub import publish
from worker.adapters.pubsub.connection import ensure_topology, subscriber_client
from worker.adapters.pubsub.publish import PubSubPublisher
from worker.errors import PublishRefused, Unavailable
from worker.local.pubsub.server import PubSubServer
from worker.ports import OutgoingMessage

PROJECT = "nba"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A bus with one topic and one subscription to it."""
    with PubSubServer(tmp_path / "journal.sqlite") as server:
        ensure_topology(server.address, PROJECT, topics=("out",), subscriptions={"reader": "out"})
        yield server.address


def arrived(address: str) -> list[tuple[str, bytes, dict[str, str]]]:
    """Id, data and attributes of what waits in the subscription."""
    with subscriber_client(address) as client:
        path = client.subscription_path(PROJECT, "reader")
        answer = client.pull(request={"subscription": path, "max_messages": 10}, timeout=10)
    found = [item.message for item in answer.received_messages]
    return [(item.message_id, item.data, dict(item.attributes)) for item in found]


def message(**attributes: str) -> OutgoingMessage:
    return OutgoingMessage(
        event_id="one", topic="out", data=b"\x00\xff", attributes=attributes, ordering_key="2024-12-15"
    )


def test_a_confirmed_message_has_arrived_as_it_was(address: str) -> None:
    publisher = PubSubPublisher(PROJECT, address)

    message_id = publisher.publish(message(state="done"))
    publisher.close()

    assert [(message_id, b"\x00\xff", {"state": "done"})] == arrived(address)


def test_an_attribute_of_any_name_can_be_published(address: str) -> None:
    """A dead letter carries whatever attributes its sender chose."""
    publisher = PubSubPublisher(PROJECT, address)
    chosen = dict.fromkeys(("self", "topic", "data", "ordering_key", "retry", "timeout"), "poison")

    publisher.publish(message(**chosen))
    publisher.close()

    [(_, _, attributes)] = arrived(address)
    assert chosen == attributes


@pytest.mark.parametrize("ordering_key", ["", "2024-12-15"])
def test_a_topic_that_was_missing_takes_messages_as_soon_as_it_is_there(address: str, ordering_key: str) -> None:
    publisher = PubSubPublisher(PROJECT, address)
    wanted = replace(message(), topic="late", ordering_key=ordering_key)

    for _ in range(3):
        with pytest.raises(PublishRefused, match="late"):
            publisher.publish(wanted)
    ensure_topology(address, PROJECT, topics=("late",), subscriptions={})

    assert publisher.publish(wanted)
    publisher.close()


def test_a_bus_that_comes_back_gets_what_it_did_not_confirm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(publish, "PUBLISH_RETRY_S", 0.2)
    port = free_port()
    publisher = PubSubPublisher(PROJECT, f"127.0.0.1:{port}")

    for _ in range(4):
        with pytest.raises(Unavailable, match="one not published to out"):
            publisher.publish(message())

    with PubSubServer(tmp_path / "journal.sqlite", port=port) as server:
        ensure_topology(server.address, PROJECT, topics=("out",), subscriptions={"reader": "out"})
        wait_until(lambda: confirmed(publisher), "the publisher reaches the bus again", timeout_s=40.0)
        publisher.close()
        assert {b"\x00\xff"} == {data for _, data, _ in arrived(server.address)}


def confirmed(publisher: PubSubPublisher) -> bool:
    try:
        return bool(publisher.publish(message()))
    except Unavailable:
        return False
