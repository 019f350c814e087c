"""Clients that send half a request, nothing, nonsense, or too many at once: others are answered."""

import asyncio
import json
import logging
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, Request
from starlette.types import ASGIApp

from tests.conftest import WaitUntil
from tests.support.services import Service
from worker.adapters.pubsub.connection import ensure_topology
from worker.http.application import HealthChecks, create_app
from worker.http.connections import ConnectionBounds, LogPause
from worker.http.middleware import BodyLimit
from worker.http.server import HttpServer
from worker.local.pubsub.server import PubSubServer
from worker.observing.bounds import connections_max

HEAD = b"Host: 127.0.0.1\r\n"
PATIENCE_S = 20.0


class Listener:
    """A listener with small bounds, and clients that stay connected."""

    def __init__(self, stack: ExitStack, app: ASGIApp | None = None, **bounds: Any) -> None:
        self._stack = stack
        app = app or create_app(HealthChecks(alive=list, ready=list), version="1")
        self.server = HttpServer(app, "127.0.0.1", 0, bounds=ConnectionBounds(**bounds))  # type: ignore[arg-type]
        self.port = int(self.server.start().rsplit(":", 1)[1])
        stack.callback(self.server.stop)

    def connect(self, sent: bytes = b"") -> socket.socket:
        client = self._stack.enter_context(socket.create_connection(("127.0.0.1", self.port), PATIENCE_S))
        client.sendall(sent)
        return client

    def ask(self, head: bytes) -> tuple[int, dict[str, Any]]:
        """Send one request on a connection of its own; give status and JSON body."""
        return parsed(everything(self.connect(head + b"Connection: close\r\n\r\n")))


