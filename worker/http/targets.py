"""Check of request targets: a path with a leading slash, in UTF-8. HEAD gets the answer of GET without the body."""

from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.http.problems import problem

# Longer than every path of this API.
TARGET_BYTES_MAX = 2048


class RequestTarget:
    """ASGI middleware: refuses malformed request targets, and answers HEAD as GET without the body (RFC 9110)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request with a valid target; refuse another target with a problem document."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        raw_path = scope.get("raw_path") or scope["path"].encode()
        fault = _fault(raw_path, scope["query_string"])
        if fault is not None:
            answer = problem(Request(scope), 400, "bad-request", fault, "the paths are in /openapi.json")
            await answer(scope, receive, send)
        elif _hides_a_slash(raw_path):
            detail = "no path of ours has an encoded slash or a backslash"
            answer = problem(Request(scope), 404, "not-found", detail, "the paths are in /openapi.json")
            await answer(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
        else:
            await self._app(scope, receive, send)


def _fault(raw_path: bytes, query: bytes) -> str | None:
    """Return the fault of a request target; None for a valid target."""
    if not raw_path.startswith(b"/"):
        return "the request target must be a path that begins with /; this is no proxy"
    if len(raw_path) + len(query) > TARGET_BYTES_MAX:
        return f"the request target must be {TARGET_BYTES_MAX} bytes or fewer"
    for part in (unquote_to_bytes(raw_path), unquote_to_bytes(query)):
        try:
            part.decode()
        except UnicodeDecodeError:
            return "the request target must be UTF-8"
    return None


def _hides_a_slash(raw_path: bytes) -> bool:
    """Return whether decoding adds path segments: a proxy in front would compare another path than the worker."""
    decoded = unquote_to_bytes(raw_path)
    return decoded.count(b"/") != raw_path.count(b"/") or b"\\" in decoded


def _without_body(send: Send) -> Send:
    async def head_only(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return head_only
