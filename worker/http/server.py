"""HTTP server: uvicorn on a separate thread, so that the worker keeps the handling of signals."""

import threading
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from worker.errors import Unavailable
from worker.http.connections import BoundedConnection, BoundedServer, ConnectionBounds, bounds_of_process

START_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 3.0


class HttpServer:
    """Listener of an application."""

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        *,
        setting: str = "MLFS_HTTP_PORT",
        bounds: ConnectionBounds | None = None,
    ) -> None:
        """Configure the server; bind no port yet.

        Args:
            app: Application to serve.
            host: Address to bind.
            port: Port to bind; 0 binds a free port.
            setting: Name of the setting for the port, for the error message if the port is taken.
            bounds: Limits of the connections; None for the limits of the process.
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
        # Uvicorn raises SystemExit if the port is taken; `start` sees the ended thread and raises `Unavailable`.
        with suppress(SystemExit):
            self._server.run()

    def start(self) -> str:
        """Start the thread, wait until the server listens, and return the base address.

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
        """Stop the server; wait for open requests, at most `STOP_TIMEOUT_S`."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_S)
