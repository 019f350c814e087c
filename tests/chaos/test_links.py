"""A link does to a connection what a network does, and no byte is lost or changes its place."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.links import FAIR, Link, Weather

WAIT_S = 10.0
# How long nothing has to arrive until a test believes that nothing does.
SILENCE_S = 0.2


def _echo(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            while data := connection.recv(1000):
                connection.sendall(data)


@pytest.fixture
def link() -> Iterator[Link]:
    """A link to a server that says everything again."""
    with ExitStack() as stack:
        listener = socket.create_server(("127.0.0.1", 0))
        stack.callback(listener.close)
        stack.callback(lambda: listener.shutdown(socket.SHUT_RDWR))
        threading.Thread(target=_echo, args=(listener,), daemon=True).start()
        made = Link(listener.getsockname()[1])
        made.start()
        stack.callback(made.stop)
        yield made


def _connect(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=WAIT_S)


def _ask(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return _hear(connection, len(text))


def _hear(connection: socket.socket, count: int) -> bytes:
    heard = b""
    while len(heard) < count and (data := connection.recv(count - len(heard))):
        heard += data
    return heard


@pytest.mark.parametrize("weather", [Weather(there=False), Weather(back=False)], ids=["there", "back"])
def test_what_is_said_while_a_way_is_cut_arrives_once_it_is_mended(link: Link, weather: Weather) -> None:
    with _connect(link) as connection:
        assert _ask(connection, b"before") == b"before"
        link.weather = weather
        connection.sendall(b"meanwhile")
        connection.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            connection.recv(100)

        link.mend()
        connection.settimeout(WAIT_S)

        assert _hear(connection, 9) == b"meanwhile"


def test_slow_and_lossy_links_keep_every_byte_in_its_place(link: Link) -> None:
    link.weather = Weather(latency_s=0.001, jitter_s=0.01, loss=0.1)
    said = bytes(range(256)) * 80
    with _connect(link) as connection:
        assert _ask(connection, said) == said


def test_a_cut_link_drops_who_is_connected_and_whoever_comes_until_it_is_mended(link: Link) -> None:
    with _connect(link) as connection:
        assert _ask(connection, b"before") == b"before"
        link.cut()
        assert connection.recv(100) == b""
    with _connect(link) as refused:
        assert refused.recv(100) == b""

    link.mend()

    with _connect(link) as connection:
        assert _ask(connection, b"after") == b"after"
    assert link.weather is FAIR


@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_a_lost_piece_waits_for_its_retransmission(loss: float) -> None:
    delay = Weather(latency_s=0.01, loss=loss).delay(random.Random(1))  # noqa: S311 - weather, not a secret

    assert (delay >= 0.2) is bool(loss)
