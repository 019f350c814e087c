"""Receivers of OpenLineage events: a file or an HTTP service such as Marquez, as transports of OpenLineage's client.

A transport sends each event before `emit` returns. A crash loses the unsent event; a file keeps whole lines.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from openlineage.client.transport import FileTransport, HttpConfig, HttpTransport, Transport
from openlineage.client.transport.file import FileConfig
from requests import Session

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
        retry=dict(RETRY),
    )
    return HttpTransport(config)


def _authorization(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
