"""Opens the outside parts that the settings name: the only module, with `app`, that names concrete adapters.

An owner (the worker, the demo) starts embedded servers and stops them; a guest (an admin command) uses running ones,
or starts them for the moment. Each part's client library is imported when the part is opened: Google's and DuckDB's
take most of a second, and `mlfs status` needs neither.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from worker.adapters.duckdb.warehouse import DuckDbWarehouse
    from worker.adapters.pubsub.publish import PubSubPublisher
    from worker.engine import Engine
    from worker.lineage.emitter import LineageEmitter
    from worker.local.pubsub.embedded import EmbeddedBus
    from worker.observing.observer import Observer
    from worker.observing.tracing import Tracing

from worker import package_version
from worker.adapters.redis.client import connect, key_tag
from worker.adapters.redis.damage import Damage, SettingAside, keep_quiet, log_damage
from worker.adapters.redis.requests import RedisRequests
from worker.adapters.redis.store import RedisStore
from worker.errors import BadSettings, Refused, Unavailable
from worker.local.valkey import EmbeddedValkey
from worker.ports import Clock, StateStore, Warehouse
from worker.settings import PREFIX, Settings
from worker.settings.checks import DUCKDB, EMBEDDED, local_path, scheme_of

# DuckDB's name for a database without a file.
MEMORY = ":memory:"
# A confirmed publish takes milliseconds. A dead letter that is not confirmed by then goes back to the bus.
PARKING_PATIENCE_S = 2.0


class Resources:
    """The store, the warehouse and the bus of one process, opened when first asked for; close it when done."""

    def __init__(self, settings: Settings, *, own: bool, reads: bool = False) -> None:
        """Prepare to open parts.

        Args:
            settings: Which parts.
            own: True for a worker, that runs embedded servers for others; False for a command.
            reads: True for a command that only reads: an embedded part that is not there is refused, not made.
        """
        self.settings = settings
        self._own = own
        self._reads = reads
        self._stack = ExitStack()
        self._store: RedisStore | None = None
        self._warehouse: Warehouse | None = None
        self._requests: RedisRequests | None = None
        self._publisher: PubSubPublisher | None = None
        self._tracing: Tracing | None = None
        self._valkey: EmbeddedValkey | None = None
        self._bus: EmbeddedBus | None = None
        self._bus_opened = False
        self._bus_address: str | None = None

    @property
    def store(self) -> RedisStore:
        """The state store."""
        if self._store is None:
            url = self.settings.redis_url
            if url.startswith("embedded:"):
                self._refuse_absent("state store", _directory(url))
                self._valkey = EmbeddedValkey(_directory(url))
                self._stack.callback(self._valkey.stop)
                self._valkey.start() if self._own else self._valkey.attach()
                url = self._valkey.url
            client = connect(url)
            name = self.settings.definition.name
            # A command that only reads passes over what is damaged; a worker and a command that acts set it aside.
            tell = log_damage if self._own else keep_quiet
            damage = Damage() if self._reads else SettingAside(client, key_tag(name), tell)
            self._store = RedisStore(client, name, replicas=self.settings.redis_replicas, damage=damage)
            self._requests = RedisRequests(client, name, damage)
            self._stack.callback(self._store.close)
            self._store.ping()
            if self._own:
                self._store.check_server()
        return self._store

    @property
    def requests(self) -> RedisRequests:
        """The memory of requests, in the state store."""
        if self._requests is None:
            # Opening the store opens its memory too.
            self.store.ping()
        if self._requests is None:
            raise AssertionError("the store was opened without its memory of requests")
        return self._requests

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse, with its tables in place."""
        if self._warehouse is None:
            self._warehouse = open_warehouse(self.settings) if self._reads else make_warehouse(self.settings)
            self._stack.callback(self._warehouse.close)
            self._warehouse.ensure_tables()
        return self._warehouse

    @property
    def embedded_warehouse(self) -> "DuckDbWarehouse":
        """The warehouse on this machine, for what only it can do.

        Raises:
            Refused: The settings name another one.
        """
        if scheme_of(self.settings.warehouse) != DUCKDB:
            raise Refused(
                f"{self.settings.warehouse} is filled by its own pipelines; only an embedded warehouse can be loaded: "
                "MLFS_WAREHOUSE=duckdb:///path"
            )
        return cast("DuckDbWarehouse", self.warehouse)

    @property
    def bus_address(self) -> str | None:
        """Where the local Pub/Sub server listens, `host:port`; None for Google's."""
        if not self._bus_opened:
            self._bus_address = self._open_bus()
            self._bus_opened = True
        return self._bus_address

    def _refuse_absent(self, part: str, directory: Path) -> None:
        if self._reads and not directory.is_dir():
            raise _nothing_there(part, directory)

    def _open_bus(self) -> str | None:
        from worker.adapters.pubsub.connection import ensure_topology

        settings = self.settings
        if settings.pubsub == "google":
            return None
        if settings.pubsub.startswith("embedded:"):
            from worker.local.pubsub.embedded import EmbeddedBus
            from worker.local.pubsub.faults import FaultPlan, PlannedFaults

            try:
                plan = FaultPlan.parse(settings.pubsub_faults)
            except ValueError as exc:
                raise BadSettings(f"wrong settings:\n  {PREFIX}PUBSUB_FAULTS: {exc}") from exc
            self._refuse_absent("bus", _directory(settings.pubsub))
            self._bus = EmbeddedBus(
                _directory(settings.pubsub), PlannedFaults(plan) if settings.pubsub_faults else None
            )
            self._stack.callback(self._bus.stop)
            self._bus.start() if self._own else self._bus.attach()
            address = self._bus.address
        else:
            address = local_path(settings.pubsub)
        # Locally nobody deploys topics, and a topic without a subscription forgets what it is told.
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
    def runs_bus(self) -> bool:
        """Whether this process runs the embedded bus, because no worker does."""
        return self.bus_address is not None and self._bus is not None and self._bus.is_serving

    @property
    def publisher(self) -> "PubSubPublisher":
        """The way to the bus."""
        self._publisher = self._publisher or self._open_publisher()
        return self._publisher

    def dead_letter_publisher(self) -> "PubSubPublisher":
        """Open a way to the dead-letter topic that gives up soon, because an intake thread waits for it."""
        return self._open_publisher(PARKING_PATIENCE_S)

    def _open_publisher(self, patience_s: float | None = None) -> "PubSubPublisher":
        from worker.adapters.pubsub.publish import PubSubPublisher

        publisher = PubSubPublisher(self.settings.pubsub_project, self.bus_address, patience_s=patience_s)
        self._stack.callback(publisher.close)
        return publisher

    @property
    def tracing(self) -> "Tracing":
        """Spans, where they are wanted.

        Raises:
            BadSettings: They are wanted, and the extra that makes them is not installed.
        """
        if self._tracing is None:
            from worker.observing.tracing import NO_TRACING, tracing_wanted

            self._tracing = NO_TRACING
            if tracing_wanted(self.settings.tracing, os.environ):
                from worker.adapters.opentelemetry import otlp_tracing

                self._tracing = otlp_tracing(package_version())
                self._stack.callback(self._tracing.close)
        return self._tracing

    def failure(self) -> Unavailable | None:
        """Return why an embedded server of this process is gone for good; None while all of them serve."""
        servers = (self._valkey, self._bus)
        return next((server.failure for server in servers if server is not None and server.failure is not None), None)

    def store_restarts(self) -> int:
        """Return how often the embedded state store of this process died and was started again."""
        return self._valkey.restarts if self._valkey is not None else 0

    def close(self) -> None:
        """Close what was opened, in reverse order."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def nothing_there(settings: Settings) -> Refused | None:
    """Say that none of the embedded parts has ever been here; None where one has, or where one lies elsewhere."""
    places = (settings.redis_url, settings.pubsub, settings.warehouse)
    if not all(scheme_of(place) in {EMBEDDED, DUCKDB} for place in places):
        return None
    return None if any(_directory(place).exists() for place in places) else _nothing_there("data", settings.data_dir)


def is_absent(url: str) -> bool:
    """Return whether *url* names an embedded part whose folder does not exist."""
    return url.startswith("embedded:") and not _directory(url).is_dir()


def _nothing_there(part: str, place: Path) -> Refused:
    return Refused(
        f"nothing is here: no {part} at {place.absolute()}, and this command makes none. MLFS_DATA_DIR names "
        "the folder of a worker or a demo (see what is set: mlfs config); to begin one: mlfs run, or mlfs demo"
    )


def open_warehouse(settings: Settings) -> Warehouse:
    """Open the warehouse that the settings name, as it is: a reader makes no tables, and no file.

    Raises:
        Refused: There is no such file; names it.
        Unavailable: It does not answer, or another process keeps it open.
    """
    path = local_path(settings.warehouse)
    if scheme_of(settings.warehouse) == DUCKDB and path != MEMORY and not Path(path).is_file():
        raise Refused(
            f"no warehouse file at {Path(path).absolute()}, and a reader makes none. MLFS_WAREHOUSE names it, or "
            "MLFS_DATA_DIR the folder that holds warehouse.duckdb (see: mlfs config); to fill one: mlfs load DIR"
        )
    return make_warehouse(settings)


def make_warehouse(settings: Settings) -> Warehouse:
    """Open the warehouse that the settings name; a file that is not there yet is made."""
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
    """Start telling of builds where the settings say so; *count* is told the fate of each event."""
    if not settings.openlineage:
        return None
    from worker.adapters.openlineage import open_sink
    from worker.lineage.emitter import LineageEmitter
    from worker.lineage.openlineage import EventWriter

    in_bigquery = scheme_of(settings.warehouse) == "bigquery"
    writer = EventWriter(
        pipeline=settings.definition,
        dataset_namespace="bigquery" if in_bigquery else settings.warehouse,
        dataset_prefix=f"{urlsplit(settings.warehouse).netloc}." if in_bigquery else "",
        version=package_version(),
        zone=settings.calendar.zone,
    )
    return LineageEmitter(open_sink(settings.openlineage), writer, count)


def make_engine(  # noqa: PLR0913 - one collaborator each
    settings: Settings,
    *,
    store: StateStore,
    clock: Clock,
    worker: str,
    start_build: Callable[[date], None],
    outbox_filled: Callable[[], None],
    observer: "Observer",
    tracing: "Tracing | None" = None,
) -> "Engine":
    """Make an engine by the settings: for the worker, and for commands that apply one event."""
    from worker.engine import Engine, Topics
    from worker.observing.tracing import NO_TRACING

    keep_days = settings.keep_finished_days
    return Engine(
        store=store,
        policy=settings.policy,
        calendar=settings.calendar,
        clock=clock,
        pipeline=settings.definition.name,
        topics=Topics(success=settings.success_topic, failure=settings.failure_topic),
        worker=worker,
        keep_finished=timedelta(days=keep_days) if keep_days else None,
        start_build=start_build,
        outbox_filled=outbox_filled,
        observer=observer,
        tracing=tracing or NO_TRACING,
    )


def _directory(url: str) -> Path:
    """Read the directory out of `embedded:///dir`."""
    return Path(local_path(url))
