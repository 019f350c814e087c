"""Whether the worker in this container is ready, for the image's HEALTHCHECK: `python -m ops.healthcheck`.

Exit code 0 when `/readyz` answers 200, else 1. Nothing but the standard library, so that it takes a few hundredths of a
second; asked on loopback, where the worker listens whatever `MLFS_HTTP_HOST` says, unless it names one address.
"""

import http.client
import os
import sys

TIMEOUT_S = 3.0
# What answers on loopback where every address is listened on; `::` is IPv6 alone, as uvicorn opens it.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not listened on


def is_ready() -> bool:
    """Ask once."""
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
