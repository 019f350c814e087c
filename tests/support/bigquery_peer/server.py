"""A BigQuery server on this machine, spoken to by Google's unmodified client.

    with BigQueryServer() as server:
        client = bigquery.Client(
            project="anything", credentials=AnonymousCredentials(), client_options={"api_endpoint": server.address}
        )

What it does: query jobs (`jobs.insert`, `get`, `query`, `getQueryResults`, `cancel`) with job ids, labels, typed named
parameters, dry runs and `maximumBytesBilled`; views; scripts of the shape of `mlfs doctor --live` (variables, and one
transaction); datasets and tables (get, insert, list, delete) with partitioning and clustering as metadata;
`tabledata.list`; `INFORMATION_SCHEMA.JOBS`; the faults of `faults`, on request. A transaction commits whole, readers
see none of it before, and of two that change rows of one table one is aborted; of two single statements one is aborted
where both change the same partition. Each project is a world of its own, and all of it is in memory.

What it does not do: loads, exports, copies, streaming, destination tables, the Storage API, sessions, routines, row
policies, IAM, legacy SQL, other script statements, positional parameters, time travel, caching, slots or reservations.

What differs from the real service without an error: SQL means what DuckDB makes of it through sqlglot, so only what
`tests/unit/test_sql_is_portable.py` allows means the same; bytes are counted from the rows (see `estimate`)
and only for SELECTs; slot time is elapsed time; partitions prune nothing but the estimate; tables never expire; nobody
signs in, so it binds to loopback addresses only.
"""

import ipaddress
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self

import uvicorn

from tests.support.bigquery_peer.project import Project
from tests.support.bigquery_peer.routes import create_app
from worker.clock import SystemClock
from worker.errors import Refused, Unavailable

START_TIMEOUT_S = 10.0
# The real service holds a question for results ten seconds.
HOLD_S = 10.0


class BigQueryServer:
    """The server, in a thread of its own.

    Args:
        host: A loopback address.
        port: 0 takes a free one.
        now: The clock, UTC.
        hold_s: How long a question for the results of a running job is held open at most.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        now: Callable[[], datetime] | None = None,
        hold_s: float = HOLD_S,
    ) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise Refused(f"{host} is not a loopback address; this server has no authentication")
        self._now = now or SystemClock().now
        self._hold_s = hold_s
        self._projects: dict[str, Project] = {}
        self._lock = threading.Lock()
        config = uvicorn.Config(
            create_app(self.project), host=host, port=port, log_config=None, access_log=False, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="bigquery-server", daemon=True)
        self.address = ""

    def project(self, name: str) -> Project:
        """Give a project; it begins empty when it is first named."""
        with self._lock:
            if name not in self._projects:
                self._projects[name] = Project(name, self._now, self._hold_s)
            return self._projects[name]

    def start(self) -> None:
        """Open the port; returns when calls are answered, with `address` the base address for clients.

        Raises:
            Unavailable: The port is taken.
        """
        self._thread.start()
        pause = threading.Event()
        for _ in range(int(START_TIMEOUT_S / 0.01)):
            if self._server.started:
                host, port = self._server.servers[0].sockets[0].getsockname()[:2]
                self.address = f"http://{host}:{port}"
                return
            if not self._thread.is_alive():
                break
            pause.wait(0.01)
        raise Unavailable(f"the BigQuery server cannot listen on port {self._server.config.port}; choose another one")

    def stop(self) -> None:
        """Close the port and forget everything. Repeatable."""
        self._server.should_exit = True
        self._thread.join(5.0)
        with self._lock:
            for project in self._projects.values():
                project.engine.close()
            self._projects.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        # Uvicorn leaves with SystemExit when it cannot listen; `start` finds the thread gone and says why.
        with suppress(SystemExit):
            self._server.run()
