"""ASGI middlewares: `BodyLimit` bounds size and time of request bodies, `NamedDays` resolves words in paths.

A body over the limit is refused before the read, or as soon as the limit is reached. A body not complete in time is
refused too, and the refusal frees the request, the thread and the connection.

`today`, `tonight` and `yesterday` in a path mean the same analysis date as in commands and in `/process`.
"""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.calendar import DAY_WORDS
from worker.http.actions import ActionContext
from worker.http.problems import problem

# The body of an action: an analysis date and a reason.
BODY_BYTES_MAX = 64 * 1024
# Pub/Sub delivers at most 10 MB, in base64, with attributes. A message too large for a completion is parked, so the
# worker must read the whole message.
PUSH_BODY_BYTES_MAX = 16 * 1024 * 1024
PUSH_PATH = "/pubsub/push"
# Seconds for the whole body: enough for the largest push at 1 MB a second.
BODY_TIMEOUT_S = 15.0


class BodyLimit:
    """Checks `Content-Length`, and counts the bytes while the body arrives."""

    def __init__(self, app: ASGIApp, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request with a bounded body."""
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
        body = _Body(receive, limit, self._timeout_s)
        await self._app(scope, body.receive, send)


class _Body:
    """Body of a request while the parts arrive."""

    def __init__(self, receive: Receive, limit: int, timeout_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._read = 0
        self._due = asyncio.get_running_loop().time() + timeout_s
        self._complete = False

    async def receive(self) -> Message:
        """Return the next part of the body, or the disconnection after the whole body.

        Raises:
            HTTPException: The body is too long, arrives too slowly, or ends too early.
        """
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._due):
                message = await self._receive()
        except TimeoutError:
            # The rest of the body may still arrive, so the connection cannot serve another request.
            raise HTTPException(408, "the body did not arrive in time", headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the body ended too early")
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            raise HTTPException(413, f"at most {self._limit} bytes are read here")
        self._complete = not message.get("more_body", False)
        return message


class NamedDays:
    """Replaces the word in the path by the analysis date, so that every route accepts both.

    The word stays in `request.state.day_word`: soon after midnight, an action asks for the date in place of the word.
    """

    def __init__(self, app: ASGIApp, actions: ActionContext) -> None:
        self._app = app
        self._actions = actions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request with the analysis date named by the word now."""
        if scope["type"] == "http":
            root, *rest = scope["path"].split("/")[1:]
            if root in {"dates", "nights"} and rest and rest[0] in DAY_WORDS:
                state = {**scope.get("state", {}), "day_word": rest[0]}
                rest[0] = self._actions.day(rest[0]).isoformat()
                scope = {**scope, "path": "/".join(["", root, *rest]), "state": state}
        await self._app(scope, receive, send)
