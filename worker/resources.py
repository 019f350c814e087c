"""Resources of one process: state store, warehouse, bus and tracer, opened from the settings.

`worker.resources` and `worker.app` are the only modules that name concrete adapters. Each resource is opened at the
first use and closed at the end of the context, in reverse order. A worker and a tick open every resource by
`Resources.open` before the first thread starts; a command opens only the resources that the command uses. A client
library is imported when the resource is opened: Google's and DuckDB's libraries take most of a second to import, and
`mlfs status` needs neither.

After a crash the embedded Valkey server may still run: the next owner of the folder adopts the server. The lock of an
embedded folder ends with the process.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date, timedelta
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import redis
    from opentelemetry.trace import Tracer

    from worker.adapters.duckdb.warehouse import DuckDbWarehouse
    from worker.adapters.pubsub.publish import PubSubPublisher
    from worker.engine import Engine
    from worker.lineage.emitter import LineageEmitter
    from worker.local.pubsub.embedded import EmbeddedBus
    from worker.observing.observer import Observer

from statemachine.model import Policy
from worker import package_version
from worker.adapters.redis.client import connect, key_tag
from worker.adapters.redis.damage import Damage, SettingAside, keep_quiet, log_damage
from worker.adapters.redis.requests import RedisRequests
from worker.adapters.redis.store import RedisStore
from worker.clock import OffsetClock, SharedClock, SystemClock
from worker.errors import BadSettings, Refused, Unavailable
from worker.local.valkey import EmbeddedValkey
from worker.ports import Clock, StateStore, Warehouse
from worker.settings import PREFIX, Settings
from worker.settings.checks import DUCKDB, EMBEDDED, local_path, scheme_of

# File by which a demo marks its folder.
DEMO_NOTE = "demo.json"
# DuckDB's name for a database without a file.
MEMORY = ":memory:"
# Seconds. A confirmation takes milliseconds; the bus delivers a message again whose dead letter was not confirmed.
PARKING_PATIENCE_S = 2.0


class ProcessKind(Enum):
    """Kind of a process; decides how the process opens the resources and which services the process runs.

    Attributes:
        PULL: `mlfs run`, the demo: pulls messages, runs loops and build threads, owns the embedded servers.
        PUSH: `mlfs serve`: receives messages and ticks over HTTP, owns the embedded servers.
        TICK: `mlfs tick`: one pass of sweep, builds and relay.
        COMMAND: a command that changes data; creates an absent embedded resource.
        READER: a command that only reads, or a dry run; refuses an absent embedded resource.
    """

    PULL = "pull"
    PUSH = "push"
    TICK = "tick"
    COMMAND = "command"
    READER = "reader"


# A worker owns the embedded servers, checks the state store's server and logs damage.
_WORKERS = frozenset({ProcessKind.PULL, ProcessKind.PUSH})


class Resources:
    """State store, warehouse, bus and tracer of one process; a context manager that closes the opened resources."""

    def __init__(self, settings: Settings, kind: ProcessKind) -> None:
        """Store settings and kind; open no resource."""
        self.settings = settings
        self.kind = kind
        self._stack = ExitStack()

    def open(self) -> None:
        """Open every resource of a worker or a tick.

        Raises:
            BadSettings: A setting names a resource that this installation cannot open.
            Unavailable: A resource does not answer.
            Fatal: A worker would lose state in this state store.
        """
        _ = (self.store, self.requests, self.warehouse, self.tracer, self.publisher, self.dead_letter_publisher)

    @cached_property
    def store(self) -> RedisStore:
        """State store whose server answers.

        Raises:
            Refused: A reader found no folder of an embedded state store.
            Unavailable: The state store does not answer.
            Fatal: A worker would lose state in this state store.
        """
        settings = self.settings
        store = RedisStore(self._redis, settings.definition.name, replicas=settings.redis_replicas, damage=self._damage)
        self._stack.callback(store.close)
        store.ping()
        if self.kind in _WORKERS:
            store.check_server()
        return store

    @cached_property
    def requests(self) -> RedisRequests:
        """Request log in the state store."""
        return RedisRequests(self._redis, self.settings.definition.name, self._damage)

    @cached_property
    def clock(self) -> Clock:
        """Clock of every instant that this process stores and shows: the store's, in the folder of a demo the demo's.

        A demo goes on from the last change in the folder: an instant by another clock would never be due there. A
        reader goes by this machine's clock if no store answers, so that a report waits for no store.

        Raises:
            Unavailable: The store does not answer, and this process changes analysis dates.
        """
        reads = self.kind is ProcessKind.READER
        try:
            if self.kind not in _WORKERS and (self.settings.data_dir / DEMO_NOTE).exists():
                entries = [entry.at for day in self.store.dates(1) for entry in self.store.history(day)]
                if entries:
                    return OffsetClock(entries[-1])
            elif reads and scheme_of(self.settings.redis_url) == EMBEDDED:
                # An embedded store runs by this machine's clock: the store need not be opened.
                return SystemClock()
            clock = SharedClock(self.store.clock_skew)
            clock.follow()
        except (Unavailable, Refused):
            if not reads:
                raise
            return SystemClock()
        return clock

    @cached_property
    def warehouse(self) -> Warehouse:
        """Warehouse whose tables exist."""
        reads = self.kind is ProcessKind.READER
        warehouse = open_warehouse(self.settings) if reads else make_warehouse(self.settings)
        self._stack.callback(warehouse.close)
        warehouse.ensure_tables()
        return warehouse

    @property
    def embedded_warehouse(self) -> "DuckDbWarehouse":
        """Embedded warehouse, for methods that BigQuery does not have.

        Raises:
            Refused: The settings name BigQuery.
        """
        if scheme_of(self.settings.warehouse) != DUCKDB:
            raise Refused(
                f"{self.settings.warehouse} is filled by its own pipelines; only an embedded warehouse can be loaded: "
                "MLFS_WAREHOUSE=duckdb:///path"
            )
        return cast("DuckDbWarehouse", self.warehouse)

    @cached_property
    def bus_address(self) -> str | None:
        """Address of the local Pub/Sub server, `host:port`; None for Google Pub/Sub."""
        from worker.adapters.pubsub.connection import ensure_topology

        settings = self.settings
        if settings.pubsub == "google":
            return None
        address = local_path(settings.pubsub) if self._bus is None else self._bus.address
        # No deployment creates local topics, and a topic without a subscription drops every message.
        ensure_topology(
            address,
            settings.pubsub_project,
            topics=(settings.topic, settings.success_topic, settings.failure_topic, settings.dead_letter_topic),
            subscriptions={
                settings.subscription: settings.topic,
                f"{settings.success_topic}-phase5": settings.success_topic,
                f"{settings.failure_topic}-oncall": settings.failure_topic,
                settings.dead_letter_subscription: settings.dead_letter_topic,
            },
            at_once=frozenset({settings.dead_letter_subscription}),
        )
        return address

    @property
    def runs_servers(self) -> bool:
        """Whether this process runs an opened embedded server, because no worker runs the server."""
        opened = (self.__dict__.get(name) for name in ("_valkey", "_bus"))
        return any(server is not None and server.is_serving for server in opened)

    @cached_property
    def publisher(self) -> "PubSubPublisher":
        """Publisher of outcomes and completions."""
        return self._open_publisher(None)

    @cached_property
    def dead_letter_publisher(self) -> "PubSubPublisher":
        """Publisher of dead letters with a short timeout, because an intake thread waits for the confirmation."""
        return self._open_publisher(PARKING_PATIENCE_S)

    @cached_property
    def tracer(self) -> "Tracer":
        """Tracer of the spans; records no span unless the settings ask for spans.

        Raises:
            BadSettings: The settings ask for spans, and the extra `otel` is not installed.
        """
        from worker.observing.tracing import NO_SPANS, tracing_wanted

        if not tracing_wanted(self.settings.tracing, os.environ):
            return NO_SPANS
        from worker.adapters.opentelemetry import SERVICE, close, open_provider

        provider = open_provider(package_version())
        self._stack.callback(close, provider)
        return provider.get_tracer(SERVICE)

    def failure(self) -> Unavailable | None:
        """Return why an embedded server of this worker has ended for good; None while every server runs."""
        servers = (self._valkey, self._bus)
        return next((server.failure for server in servers if server is not None and server.failure is not None), None)

    def store_restarts(self) -> int:
        """Return how often the embedded Valkey server of this worker ended and was started again."""
        return self._valkey.restarts if self._valkey is not None else 0

    @cached_property
    def _valkey(self) -> EmbeddedValkey | None:
        if scheme_of(self.settings.redis_url) != EMBEDDED:
            return None
        server = EmbeddedValkey(self._embedded_folder("state store", self.settings.redis_url))
        self._start(server)
        return server

    @cached_property
    def _redis(self) -> "redis.Redis":
        return connect(self.settings.redis_url if self._valkey is None else self._valkey.url)

    @cached_property
    def _damage(self) -> Damage:
        """Damage log: a reader skips unreadable members; every other process sets unreadable members aside."""
        if self.kind is ProcessKind.READER:
            return Damage()
        report = log_damage if self.kind in _WORKERS else keep_quiet
        return SettingAside(self._redis, key_tag(self.settings.definition.name), report)

    @cached_property
    def _bus(self) -> "EmbeddedBus | None":
        settings = self.settings
        if scheme_of(settings.pubsub) != EMBEDDED:
            return None
        from worker.local.pubsub.embedded import EmbeddedBus
        from worker.local.pubsub.faults import FaultPlan, PlannedFaults

        try:
            plan = FaultPlan.parse(settings.pubsub_faults)
        except ValueError as exc:
            raise BadSettings(f"wrong settings:\n  {PREFIX}PUBSUB_FAULTS: {exc}") from exc
        folder = self._embedded_folder("bus", settings.pubsub)
        server = EmbeddedBus(folder, PlannedFaults(plan) if settings.pubsub_faults else None)
        self._start(server)
        return server

    def _embedded_folder(self, resource: str, url: str) -> Path:
        folder = _directory(url)
        if self.kind is ProcessKind.READER and not folder.is_dir():
            raise _nothing_there(resource, folder)
        return folder

    def _start(self, server: "EmbeddedValkey | EmbeddedBus") -> None:
        """Start an embedded server for a worker; for a command attach to the worker's server or start a server."""
        self._stack.callback(server.stop)
        server.start() if self.kind in _WORKERS else server.attach()

    def _open_publisher(self, patience_s: float | None) -> "PubSubPublisher":
        from worker.adapters.pubsub.publish import PubSubPublisher

        publisher = PubSubPublisher(self.settings.pubsub_project, self.bus_address, patience_s=patience_s)
        self._stack.callback(publisher.close)
        return publisher

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the opened resources in reverse order."""
        self._stack.close()


def nothing_there(settings: Settings) -> Refused | None:
    """Return the refusal of a command if no embedded folder exists; None if a folder exists or an address is remote."""
    places = (settings.redis_url, settings.pubsub, settings.warehouse)
    if not all(scheme_of(place) in {EMBEDDED, DUCKDB} for place in places):
        return None
    return None if any(_directory(place).exists() for place in places) else _nothing_there("data", settings.data_dir)


def is_absent(url: str) -> bool:
    """Return whether *url* names an embedded resource without a folder."""
    return scheme_of(url) == EMBEDDED and not _directory(url).is_dir()


def _nothing_there(part: str, place: Path) -> Refused:
    return Refused(
        f"there is no {part} at {place.absolute()}, and this command creates no {part}; a worker or a demo does: "
        "mlfs run, or mlfs demo. MLFS_DATA_DIR names the folder of a worker or a demo (current settings: mlfs config)"
    )


def open_warehouse(settings: Settings) -> Warehouse:
    """Open the warehouse of the settings for a reader; create no file.

    Raises:
        Refused: The warehouse file does not exist; the message names the file.
        Unavailable: The warehouse does not answer, or another process keeps the file open.
    """
    path = local_path(settings.warehouse)
    if scheme_of(settings.warehouse) == DUCKDB and path != MEMORY and not Path(path).is_file():
        raise Refused(
            f"there is no warehouse file at {Path(path).absolute()}, and a reader creates none. MLFS_WAREHOUSE names "
            "the file, or MLFS_DATA_DIR the folder of warehouse.duckdb (current settings: mlfs config); to fill a "
            "warehouse: mlfs load DIR"
        )
    return make_warehouse(settings)


def make_warehouse(settings: Settings) -> Warehouse:
    """Open the warehouse of the settings; create an absent file."""
    if scheme_of(settings.warehouse) == "bigquery":
        return _open_bigquery(settings)
    from worker.adapters.duckdb.warehouse import DuckDbWarehouse

    return DuckDbWarehouse(
        local_path(settings.warehouse),
        memory_limit=settings.duckdb_memory_limit,
        threads=settings.duckdb_threads,
        wait_s=settings.duckdb_wait_s,
        pipeline=settings.definition,
    )


def _open_bigquery(settings: Settings) -> Warehouse:
    from worker.adapters.bigquery.jobs import Limits, connect
    from worker.adapters.bigquery.warehouse import BigQueryWarehouse

    limits = Limits(
        bytes_billed_max=settings.bigquery_max_bytes_billed,
        job_timeout_s=settings.bigquery_job_timeout_s,
        usd_per_tib=settings.bigquery_usd_per_tib,
    )
    client = connect(settings.warehouse, settings.bigquery_endpoint)
    return BigQueryWarehouse(client, limits=limits, pipeline=settings.definition)


def open_lineage(settings: Settings, count: Callable[[str], None]) -> "LineageEmitter | None":
    """Start the emitter of OpenLineage events, which calls *count* per event; None if `MLFS_OPENLINEAGE` is empty."""
    if not settings.openlineage:
        return None
    try:
        from worker.adapters.openlineage import open_transport
        from worker.lineage.emitter import LineageEmitter
        from worker.lineage.openlineage import EventWriter
    except ImportError as exc:
        raise BadSettings(
            f"{PREFIX}OPENLINEAGE names a receiver of lineage events, but {exc.name} is not there; install the extra: "
            "pip install 'ml-feature-store-worker[lineage]' ('.[lineage]' in the checkout), or unset the variable"
        ) from exc

    in_bigquery = scheme_of(settings.warehouse) == "bigquery"
    writer = EventWriter(
        pipeline=settings.definition,
        dataset_namespace="bigquery" if in_bigquery else settings.warehouse,
        dataset_prefix=f"{urlsplit(settings.warehouse).netloc}." if in_bigquery else "",
        version=package_version(),
        zone=settings.calendar.zone,
    )
    return LineageEmitter(open_transport(settings.openlineage), writer, count)


def make_engine(  # noqa: PLR0913 - one collaborator each
    settings: Settings,
    *,
    store: StateStore,
    clock: Clock,
    worker: str,
    observer: "Observer",
    policy: Policy | None = None,
    start_build: Callable[[date], None] = lambda _day: None,
    outbox_filled: Callable[[], None] = lambda: None,
    tracer: "Tracer | None" = None,
) -> "Engine":
    """Return an engine, for a worker or for a command that applies an event; *policy* replaces the settings' rules."""
    from worker.engine import Engine, Topics
    from worker.observing.tracing import NO_SPANS

    keep_days = settings.keep_finished_days
    return Engine(
        store=store,
        policy=policy or settings.policy,
        calendar=settings.calendar,
        clock=clock,
        pipeline=settings.definition.name,
        topics=Topics(success=settings.success_topic, failure=settings.failure_topic),
        worker=worker,
        keep_finished=timedelta(days=keep_days) if keep_days else None,
        start_build=start_build,
        outbox_filled=outbox_filled,
        observer=observer,
        tracer=tracer or NO_SPANS,
    )


def _directory(url: str) -> Path:
    """Return the folder of `embedded:///dir`."""
    return Path(local_path(url))
