"""HTTP connections with bounds, because uvicorn limits neither the number of connections nor the time of a client.

Model: a connection waits for the client (for a request head, for the rest of a body, after an answer), or the worker
answers a request. A client gets `client_timeout_s` for a request head and the same time for reading a stalled answer;
`worker.http.middleware` limits the time for a body.

Guarantees: at the limit, a new connection closes the connection with the longest wait for a client. If no connection
waits for a client, a new connection gets answers from the health paths only. A burst of connections is accepted in
parts smaller than the limit, so that the worker reads a health check before a newer connection closes the connection of
the health check. Trouble with connections is logged at most once a second.

A crash closes all connections; the state is in memory only.
"""

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import h11
import structlog
import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from worker.http.problems import bad_head, problem
from worker.observing.bounds import connections_max

log = structlog.get_logger(__name__)

# Additional connections beyond the limit, for health checks.
HEALTH_CONNECTIONS = 16
HEALTH_PATHS = frozenset({"/livez", "/readyz"})
CLIENT_TIMEOUT_S = 10.0
KERNEL_BACKLOG = 2048
LOG_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionBounds:
    """Bounds of a listener.

    Attributes:
        connections_max: Limit of open connections, without the connections for health checks.
        client_timeout_s: Seconds for a request head, and for reading each part of an answer.
    """

    connections_max: int
    client_timeout_s: float = CLIENT_TIMEOUT_S

    @property
    def backlog(self) -> int:
        """Connections accepted at once: fewer than the limit, so that no connection closes another of the burst."""
        return max(self.connections_max // 2, 1)


def bounds_of_process() -> ConnectionBounds:
    """Return the bounds for the number of files which this process may open."""
    return ConnectionBounds(connections_max=connections_max())


class LogPause:
    """Limits a log to a line in `LOG_PAUSE_S`; counts the omitted lines."""

    def __init__(self) -> None:
        self.left_out = 0
        self._next_at = float("-inf")

    def over(self, at: float) -> bool:
        """Return whether a line may be written at *at*, in seconds; all calls use the same clock."""
        if at < self._next_at:
            self.left_out += 1
            return False
        self._next_at = at + LOG_PAUSE_S
        return True

    def taken(self) -> int:
        """Return the number of lines omitted since the last call."""
        left_out, self.left_out = self.left_out, 0
        return left_out


class _FewWarnings(logging.Filter):
    """Limits the warnings of uvicorn: each malformed request of a stranger causes a warning. Errors all pass."""

    def __init__(self) -> None:
        super().__init__()
        self._pause = LogPause()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be logged."""
        return record.levelno != logging.WARNING or self._pause.over(record.created)


_connection_logger = logging.getLogger("uvicorn.connections")
_connection_logger.addFilter(_FewWarnings())


class Connections(ServerState):
    """The open connections of a listener; chooses the connection to close at the limit."""

    def __init__(self, bounds: ConnectionBounds) -> None:
        super().__init__()
        self.bounds = bounds
        self.pause = LogPause()

    def make_room(self, newest: "BoundedConnection") -> None:
        """Keep the number of connections within the bounds after *newest* was opened."""
        if len(self.connections) <= self.bounds.connections_max:
            return
        if self.pause.over(newest.loop.time()):
            log.warning("http_connections_full", limit=self.bounds.connections_max, left_out=self.pause.taken())
        open_now = cast("set[BoundedConnection]", self.connections)
        waiting = [connection for connection in open_now if connection is not newest and connection.waits_for_client]
        if waiting:
            min(waiting, key=lambda connection: connection.since).drop()
        elif len(open_now) > self.bounds.connections_max + HEALTH_CONNECTIONS:
            newest.drop()
        else:
            newest.app = partial(_health_only, newest.app)


async def _health_only(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer health checks; refuse every other request, as the listener has no free connection."""
    if scope["path"] in HEALTH_PATHS:
        await app(scope, receive, send)
        return
    headers = {"Connection": "close", "Retry-After": "5"}
    detail = "the worker has no free connection"
    answer = problem(Request(scope), 503, "unavailable", detail, "send the request again", headers=headers)
    await answer(scope, receive, send)


class BoundedConnection(H11Protocol):
    """HTTP/1.1 connection that closes when the client is silent.

    Attributes:
        since: Start of the wait for the client, by the loop's clock.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments
        super().__init__(*arguments, **options)
        self.logger = _connection_logger
        self.since = self.loop.time()
        self._open = cast("Connections", self.server_state)
        self._head_timer = self._read_timer = _ended_timer(self.loop)

    @property
    def waits_for_client(self) -> bool:
        """Whether the connection waits for a request or for the rest of a body."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def drop(self) -> None:
        """Close the connection at once; unsent data is lost."""
        self.connections.discard(self)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection; close another connection at the limit."""
        super().connection_made(transport)
        self._await_head()
        self._open.make_room(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers and unregister the connection."""
        self._head_timer.cancel()
        self._read_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read the received bytes; only a complete request head stops the timer for the head."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._head_timer.cancel()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless the next request has already arrived."""
        answered = self.cycle
        super().on_response_complete()
        if self.cycle is answered:
            self._await_head()

    def pause_writing(self) -> None:
        """Stop writing, as the client does not read; close the connection after `client_timeout_s`."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(self._open.bounds.client_timeout_s, self.drop)

    def resume_writing(self) -> None:
        """Continue writing and cancel the timer."""
        self._read_timer.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text; the answer is a problem document
        """Refuse data without an HTTP request, or a body with a broken encoding."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.drop()
            return
        self._refuse(400, "this is no HTTP/1.1 request")

    def _await_head(self) -> None:
        self.since = self.loop.time()
        self._head_timer.cancel()
        self._head_timer = self.loop.call_later(self._open.bounds.client_timeout_s, self._head_overdue)

    def _head_overdue(self) -> None:
        begun, _ = self.conn.trailing_data
        if begun and self.conn.our_state is h11.IDLE:
            self._refuse(408, "the head of the request did not arrive in time")
        else:
            self.drop()

    def _refuse(self, status: int, detail: str) -> None:
        """Send the error without the application and close the connection."""
        body = bad_head(status, detail)
        headers = [("content-type", "application/problem+json"), ("content-length", str(len(body)))]
        events = (
            h11.Response(
                status_code=status, headers=[*headers, ("connection", "close")], reason=HTTPStatus(status).phrase
            ),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def _ended_timer(loop: asyncio.AbstractEventLoop) -> asyncio.TimerHandle:
    timer = loop.call_later(0, lambda: None)
    timer.cancel()
    return timer


class BoundedServer(uvicorn.Server):
    """Uvicorn with bounded connections; a lack of free files does not fill the log."""

    def __init__(self, config: uvicorn.Config, bounds: ConnectionBounds) -> None:
        super().__init__(config)
        self.server_state = Connections(bounds)
        self._pause = LogPause()

    async def startup(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments
        """Listen; log errors of the event loop, such as no free file for a connection, at most once a second."""
        asyncio.get_running_loop().set_exception_handler(self._note)
        await super().startup(*arguments, **options)
        for listening in (listener for server in self.servers for listener in server.sockets):
            # The event loop accepts few connections at once; a burst waits in the longer queue of the kernel.
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.listen(KERNEL_BACKLOG)

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._pause.over(loop.time()):
            return
        error = context.get("exception")
        trace = None if isinstance(error, OSError) else error
        log.warning(
            "http_listener_trouble",
            error=f"{context['message']}: {error}",
            left_out=self._pause.taken(),
            exc_info=trace,
        )
