"""The servers that a worker starts for itself are watched: Valkey is started again, and what cannot be is told."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.conftest import WaitUntil
from tests.support.rigs import ModelClock
from tests.support.services import StandIns
from worker.app import Worker
from worker.errors import Unavailable
from worker.local import valkey
from worker.local.pubsub.embedded import EmbeddedBus
from worker.local.valkey import RESTARTS_MAX, EmbeddedValkey, kill_servers
from worker.settings import load


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


def process_id(server: EmbeddedValkey) -> int | None:
    with redis.Redis.from_url(server.url) as client:
        try:
            return int(client.info("server")["process_id"])
        except redis.RedisError:
            return None


def kill(server: EmbeddedValkey) -> int:
    """Kill the server as the kernel would; return the process id that it had."""
    killed = process_id(server)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    return killed


def test_a_server_that_dies_is_started_again_with_its_data(owner: EmbeddedValkey, wait_until: WaitUntil) -> None:
    url = owner.url
    with redis.Redis.from_url(url) as client:
        client.set("kept", "1")
    killed = kill(owner)

    wait_until(lambda: process_id(owner) not in {None, killed}, "another server answers")

    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"1"
    assert (owner.url, owner.restarts, owner.failure) == (url, 1, None)


def test_an_adopted_server_is_watched_and_stopped_like_an_own_one(tmp_path: Path, wait_until: WaitUntil) -> None:
    first = EmbeddedValkey(tmp_path / "valkey")
    first.start()
    left_behind = process_id(first)
    # What the end of a killed owner leaves: the server, and a lock that nobody holds.
    first._stopping.set()
    assert first._watch is not None
    first._watch.join()
    first._lock.release()
    heir = EmbeddedValkey(tmp_path / "valkey")
    heir.start()
    assert process_id(heir) == left_behind

    kill(heir)
    assert first._process is not None
    first._process.wait()
    wait_until(lambda: process_id(heir) not in {None, left_behind}, "the heir started another server")
    again = process_id(heir)
    heir.stop()

    assert heir.restarts == 1
    assert process_id(heir) is None
    assert again is not None
    assert not Path(f"/proc/{again}").exists()


def test_a_guest_waits_for_the_owners_server_and_starts_none(owner: EmbeddedValkey, tmp_path: Path) -> None:
    kill(owner)
    guest = EmbeddedValkey(tmp_path / "valkey")

    guest.attach()
    guest.stop()

    assert guest._process is None
    assert process_id(guest) == process_id(owner) is not None


def test_a_server_that_keeps_dying_is_given_up(
    owner: EmbeddedValkey, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "RESTART_PAUSE_S", 0.0)
    for restart in range(1, RESTARTS_MAX + 1):
        killed = kill(owner)
        wait_until(lambda killed=killed: process_id(owner) not in {None, killed}, f"restart {restart}")
        assert owner.failure is None
    kill(owner)

    wait_until(lambda: owner.failure is not None, "the owner gives up")

    assert "valkey.log" in str(owner.failure)
    assert owner.restarts == RESTARTS_MAX


def test_a_process_that_breaks_off_leaves_no_server(owner: EmbeddedValkey, wait_until: WaitUntil) -> None:
    """Also one that hangs, which no order to stop reaches."""
    held = process_id(owner)
    assert held is not None
    os.kill(held, signal.SIGSTOP)

    kill_servers()

    wait_until(lambda: not owner._is_running(), "the server is gone")
    assert owner.restarts == 0


def test_a_bus_whose_server_ends_by_itself_says_so_and_still_stops(tmp_path: Path, wait_until: WaitUntil) -> None:
    bus = EmbeddedBus(tmp_path / "pubsub")
    bus.start()
    assert bus.failure is None
    assert bus._server is not None
    loop = bus._server._loop
    assert loop is not None
    loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])

    wait_until(lambda: bus.failure is not None, "the end is noticed")

    assert "Pub/Sub" in str(bus.failure)
    bus.stop()
    again = EmbeddedBus(tmp_path / "pubsub")
    again.start()
    again.stop()


def test_a_worker_whose_server_is_lost_is_not_alive_and_ends() -> None:
    parts = StandIns(load({}, http_port=0), ModelClock())
    worker = Worker(parts, ModelClock())  # type: ignore[arg-type]
    assert worker._alive() == []

    parts.lost = Unavailable("the embedded Valkey server is gone")

    assert worker.wait(threading.Event()) is parts.lost
    assert worker._alive() == ["the embedded Valkey server is gone"]
