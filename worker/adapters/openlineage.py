"""Where OpenLineage events go: lines of a file, or an HTTP receiver such as Marquez."""

import http.client
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from worker.adapters.direct import opener_to
from worker.errors import Fatal, Unavailable

HTTP_TIMEOUT_S = 5.0
DEFAULT_PATH = "/api/v1/lineage"
# The receiver is busy or asks to slow down; every other 4xx means that it will never take the event.
RETRIED_STATUSES = frozenset({408, 425, 429})
SERVER_FAULT_MIN = 500


class FileSink:
    """Appends one line per event; several processes may share the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, line: bytes) -> None:
        """Append the line in one write.

        Raises:
            Unavailable: The file cannot be written.
        """
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(line + b"\n")
        except OSError as exc:
            raise Unavailable(f"{self._path} cannot be written: {exc}") from exc


class HttpSink:
    """Posts one event per request, each with a bounded wait."""

    def __init__(self, url: str) -> None:
        """Prepare to post.

        Args:
            url: The receiver; without a path the events go to `/api/v1/lineage`. A user and a password in it are sent
                as basic authentication.
        """
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        path = parts.path if parts.path.strip("/") else DEFAULT_PATH
        self._url = urlunsplit(parts._replace(netloc=host, path=path))
        self._opener = opener_to(self._url)
        self._headers = {"Content-Type": "application/json"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"

    def send(self, line: bytes) -> None:
        """Post the event.

        Raises:
            Unavailable: No answer in time, or the receiver has a fault of its own.
            Fatal: The receiver refuses the event.
        """
        request = urllib.request.Request(  # noqa: S310 -- the settings admit http and https only
            self._url, data=line, headers=self._headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=HTTP_TIMEOUT_S):
                return
        except urllib.error.HTTPError as exc:
            with exc:
                text = f"{self._where} answers {exc.code}"
                if exc.code in RETRIED_STATUSES or exc.code >= SERVER_FAULT_MIN:
                    raise Unavailable(text) from exc
                raise Fatal(text) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise Unavailable(f"{self._where} does not answer: {exc}") from exc

    @property
    def _where(self) -> str:
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.hostname}{parts.path}"


def open_sink(url: str) -> FileSink | HttpSink:
    """Give the sink that the setting names: `file:///path`, `http://…` or `https://…`."""
    parts = urlsplit(url)
    return FileSink(Path(unquote(parts.path))) if parts.scheme == "file" else HttpSink(url)
