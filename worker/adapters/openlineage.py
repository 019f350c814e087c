"""Receivers of OpenLineage events: a file or an HTTP service such as Marquez, as transports of OpenLineage's client.

A transport sends each event before `emit` returns; `close` ends the pauses between tries. A crash loses the unsent
event; a file keeps whole lines.
"""

import threading
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from openlineage.client.transport import FileTransport, HttpConfig, HttpTransport, Transport
from openlineage.client.transport.file import FileConfig
from requests import Session
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse
from urllib3.util import Retry

from worker.adapters.direct import session_to

HTTP_TIMEOUT_S = 5.0
DEFAULT_PATH = "/api/v1/lineage"
# A receiver that is busy or has a fault gets the event three times, at once and after two seconds. Every other status
# from 400 on refuses the event for good. A pause asked for by the receiver could hold up the queue for hours.
RETRY: Mapping[str, Any] = {
    "total": 2,
    "backoff_factor": 1.0,
    "status_forcelist": frozenset({408, 425, 429, *range(500, 600)}),
    "allowed_methods": frozenset({"POST"}),
    "respect_retry_after_header": False,
}


class _Retry(Retry):
    """Retry whose pauses end when the transport closes: a thread in a pause would outlive the other threads."""

    closing: threading.Event

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:  # noqa: ARG002 - the library's shape
        if self.closing.wait(self.get_backoff_time()):
            raise ConnectionError("the worker ends; the event is not sent again")


class _ClosableTransport(HttpTransport):
    """HTTP transport with a `close` that ends a pause between two tries."""

    def __init__(self, config: HttpConfig) -> None:
        self._closing = threading.Event()
        retry = type("Retry", (_Retry,), {"closing": self._closing})(**RETRY)
        config.adapter = HTTPAdapter(max_retries=retry)
        super().__init__(config)

    def close(self, timeout: float = -1) -> bool:
        self._closing.set()
        return super().close(timeout)


def open_transport(url: str) -> Transport:
    """Return the transport to a receiver.

    Args:
        url: `file:///path`, to which each event appends one line, or `http(s)://…`. Without a path events go to
            `/api/v1/lineage`. User and password are sent as basic authentication.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FileTransport(FileConfig(log_file_path=unquote(parts.path), append=True))
    path = parts.path if parts.path.strip("/") else DEFAULT_PATH
    receiver = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
    config = HttpConfig(
        url=receiver,
        endpoint=urlunsplit(("", "", path, parts.query, "")),
        timeout=HTTP_TIMEOUT_S,
        session=session_to(receiver, Session()),
        custom_headers=_authorization(parts),
    )
    return _ClosableTransport(config)


def _authorization(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