def everything(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    got = b""
    while part := client.recv(65536):
        got += part
    return got


def parsed(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Half: "])
def test_a_head_that_does_not_come_ends_the_connection(stack: ExitStack, sent: bytes) -> None:
    answer = everything(Listener(stack, connections_max=4, client_timeout_s=0.1).connect(sent))

    assert (not answer) if not sent else parsed(answer)[0] == 408


def test_a_head_that_dribbles_gets_no_more_time(stack: ExitStack) -> None:
    client = Listener(stack, connections_max=4, client_timeout_s=0.3).connect(b"GET /livez HTTP/1.1\r\n")
    readable: list[Any] = []
    for _ in range(100):
        readable, _, _ = select.select([client], [], [], 0.05)
        if readable:
            break
        client.sendall(b"X")

    assert readable, "five seconds of single bytes kept the connection open"


def test_a_body_that_does_not_come_is_answered_and_the_connection_closed(stack: ExitStack) -> None:
    app = FastAPI()

    @app.post("/read")
    async def read(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(BodyLimit, timeout_s=0.1)
    client = Listener(stack, app, connections_max=4).connect(
        b"POST /read HTTP/1.1\r\n" + HEAD + b"Content-Length: 10\r\n\r\nabc"
    )

    assert parsed(everything(client))[0] == 408


def test_a_client_that_leaves_within_its_body_is_no_fault_of_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as stack, Service(listens=True) as service:
        host, port = service.client.base_url.host, service.client.base_url.port
        client = stack.enter_context(socket.create_connection((host, port), PATIENCE_S))
        client.sendall(b"POST /pubsub/push HTTP/1.1\r\n" + HEAD + b"Content-Length: 10\r\n\r\nabc")
        client.shutdown(socket.SHUT_WR)

        assert everything(client) == b""
        assert service.client.get("/livez").status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_idle_connections_make_room_for_others_oldest_first(stack: ExitStack) -> None:
    listener = Listener(stack, connections_max=6)
    idle = [listener.connect(b"GET /livez HTTP/1.1\r\nX: ") for _ in range(30)]

    assert listener.ask(b"GET /livez HTTP/1.1\r\n" + HEAD)[0] == 200
    assert everything(idle[0]) == b""


def test_with_every_connection_at_work_health_is_answered_and_the_rest_refused(
    stack: ExitStack, wait_until: WaitUntil
) -> None:
    app = create_app(HealthChecks(alive=list, ready=list), version="1")
    listener = Listener(stack, app, connections_max=2)
    gate = stack.enter_context(_Held(app))
    for _ in range(2):
        listener.connect(b"GET /held HTTP/1.1\r\n" + HEAD + b"\r\n")
    wait_until(lambda: gate.waiting == 2, "both requests are at work")

    assert listener.ask(b"GET /livez HTTP/1.1\r\n" + HEAD)[0] == 200
    status, refused = listener.ask(b"GET /held HTTP/1.1\r\n" + HEAD)
    assert (503, "the worker has no free connection") == (status, refused["detail"])


class _Held:
    """A route that answers when it is let go."""

    def __init__(self, app: FastAPI) -> None:
        self.waiting = 0
        self._let_go = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

        @app.get("/held")
        async def held() -> None:
            self._loop = asyncio.get_running_loop()
            self.waiting += 1
            await self._let_go.wait()

    def __enter__(self) -> "_Held":
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._let_go.set)


def test_a_client_that_does_not_read_is_dropped(stack: ExitStack, wait_until: WaitUntil) -> None:
    app = FastAPI()

    @app.get("/large")
    def large() -> str:
        return "x" * 50_000_000

    listener = Listener(stack, app, connections_max=4, client_timeout_s=0.2)
    client = listener.connect(b"GET /large HTTP/1.1\r\n" + HEAD + b"\r\n")
    wait_until(lambda: len(client.recv(1000, socket.MSG_PEEK)) > 0, "the answer begins")
    wait_until(lambda: not listener.server._server.server_state.connections, "the connection is given up")

    assert len(everything(client)) < 50_000_000


@pytest.mark.parametrize(
    "line",
    [
        b"OPTIONS * HTTP/1.1",
        b"GET livez HTTP/1.1",
        b"GET ? HTTP/1.1",
        b"CONNECT x:443 HTTP/1.1",
        b"GET http://elsewhere.example/livez HTTP/1.1",
        b"GET /dates/%ff HTTP/1.1",
        b"GET /dates?x=%ff HTTP/1.1",
        b"GET /" + b"a" * 3000 + b" HTTP/1.1",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1",
        b"GET /livez",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_a_malformed_request_line_is_refused_in_plain_words_and_without_a_trace(
    line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack, Service(listens=True) as service:
        base = service.client.base_url
        client = stack.enter_context(socket.create_connection((base.host, base.port), PATIENCE_S))
        client.sendall(line + b"\r\n" + HEAD + b"Connection: close\r\n\r\n")
        status, problem = parsed(everything(client))

    assert (400, "urn:mlfs:problem:bad-request") == (status, problem["type"])
    # A thread of Google's client may outlive the test before.
    ours = [record for record in caplog.records if not record.name.startswith("google")]
    assert [record for record in ours if record.exc_info] == []


def test_connection_trouble_is_logged_once_a_second_and_the_rest_counted() -> None:
    pause = LogPause()
    written = [pause.over(at / 100) for at in range(250)]

    assert [index for index, over in enumerate(written) if over] == [0, 100, 200]
    assert (247, 0) == (pause.taken(), pause.taken())


def test_a_flood_of_nonsense_writes_few_lines(stack: ExitStack, caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener(stack, connections_max=50)
    with structlog.testing.capture_logs() as ours:
        for _ in range(100):
            everything(listener.connect(b"nonsense\r\n\r\n"))

    assert len(caplog.records) + len(ours) < 50


def test_the_local_bus_takes_a_bounded_number_of_connections(stack: ExitStack, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, before[1]))
    limit = connections_max()
    server = stack.enter_context(PubSubServer(tmp_path / "journal.sqlite"))
    clients = [
        stack.enter_context(socket.create_connection((server.host, server.port), PATIENCE_S)) for _ in range(limit + 20)
    ]

    assert [client.recv(1) for client in clients[limit:]] == [b""] * 20
    for client in clients:
        client.close()
    ensure_topology(server.address, "project", topics=("topic",), subscriptions={})
