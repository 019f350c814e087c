"""The journal of the local bus: a damaged one is refused with its cure, one that was taken away is written anew."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.conftest import WaitUntil
from tests.support.buses import take_waiting
from worker.adapters.pubsub.connection import ensure_topology, publisher_client
from worker.errors import Fatal
from worker.local.pubsub.embedded import EmbeddedBus
from worker.local.pubsub.server import PubSubServer

PROJECT = "journal"
TOPIC = f"projects/{PROJECT}/topics/reports"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/worker"
WAIT_S = 20.0


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with a topic, a subscription and a message that waits; its server has stopped."""
    path = tmp_path / "pubsub" / "journal.sqlite"
    with PubSubServer(path) as server:
        prepare(server)
        publish(server, b"first")
    return path


def prepare(server: PubSubServer) -> None:
    ensure_topology(server.address, PROJECT, topics=("reports",), subscriptions={"worker": "reports"})


def publish(server: PubSubServer, body: bytes) -> None:
    client = publisher_client(server.address)
    client.publish(TOPIC, body).result(WAIT_S)
    client.stop()
    client.transport.close()


def waiting(path: Path) -> set[bytes]:
    with PubSubServer(path) as server:
        return set(take_waiting(server.address, SUBSCRIPTION))


def make_random(path: Path) -> None:
    path.write_bytes(os.urandom(8_000))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_a_message(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE batch SET messages = ?", (b"\xff" * 20,))
    connection.commit()
    connection.close()


def put_another_database(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE batch (number INTEGER)")
    connection.close()


@pytest.mark.parametrize("damage", [make_random, truncate, empty, spoil_a_message, put_another_database])
def test_a_damaged_journal_is_refused_with_its_cure_and_the_cure_works(
    journal: Path, damage: Callable[[Path], None]
) -> None:
    damage(journal)

    with pytest.raises(Fatal, match=r"is damaged .*; move the file aside \(mv ") as refused:
        PubSubServer(journal).start()

    assert str(journal) in str(refused.value)
    journal.rename(journal.with_name("journal.sqlite.damaged"))
    with PubSubServer(journal) as server:
        prepare(server)


def remove(path: Path) -> None:
    path.unlink()


def remove_the_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace(path: Path) -> None:
    other = path.with_name("other")
    make_random(other)
    other.replace(path)


@pytest.mark.parametrize("take_away", [remove, remove_the_folder, replace])
def test_a_journal_that_was_taken_away_is_written_anew_with_what_it_held(
    journal: Path, take_away: Callable[[Path], None]
) -> None:
    with PubSubServer(journal) as server:
        publish(server, b"before")
        take_away(journal)
        publish(server, b"after")
        # A second server reads what a kill of the first one would leave.
        copied = journal.parent.with_name("copied")
        shutil.copytree(journal.parent, copied)

    assert waiting(copied / journal.name) == {b"first", b"before", b"after"}
    assert waiting(journal) == {b"first", b"before", b"after"}


def test_a_journal_that_cannot_be_written_keeps_serving_says_so_once_and_is_written_later(
    journal: Path, wait_until: WaitUntil
) -> None:
    with capture_logs() as logs, PubSubServer(journal) as server:
        client = publisher_client(server.address)
        journal.unlink()
        journal.mkdir()

        confirmed = client.publish(TOPIC, b"later")
        wait_until(lambda: any(line["event"] == "pubsub_journal_behind" for line in logs), "it is told")
        assert client.get_topic(topic=TOPIC).name == TOPIC
        assert b"first" in take_waiting(server.address, SUBSCRIPTION)
        assert not confirmed.done()
        journal.rmdir()

        confirmed.result(WAIT_S)
        client.stop()
        client.transport.close()
    assert waiting(journal) == {b"later"}
    told = [line["event"] for line in logs if line["event"].startswith("pubsub_journal_")]
    assert told.count("pubsub_journal_behind") == told.count("pubsub_journal_caught_up") == 1


def test_a_bus_whose_journal_cannot_be_written_at_the_end_still_ends(tmp_path: Path) -> None:
    bus = EmbeddedBus(tmp_path / "pubsub")
    bus.start()
    assert bus._server is not None
    prepare(bus._server)
    publish(bus._server, b"acknowledged too late")
    journal = tmp_path / "pubsub" / "journal.sqlite"
    journal.unlink()
    journal.mkdir()
    take_waiting(bus.address, SUBSCRIPTION)

    with capture_logs() as logs:
        bus.stop()

    assert "bus_stopped_with_fault" in [line["event"] for line in logs]
    journal.rmdir()
    again = EmbeddedBus(tmp_path / "pubsub")
    again.start()
    again.stop()
