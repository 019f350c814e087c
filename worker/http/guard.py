"""Route guards: the access check runs before the request body is read."""

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, NoReturn
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from worker.access import AccessControl, AccessRule, Caller, Role
from worker.settings.access import is_loopback

# Headers of a request that came through a proxy, so from another machine.
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "via")
# For the OpenAPI document only; `RouteGuard` checks the token before FastAPI reads the body.
BEARER = HTTPBearer(
    scheme_name="google_identity_token",
    bearerFormat="JWT",
    description="A Google OIDC identity token for the audience of this group of routes.",
    auto_error=False,
)


class RouteKind(Enum):
    """Kind of a group of routes.

    Attributes:
        API: For programs. Every body is read as JSON; without a token, a request from a web page is refused.
        PAGE: For browsers. A form must come from a page of this worker.
    """

    API = "api"
    PAGE = "page"


class RouteGuard:
    """Access check of one group of routes."""

    def __init__(self, control: AccessControl, rule: AccessRule, kind: RouteKind) -> None:
        """Store the collaborators.

        Args:
            control: Check of tokens and roles.
            rule: Audiences and roles of the group.
            kind: Kind of the routes.
        """
        self._control = control
        self._rule = rule
        self._kind = kind

    def route_class(self) -> type[APIRoute]:
        """Return the route class of the group: a route admits the caller, then reads the request."""
        admit, kind = self._admit, self._kind

        class GatedRoute(APIRoute):
            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                handle = super().get_route_handler()

                async def admitted(request: Request) -> Response:
                    if kind is RouteKind.API:
                        _read_as_json(request)
                    request.state.caller = await run_in_threadpool(admit, request)
                    return await handle(request)

                return admitted

        return GatedRoute

    def at_least(self, role: Role) -> Dependency:
        """Return a dependency that refuses callers with a lower role."""

        def check(request: Request) -> None:
            self.require(request, role)

        dependency: Dependency = Depends(check)
        return dependency

    def require(self, request: Request, role: Role) -> None:
        """Refuse a caller with a lower role.

        Raises:
            Forbidden: The role is too low.
        """
        self._control.require(self._rule, caller_of(request), role)

    def _admit(self, request: Request) -> Caller:
        caller = self._control.admit(self._rule, request.headers.get("authorization"))
        if not self._rule.audiences:
            self._check_local(request)
        if self._kind is RouteKind.PAGE and request.method not in {"GET", "HEAD"}:
            self._check_own_form(request)
        return caller

    def refuse(self, because: str, detail: str) -> NoReturn:
        """Refuse a request of an admitted caller because of the origin, the form or the subscription (403, counted).

        Raises:
            Forbidden: Always.
        """
        self._control.refuse(self._rule, because, detail)

    def _check_local(self, request: Request) -> None:
        """Refuse a request without token that comes from a web page, a proxy or another machine."""
        host = _host_name(request.headers.get("host", ""))
        if not is_loopback(host):
            self.refuse("not_local", f"{host or 'no host'} is not this machine's own name; use 127.0.0.1, or a token")
        from_page = "origin" in request.headers and self._kind is RouteKind.API
        if from_page or any(name in request.headers for name in FORWARDED):
            self.refuse("not_local", "a request from a web page or through a proxy needs a token")

    def _check_own_form(self, request: Request) -> None:
        """Refuse a form of another site's page.

        A page can forge neither header. Browsers send `Sec-Fetch-Site` to loopback and over TLS, and `Origin` with
        every form.
        """
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin", "")
        own = site == "same-origin" if site is not None else _authority(origin) == request.headers.get("host", "")
        if not own:
            self.refuse("cross_site", "a form must come from a page of this worker; programs use the API")


def caller_of(request: Request) -> Caller:
    """Return the caller that the route guard admitted."""
    caller: Caller = request.state.caller
    return caller


def _host_name(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _authority(origin: str) -> str | None:
    """Return host and port of an `Origin` header; None for an absent or opaque origin."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _read_as_json(request: Request) -> None:
    """Set the content type to JSON: Cloud Scheduler sends `application/octet-stream` by default.

    Call before the first read of the headers: a request reads the headers once.
    """
    others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
    request.scope["headers"] = [*others, (b"content-type", b"application/json")]
