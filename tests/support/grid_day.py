"""A day of the small pipeline in `tests/pipelines/grid_day_ahead.toml`: real Valkey, warehouse, bus and HTTP."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import redis

from tests.support.bigquery_peer.engine import PeerEngine
from tests.support.rigs import ModelClock
from tests.support.services import InProcess, envelope, event
from worker.adapters.duckdb.dialect import to_duckdb
from worker.app import Worker
from worker.features.model import Statement
from worker.observing.observer import Notice, OutcomeRelayed
from worker.ports import OutgoingMessage
from worker.resources import ProcessKind, Resources
from worker.settings import load

DEFINITION = Path(__file__).parents[1] / "pipelines" / "grid_day_ahead.toml"
# Berlin puts its clocks forward on this day: 11:40 there is 09:40 UTC, an hour earlier than on the day before.
DAY = date(2025, 3, 30)
MORNING = datetime(2025, 3, 30, 5, 0, tzinfo=UTC)
DEADLINE = datetime(2025, 3, 30, 9, 40, tzinfo=UTC)
ZONES = ("de", "fr", "nl", "pl")
MODELS = ("weather_ensemble", "demand_curves", "price_curves")
VALUES = {
    "temperature_c": 9.5,
    "wind_m_s": 6.25,
    "wind_speed": 5.0,
    "load_mw": 42_000.0,
    "price_eur_mwh": 81.5,
    "solar_mw": 900.0,
}


class Heard:
    """Keeps what the bus has confirmed."""

    def __init__(self) -> None:
        self.outcomes: list[OutgoingMessage] = []

    def note(self, notice: Notice) -> None:
        if isinstance(notice, OutcomeRelayed) and notice.confirmed:
            self.outcomes.append(notice.message)


class GridDay:
    """`mlfs serve` for the small pipeline; the settings come from the environment, where its commands read them too.

    With a *peer* the warehouse is its BigQuery, and upstream's tables are filled behind it.
    """

    def __init__(self, redis_url: str, peer: PeerEngine | None = None) -> None:
        self._peer = peer
        self.clock = ModelClock(MORNING)
        self.heard = Heard()
        self.redis_url = redis_url
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with redis.Redis.from_url(self.redis_url) as server:
            server.flushall()
        self.parts = self._stack.enter_context(Resources(load(), ProcessKind.PUSH))
        self._make_upstream()
        worker = Worker(self.parts, self.clock, (self.heard,))
        transport = InProcess(worker.listeners.apps[0])
        self.client = self._stack.enter_context(httpx.Client(transport=transport, base_url="http://127.0.0.1"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def _upstream(self) -> Iterator[Any]:
        """Write where upstream's own jobs would."""
        if self._peer is None:
            with self.parts.embedded_warehouse.writing("upstream") as cursor:
                yield cursor
        else:
            with self._peer.cursor() as cursor:
                yield cursor

    def _make_upstream(self) -> None:
        pipeline = self.parts.warehouse.pipeline
        with self._upstream() as cursor:
            for dataset in pipeline.datasets:
                cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {dataset}")
            for table, columns in pipeline.upstream.items():
                declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
                cursor.execute(to_duckdb(f"CREATE TABLE {table} ({declared})"))

    def put(self, table: str, *, zones: tuple[str, ...] = ZONES, day: date = DAY) -> None:
        """Write one row a zone, every value of it filled."""
        names = list(self.parts.warehouse.pipeline.upstream[table])
        at = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=3)
        given = {"processed_at": at, **dict.fromkeys(("analysis_date", "valid_on", "observed_on"), day), **VALUES}
        marks = ", ".join("?" for _ in names)
        with self._upstream() as cursor:
            for zone in zones:
                row = {**given, "zone_code": zone, "zone_name": f"Zone {zone.upper()}"}
                cursor.execute(f"INSERT INTO {table} VALUES ({marks})", [row[name] for name in names])  # noqa: S608 - of the definition

    def put_all(self, *, zones: tuple[str, ...] = ZONES, but: str = "") -> None:
        """Fill the roster, yesterday's observations and every model's table *but* one."""
        self.put("grid_raw.zones", zones=zones)
        self.put("grid_history.observations", zones=zones, day=DAY - timedelta(days=1))
        for model in MODELS:
            if model != but:
                self.put(f"grid_models.{model}", zones=zones)

    def push(self, processor: str) -> int:
        subscription = "projects/grid-ops/subscriptions/grid-day-ahead-worker"
        body = envelope(event(processor, DAY), message_id=processor, subscription=subscription)
        return self.client.post("/pubsub/push", json=body).status_code

    def tick(self) -> list[tuple[str, int]]:
        """Let the service work once; give the dates it built, as state and generation."""
        answer = self.client.post("/tick")
        assert answer.status_code == 200, answer.text
        return [(built["state"], built["generation"]) for built in answer.json()["built"]]

    def outcomes(self) -> list[tuple[str, dict[str, Any]]]:
        """What was published on the bus, with its topic."""
        return [(message.topic, json.loads(message.data)) for message in self.heard.outcomes]

    def query(self, sql: str) -> list[dict[str, Any]]:
        return [dict(row) for row in self.parts.warehouse.query(Statement(name="test", sql=sql))]

    def everything_said(self) -> str:
        """Every record, message, metric, page and bookkeeping row of the day, as text."""
        texts = [self.client.get(path).text for path in ("/metrics", "/dates", f"/dates/{DAY}", "/", "/openapi.json")]
        texts += [f"{message.topic} {message.attributes} {message.data!r}" for message in self.heard.outcomes]
        for table in self.parts.warehouse.pipeline.tables.all:
            texts.append(str(self.query(f"SELECT * FROM {table}")))  # noqa: S608 - of the definition
        with redis.Redis.from_url(self.redis_url) as server:
            for key in server.keys("*"):
                texts.append(f"{key!r} {_content(server, key)}")
        return "\n".join(texts)


def _content(server: "redis.Redis", key: bytes) -> str:
    readers: dict[bytes, Any] = {
        b"string": server.get,
        b"hash": server.hgetall,
        b"stream": server.xrange,
        b"list": lambda name: server.lrange(name, 0, -1),
        b"zset": lambda name: server.zrange(name, 0, -1, withscores=True),
        b"set": server.smembers,
    }
    return str(readers[server.type(key)](key))
