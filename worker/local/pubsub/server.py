"""Pub/Sub v1 server on this machine, for Google's unmodified client.

    with PubSubServer(Path("pubsub.sqlite")) as server:
        transport = PublisherGrpcTransport(
            channel=grpc.insecure_channel(server.address), credentials=AnonymousCredentials()
        )
        publisher = pubsub_v1.PublisherClient(transport=transport)

with `PublisherGrpcTransport` from `google.pubsub_v1.services.publisher.transports`, and `SubscriberGrpcTransport` from
`google.pubsub_v1.services.subscriber.transports` for a `SubscriberClient`. Other programs can use the server with the
environment variable `PUBSUB_EMULATOR_HOST`, which the client reads.
Supported: topics and subscriptions (create, get, list, update, delete), publish, pull, streaming pull with flow
control, push, acknowledgement and deadlines, retry policies, dead letters, filters, ordering keys, exactly-once ack
ids, seek to a time, retention. With a journal, topics, subscriptions and unacknowledged messages survive a restart and
`kill -9`; a publish is confirmed only after the commit.

Not supported, and answered with `UNIMPLEMENTED`: OpenID tokens and unwrapped bodies in push requests; BigQuery,
Cloud Storage and Bigtable subscriptions; snapshots; schemas; retention on topics; message transforms; ingestion;
customer-managed keys; detaching; IAM.

Different from the real service without an error: the server has no authentication and binds to loopback addresses only;
labels and expiration policies are stored without effect; delivery attempts start again at one after a restart; the
server never closes an idle or old stream; a message returned without a retry policy is delivered again at once; an
exactly-once acknowledgement repeated after a lost answer is reported as invalid.
"""

import asyncio
import ipaddress
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc.aio

from worker.clock import SystemClock
from worker.errors import Refused, Unavailable
from worker.local.pubsub.broker import Broker
from worker.local.pubsub.faults import FaultHooks
from worker.local.pubsub.journal import Journal, SqliteJournal
from worker.local.pubsub.service import PubSubService
from worker.observing.bounds import connections_max

# The largest publish call has 10 MB; the rest is for the envelope.
REQUEST_BYTES_MAX = 11 * 1024 * 1024

# Time for calls in progress when the server stops.
STOP_GRACE_S = 1.0

# Opening the journal reads the whole backlog; a larger backlog is too large for this server.
START_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 10.0

_OPTIONS = (
    # Otherwise a second server could share the port, and each server would get some of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # The real client pings every 30 s; by default gRPC disconnects a client that pings an idle stream so often.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    # End a connection that never becomes HTTP/2 after 5 s (default: two minutes), and a connection without calls after
    # 5 minutes.
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 300_000),
    # Notice a stopped client or a lost machine after a minute and a half (default: two hours).
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 30_000),
    ("grpc.max_concurrent_streams", 100),
)

# Calls at once, open streams included; a worker needs about ten.
CALLS_MAX = 1000


class PubSubServer:
    """Pub/Sub server in a separate thread.

    Args:
        journal_path: The SQLite file that survives restarts; None keeps everything in memory.
        host: A loopback address.
        port: 0 takes a free one.
        faults: Faults between server and clients; none by default.
    """

    def __init__(
        self,
        journal_path: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: FaultHooks | None = None,
    ) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise Refused(f"{host} is not a loopback address; this server has no authentication")
        self.host = host
        self.port = port
        self._journal_path = journal_path
        self._faults = faults or FaultHooks()
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._broker: Broker | None = None

    @property
    def address(self) -> str:
        """`host:port`, complete once started."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def start(self) -> None:
        """Open the journal and the port; return when the server answers calls.

        Raises:
            Refused: The port is taken, or the journal belongs to another server.
            Unavailable: The server did not start in time.
        """
        if self._thread is not None:
            raise Refused("the Pub/Sub server was started already")
        self._started.clear()
        self._thread = threading.Thread(target=self._run, name="pubsub-server", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise Unavailable(f"the Pub/Sub server did not start within {START_TIMEOUT_S:g} s")
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            self._raise_failure()

    def stop(self) -> None:
        """End all calls, write the journal, close the port; return when the thread has ended. Repeatable.

        Raises:
            sqlite3.Error: The journal could not be written; the last acknowledgements are lost.
        """
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None
        self._raise_failure()

    @property
    def failure(self) -> Exception | None:
        """Error that ended the server; None while the server runs, and after `stop`."""
        return self._failure

    def undelivered(self, subscription: str) -> int:
        """Return the number of unacknowledged messages of a subscription, given by the full name.

        Raises:
            CallRefused: The subscription does not exist.
        """
        if self._loop is None or self._broker is None:
            raise Refused("the Pub/Sub server is not running")
        asked = asyncio.run_coroutine_threadsafe(_undelivered(self._broker, subscription), self._loop)
        return asked.result(ANSWER_TIMEOUT_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as failure:  # noqa: BLE001 - handed to the thread that called start
            self._failure = failure
        except BaseException as failure:  # noqa: BLE001 - a cancelled server must not cancel the thread that stops the server
            self._failure = RuntimeError(repr(failure))
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        clock = _Clock()
        journal = Journal() if self._journal_path is None else SqliteJournal(self._journal_path)
        try:
            self._broker = broker = Broker(journal, clock())
            broker.restore(journal.load())
            service = PubSubService(broker, journal, self._faults, clock)
            bounds = (("grpc.max_allowed_incoming_connections", connections_max()),)
            server = grpc.aio.server(options=_OPTIONS + bounds, maximum_concurrent_rpcs=CALLS_MAX)
            server.add_generic_rpc_handlers(service.handlers())
            self._bind(server)
            await server.start()
            try:
                service.settle()
                self._started.set()
                await self._stop.wait()
                service.drain()
            finally:
                await server.stop(STOP_GRACE_S)
            service.close()
        finally:
            journal.close()

    def _bind(self, server: grpc.aio.Server) -> None:
        try:
            self.port = server.add_insecure_port(self.address)
        except RuntimeError as exc:
            raise Refused(f"the Pub/Sub server cannot have {self.address}: {exc}") from exc


async def _undelivered(broker: Broker, subscription: str) -> int:
    return broker.subscription(subscription).backlog.unacknowledged


class _Clock:
    """Seconds since the epoch without jumps: read at the start, then advanced by the monotonic clock.

    Setting the machine's clock must not end every lease at once.
    """

    def __init__(self) -> None:
        self._offset_s = SystemClock().now().timestamp() - time.monotonic()

    def __call__(self) -> float:
        return self._offset_s + time.monotonic()
