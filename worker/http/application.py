"""Puts the routes together: one application a listener."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import RedirectResponse
from prometheus_client import CollectorRegistry

from worker.http import problems
from worker.http.actions import Desk, action_routes
from worker.http.dates import Shelf, date_routes
from worker.http.gate import Gate
from worker.http.health import health_routes, metrics_routes
from worker.http.limits import BodyLimit
from worker.http.machines import Machines, machine_routes
from worker.http.named_days import NamedDays
from worker.http.pages import Window, page_routes
from worker.http.rendering import Pages
from worker.http.retracting import add_retract
from worker.http.targets import RequestTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
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

    gate: Gate
    page_gate: Gate
    shelf: Shelf
    desk: Desk
    registry: CollectorRegistry


def create_app(probes: Probes, *, version: str, api: Api | None = None, machines: Machines | None = None) -> FastAPI:
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
        acting = action_routes(api.desk, api.gate)
        add_retract(acting, api.desk)
        app.include_router(acting)
        window = Window(shelf=api.shelf, desk=api.desk, gate=api.page_gate, pages=Pages())
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
