"""`today`, `tonight` and `yesterday` in a path, with the meaning of commands and `/process`."""

from starlette.types import ASGIApp, Receive, Scope, Send

from worker.calendar import DAY_WORDS
from worker.http.actions import Desk


class NamedDays:
    """ASGI middleware: writes the date in the place of the word, so that every route of a date accepts both.

    The word stays in `request.state.day_word`: a route that changes a date asks for the date soon after midnight.
    """

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the analysis date that the word names at this moment."""
        if scope["type"] == "http":
            root, *rest = scope["path"].split("/")[1:]
            if root in {"dates", "nights"} and rest and rest[0] in DAY_WORDS:
                state = {**scope.get("state", {}), "day_word": rest[0]}
                rest[0] = self._desk.day(rest[0]).isoformat()
                scope = {**scope, "path": "/".join(["", root, *rest]), "state": state}
        await self._app(scope, receive, send)
