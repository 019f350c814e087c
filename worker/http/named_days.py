"""`today` and `yesterday` in a path, as commands and `/process` take them."""

from starlette.types import ASGIApp, Receive, Scope, Send

from worker.http.actions import Desk

NAMED = ("today", "yesterday")


class NamedDays:
    """ASGI middleware: writes the date in the place of its name, so that every route of a date knows both."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the date of the league's wall clock at this moment."""
        if scope["type"] == "http":
            root, *rest = scope["path"].split("/")[1:]
            if root in {"dates", "nights"} and rest and rest[0] in NAMED:
                rest[0] = self._desk.day(rest[0]).isoformat()
                scope = {**scope, "path": "/".join(["", root, *rest])}
        await self._app(scope, receive, send)
