"""Puts the routes together: one application a listener.

Health and metrics: no token, no data.
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

_FAILING: dict[int | str, dict[str, Any]] = {
    503: {"model": Health, "description": "Something is wrong; `faults` says what"}
}


def health_routes(alive: Callable[[], list[str]], ready: Callable[[], list[str]]) -> APIRouter:
    """Make `/livez` and `/readyz`.

    Args:
        alive: Gives what is wrong inside this process; empty when it is alive. Must not wait.
        ready: Gives what keeps it from working; empty when it is ready.
    """
    router = APIRouter(tags=["health"])

    @router.get("/livez", responses=_FAILING)
    async def livez(response: Response) -> Health:
        # On the event loop: requests that occupy every thread must not make the process look dead.
        return _health(alive(), response)

    @router.get("/readyz", responses=_FAILING)
    async def readyz(response: Response) -> Health:
        return _health(await run_in_threadpool(ready), response)

    return router


def metrics_routes(registry: CollectorRegistry) -> APIRouter:
    """Make `/metrics`."""
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
class HealthChecks:
    """What health pages ask.

    Attributes:
        alive: Gives what is wrong inside this process; empty when it is alive.
        ready: Gives what keeps it from working; empty when it is ready.
    """

    alive: Callable[[], list[str]]
    ready: Callable[[], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What people and schedulers reach: dates, actions, metrics, pages."""

    gate: RouteGuard
    page_gate: RouteGuard
    shelf: DateReader
    desk: ActionContext
    registry: CollectorRegistry


def create_app(
    probes: HealthChecks, *, version: str, api: Api | None = None, machines: Machines | None = None
) -> FastAPI:
    """Make the application of one listener: health, and the groups of routes that are given."""
    app = FastAPI(
        title="mlfs",
        version=version,
        description="The ML feature-store worker. Errors are RFC 9457 problem details.",
        docs_url=None,
        redoc_url=None,
        # Starlette would send the client to the host that the client itself named.
        redirect_slashes=False,
    )
    problems.install(app)
    app.add_middleware(BodyLimit)
    if api is not None:
        app.add_middleware(NamedDays, desk=api.desk)
    app.add_middleware(RequestTarget)
    app.include_router(health_routes(probes.alive, probes.ready))
    if api is not None:
        app.include_router(metrics_routes(api.registry))
        app.include_router(date_routes(api.shelf, api.gate))
        app.include_router(action_routes(api.desk, api.gate))
        window = PageContext(shelf=api.shelf, desk=api.desk, gate=api.page_gate, pages=Pages())
        app.include_router(page_routes(window))
    else:
        app.add_api_route("/", lambda: RedirectResponse("/livez"), include_in_schema=False)
    if machines is not None:
        app.include_router(machine_routes(machines))
    _document(app)
    return app


def _document(app: FastAPI) -> None:
    """Describe problems as they are; FastAPI's own form of a validation error is never sent."""

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
