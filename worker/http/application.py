"""The HTTP application of a listener: routes for health and metrics, and the groups of routes of the listener.

The routes for health and metrics ask for no token and show no data of an analysis date.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import RedirectResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool

from worker.http import problems
from worker.http.actions import ActionContext, action_routes
from worker.http.guard import RouteGuard
from worker.http.middleware import BodyLimit, NamedDays
from worker.http.models import Health
from worker.http.pages import PageContext, page_routes
from worker.http.push_and_tick import Machines, machine_routes
from worker.http.reading import DateReader, date_routes
from worker.http.rendering import Pages
from worker.http.targets import RequestTarget

_FAILING: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "`faults` names the faults"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChecks:
    """Checks of the health routes.

    Attributes:
        alive: Returns the faults inside this process; empty while the process works. Must not wait.
        ready: Returns the reasons why the process takes no work; empty while the process is ready.
    """

    alive: Callable[[], list[str]]
    ready: Callable[[], list[str]]


def health_routes(checks: HealthChecks) -> APIRouter:
    """Make `/livez` and `/readyz`."""
    router = APIRouter(tags=["health"])

    @router.get("/livez", responses=_FAILING)
    async def livez(response: Response) -> Health:
        # On the event loop: requests that occupy every thread must not make the process look dead.
        return _health(checks.alive(), response)

    @router.get("/readyz", responses=_FAILING)
    async def readyz(response: Response) -> Health:
        return _health(await run_in_threadpool(checks.ready), response)

    return router


def metrics_routes(registry: CollectorRegistry) -> APIRouter:
    """Return the route `/metrics`."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _health(faults: list[str], response: Response) -> Health:
    if faults:
        response.status_code = 503
    return Health(status="ok" if not faults else "failing", faults=faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Arguments of the routes for people and schedulers: dates, actions, metrics, pages."""

    guard: RouteGuard
    page_guard: RouteGuard
    reader: DateReader
    actions: ActionContext
    registry: CollectorRegistry


def create_app(
    probes: HealthChecks, *, version: str, api: Api | None = None, machines: Machines | None = None
) -> FastAPI:
    """Return the application of a listener: the health routes and the given groups of routes."""
    app = FastAPI(
        title="mlfs",
        version=version,
        description="The ML feature-store worker. Errors are RFC 9457 problem details.",
        docs_url=None,
        redoc_url=None,
        # With a redirect, Starlette would send the client to the host in the request.
        redirect_slashes=False,
    )
    problems.install(app)
    app.add_middleware(BodyLimit)
    if api is not None:
        app.add_middleware(NamedDays, actions=api.actions)
    app.add_middleware(RequestTarget)
    app.include_router(health_routes(probes))
    if api is not None:
        app.include_router(metrics_routes(api.registry))
        app.include_router(date_routes(api.reader, api.guard))
        app.include_router(action_routes(api.actions, api.guard))
        window = PageContext(reader=api.reader, actions=api.actions, guard=api.page_guard, pages=Pages())
        app.include_router(page_routes(window))
    else:
        app.add_api_route("/", lambda: RedirectResponse("/livez"), include_in_schema=False)
    if machines is not None:
        app.include_router(machine_routes(machines))
    _document(app)
    return app


def _document(app: FastAPI) -> None:
    """Describe the problem documents in the OpenAPI document, in place of the validation errors of FastAPI."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
            schemas["Problem"] = problems.Problem.model_json_schema()
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
