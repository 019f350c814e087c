"""Health and metrics: no token, no data."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool

from worker.http.models import Health

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
