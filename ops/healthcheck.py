"""Health check of the image: `python -m ops.healthcheck` asks whether the worker in this container is ready.

Exit code 0 if `/readyz` answers 200, otherwise 1. The module imports only the standard library, so a check takes a few
hundredths of a second. The request goes to loopback, unless `MLFS_HTTP_HOST` names a single address.
"""

import http.client
import os
import sys

TIMEOUT_S = 3.0
# Loopback address for a worker listening on all addresses. uvicorn opens `::` for IPv6 only.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not listened on


def is_ready() -> bool:
    """Ask `/readyz` once; return whether the answer is 200."""
    host = os.environ.get("MLFS_HTTP_HOST", "")
    port = int(os.environ.get("MLFS_HTTP_PORT") or "8080")
    connection = http.client.HTTPConnection(LOOPBACK.get(host, host), port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready() else 1)
