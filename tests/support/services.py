"""The real worker, with its own wiring and HTTP, on stand-ins for the outside."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Self

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from opentelemetry.trace import Tracer

from tests.support.memory_requests import MemoryRequests
from tests.support.memory_store import MemoryStore
from tests.support.nights import NIGHT, PROCESSORS
from tests.support.rigs import Bus, LedgerWarehouse, ModelClock
from worker.app import Worker
from worker.errors import Unavailable
from worker.observing.tracing import NO_SPANS
from worker.resources import ProcessKind
from worker.settings import Settings, load

SUBSCRIPTION = "projects/nba-props-platform/subscriptions/ml-feature-store-worker"


@dataclass
class StandIns:
    """What `worker.resources.Resources` opens, in memory."""

    settings: Settings
    clock: ModelClock
    kind: ProcessKind = ProcessKind.PUSH
    store: Any = field(default_factory=MemoryStore)
    warehouse: LedgerWarehouse = field(default_factory=LedgerWarehouse)
    publisher: Bus = field(default_factory=Bus)
    requests: Any = None
    tracer: Tracer = NO_SPANS
    bus_address: str | None = "127.0.0.1:1"  # where nothing listens; a worker that pulls connects only at its start
    lost: Unavailable | None = None

    def failure(self) -> Unavailable | None:
        return self.lost

    def store_restarts(self) -> int:
        return 0

    def __post_init__(self) -> None:
        self.requests = self.requests or MemoryRequests(self.clock)

    @property
    def dead_letter_publisher(self) -> Bus:
        return self.publisher

    def open(self) -> None:
        """Nothing: all of it is in memory already."""


class InProcess(httpx.BaseTransport):
    """Hands requests to an application without a socket; a crash of the application is its 500, as over a socket."""

    def __init__(self, app: Any) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._portal_context = start_blocking_portal()
        self._portal: BlockingPortal = self._portal_context.__enter__()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._portal.call(self._answer, request)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        sent = httpx.Request(request.method, request.url, headers=request.headers, stream=_Pieces(request.stream))
        answer = await self._transport.handle_async_request(sent)
        body = await answer.aread()
        return httpx.Response(answer.status_code, headers=answer.headers, content=body)

    def close(self) -> None:
        self._portal_context.__exit__(None, None, None)


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._stream:
            yield piece


class Service:
    """`mlfs serve` without loops: nothing happens but what a request makes happen.

    Requests go straight to the application; with *listens* they go through its real listener.
    """

    def __init__(
        self,
        *,
        store: Any = None,
        warehouse: Any = None,
        clock: ModelClock | None = None,
        listens: bool = False,
        **settings: Any,
    ) -> None:
        self._listens = listens
        self.clock = clock or ModelClock()
        chosen = load({}, http_port=0, **settings)
        given = {"store": store, "warehouse": warehouse}
        self.parts = StandIns(chosen, self.clock, **{name: part for name, part in given.items() if part is not None})
        self.worker = Worker(self.parts, self.clock)  # type: ignore[arg-type]
        self._stack = ExitStack()

    @property
    def store(self) -> Any:
        return self.parts.store

    @property
    def warehouse(self) -> LedgerWarehouse:
        return self.parts.warehouse

    @property
    def bus(self) -> Bus:
        return self.parts.publisher

    def __enter__(self) -> Self:
        if self._listens:
            self.worker.start()
            self._stack.callback(self.worker.stop)
            client = httpx.Client(base_url=self.worker.http_address, trust_env=False, timeout=30)
            self.client: httpx.Client = self._stack.enter_context(client)
        else:
            transport = InProcess(self.worker.listeners.apps[0])
            self.client = self._stack.enter_context(httpx.Client(transport=transport, base_url="http://127.0.0.1"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def push(self, processor: str, night: date = NIGHT, **fields: Any) -> httpx.Response:
        return self.client.post("/pubsub/push", json=envelope(event(processor, night, **fields)))

    def push_all(self, night: date = NIGHT) -> list[int]:
        return [self.push(processor, night).status_code for processor in PROCESSORS]

    def tick(self) -> dict[str, Any]:
        answer = self.client.post("/tick")
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def state(self, night: date = NIGHT) -> tuple[str, int]:
        story = self.client.get(f"/dates/{night}").json()
        return story["state"], story["generation"]

    def told(self) -> list[tuple[str, int]]:
        """What Phase 5 and the person on call were told, in order."""
        outcomes = [json.loads(message.data) for message in self.bus.confirmed if message.event_id[:7] != "refused"]
        return [(outcome["state"], outcome["generation"]) for outcome in outcomes]


def event(processor: str, night: date = NIGHT, **fields: Any) -> bytes:
    """A completion as its processor publishes it."""
    body = {"processor": processor, "analysis_date": night.isoformat(), "status": "success", "row_count": 400}
    return json.dumps({**body, "run_id": f"run-{processor}", **fields}).encode()


def envelope(data: bytes, *, message_id: str = "1", subscription: str = SUBSCRIPTION, **more: Any) -> Mapping[str, Any]:
    """A message as Pub/Sub wraps it for a push."""
    message = {
        "data": base64.b64encode(data).decode(),
        "attributes": {},
        "messageId": message_id,
        "message_id": message_id,
        "publishTime": "2024-12-16T04:00:00.123Z",
        **more,
    }
    return {"message": message, "subscription": subscription, "deliveryAttempt": 1}
