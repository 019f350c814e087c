"""How much of a request is read: a body over the limit is refused before it is, or as soon as it gets there."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.http.problems import problem

# A command is a date and a reason.
BODY_BYTES_MAX = 64 * 1024
# Pub/Sub delivers 10 MB at most, in base64, with attributes; a message too large for us must get in to be parked.
PUSH_BODY_BYTES_MAX = 16 * 1024 * 1024
PUSH_PATH = "/pubsub/push"


class BodyLimit:
    """ASGI middleware: looks at `Content-Length`, and counts where there is none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with a bounded body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = PUSH_BODY_BYTES_MAX if scope["path"] == PUSH_PATH else BODY_BYTES_MAX
        request = Request(scope)
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > limit:
            answer = problem(request, 413, "too-large", f"at most {limit} bytes are read here", "send less")
            await answer(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413, f"at most {limit} bytes are read here")
            return message

        await self._app(scope, counted, send)
