"""The image's health check says what `/readyz` says, and never hangs or breaks on a worker that is not there."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastapi import FastAPI

from ops.healthcheck import is_ready
from tests.conftest import free_port
from worker.http.server import HttpServer


@pytest.fixture(params=[200, 503])
def answering(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The port of a worker, and what it answers."""

    class Worker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Worker)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port, request.param
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1"])  # noqa: S104 - as a container sets it
def test_only_a_ready_worker_is_healthy(answering: tuple[int, int], host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port, status = answering
    monkeypatch.setenv("MLFS_HTTP_PORT", str(port))
    monkeypatch.setenv("MLFS_HTTP_HOST", host)

    assert (status == 200) is is_ready()


def test_a_worker_on_every_ipv6_address_is_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    application = FastAPI()

    @application.get("/readyz")
    def ready() -> None:
        """Answer 200."""

    try:
        socket.create_server(("::", 0), family=socket.AF_INET6).close()
    except OSError as exc:
        pytest.skip(f"this machine has no IPv6: {exc}")
    server = HttpServer(application, "::", 0)
    monkeypatch.setenv("MLFS_HTTP_PORT", server.start().rpartition(":")[2])
    monkeypatch.setenv("MLFS_HTTP_HOST", "::")

    healthy = is_ready()
    server.stop()

    assert healthy


def test_a_worker_that_does_not_listen_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_HTTP_PORT", str(free_port()))
    monkeypatch.delenv("MLFS_HTTP_HOST", raising=False)

    assert not is_ready()
