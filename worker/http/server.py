"""Uvicorn on a thread; signals stay with the worker."""

import threading
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from worker.errors import Unavailable
from worker.http.connections import BoundedConnection, BoundedServer, ConnectionBounds, bounds_of_process

START_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 3.0


class HttpServer:
    """One listener."""

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        *,
        setting: str = "MLFS_HTTP_PORT",
        bounds: ConnectionBounds | None = None,
    ) -> None:
        """Prepare to listen.

        Args:
            app: What to serve.
            host: Address to bind.
            port: Port to bind; 0 takes a free one.
            setting: Which setting chooses another port, for the message when this one is taken.
            bounds: How many connections, and for how long; None takes what fits the process.
        """
        bounds = bounds or bounds_of_process()
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=BoundedConnection,
            ws="none",
            backlog=bounds.backlog,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
        )
        self._setting = setting
        self._server = BoundedServer(config, bounds)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def _run(self) -> None:
        # Uvicorn leaves with SystemExit when it cannot listen; `start` finds the thread gone and says why.
        with suppress(SystemExit):
            self._server.run()

    def start(self) -> str:
        """Start serving and give the base address.

        Raises:
            Unavailable: The port is taken.
        """
        self._thread.start()
        pause = threading.Event()
        for _ in range(int(START_TIMEOUT_S / 0.01)):
            if self._server.started:
                host, port = self._server.servers[0].sockets[0].getsockname()[:2]
                return f"http://{host}:{port}"
            if not self._thread.is_alive():
                break
            pause.wait(0.01)
        config = self._server.config
        raise Unavailable(f"cannot listen on {config.host}:{config.port}; choose another with {self._setting}")

    def stop(self) -> None:
        """Stop serving; open requests get a moment."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_S)
