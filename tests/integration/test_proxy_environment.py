"""Behind a proxy that lets nothing through, the parts on this machine still reach each other."""

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from openlineage.client.event_v2 import Job, Run, RunEvent

from worker.adapters.bigquery.jobs import connect
from worker.adapters.direct import session_to
from worker.adapters.google_tokens import Certificates
from worker.adapters.openlineage import open_transport
from worker.adapters.pubsub.connection import (
    ensure_topology,
    plain_publisher_client,
    publisher_client,
    subscriber_client,
)
from worker.errors import Unavailable
from worker.local.pubsub.server import PubSubServer

DEAD = "http://127.0.0.1:9"
PROJECT = "projects/here"
EVENT = RunEvent(eventTime="2024-12-16T04:00:00Z", run=Run(runId=str(uuid.UUID(int=1))), job=Job("here", "a build"))


@pytest.fixture(autouse=True)
def _behind_a_dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, DEAD)
        monkeypatch.setenv(name.upper(), DEAD)
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


class _Any(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer({"key": "-----BEGIN CERTIFICATE-----"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"kind": "bigquery#dataset", "datasetReference": {"projectId": "p", "datasetId": "d"}})

    def _answer(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def local_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Any) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_kind_of_pubsub_client_reaches_a_local_server(tmp_path: Path) -> None:
    with PubSubServer(tmp_path / "journal.sqlite") as server:
        ensure_topology(server.address, "here", topics=("news",), subscriptions={"reader": "news"})
        publisher, plain = publisher_client(server.address), plain_publisher_client(server.address)
        publisher.publish(f"{PROJECT}/topics/news", b"batched").result(10)
        plain.publish(topic=f"{PROJECT}/topics/news", messages=[{"data": b"plain"}], timeout=10)
        with subscriber_client(server.address) as subscriber:
            pulled = subscriber.pull(subscription=f"{PROJECT}/subscriptions/reader", max_messages=2, timeout=10)
            assert pulled.received_messages
        publisher.stop()


def test_http_clients_reach_this_machine(local_url: str) -> None:
    open_transport(local_url).emit(EVENT)
    assert "BEGIN CERTIFICATE" in Certificates(local_url).holding("key")["key"]
    assert connect("bigquery://p", local_url).create_dataset("d", timeout=10).dataset_id == "d"


def test_another_machine_is_reached_through_the_proxy() -> None:
    url = "http://receiver.example/"

    with pytest.raises(requests.exceptions.ProxyError):
        open_transport(url).emit(EVENT)
    with pytest.raises(requests.exceptions.ProxyError):
        session_to(url, requests.Session()).get(url, timeout=10)
    with pytest.raises(Unavailable):
        Certificates(url).holding("key")
