"""Routes for machines: Pub/Sub pushes deliveries to `/pubsub/push`, and a scheduler calls `/tick`.

After a crash before the answer, Pub/Sub delivers again, and the next tick does the rest of an unfinished tick.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from schemas.completion import Refusal
from schemas.push import read_push, unread
from worker.errors import Unavailable
from worker.http.guard import BEARER, RouteGuard
from worker.http.middleware import PUSH_PATH
from worker.http.models import PUSH_BODY, TickAnswer
from worker.http.problems import responses
from worker.intake import Intake, Verdict
from worker.ports import Clock
from worker.tick import Ticked

# Bytes kept of a body without a valid push envelope.
UNREAD_BYTES_KEPT = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Arguments of the routes for machines.

    Attributes:
        push_guard: Before `/pubsub/push`.
        tick_guard: Before `/tick`.
        subscription: Full name of the subscription that may push.
        intake: Stores or parks deliveries.
        tick: Runs one tick.
        clock: The shell's clock.
    """

    push_guard: RouteGuard
    tick_guard: RouteGuard
    subscription: str
    intake: Intake
    tick: Callable[[], Ticked]
    clock: Clock


def machine_routes(machines: Machines) -> APIRouter:
    """Return the routes for push and tick."""
    router = APIRouter()
    router.include_router(_push_routes(machines))
    router.include_router(_tick_routes(machines))
    return router


def _push_routes(machines: Machines) -> APIRouter:
    router = APIRouter(
        tags=["machines"],
        route_class=machines.push_guard.route_class(),
        dependencies=[Depends(BEARER)],
        responses=responses(401, 403, 413, 500, 503),
    )

    @router.post(PUSH_PATH, status_code=204, response_class=Response, openapi_extra=PUSH_BODY)
    async def push(request: Request) -> Response:
        """Store a delivery. 204: stored, or parked with a reason; after another status Pub/Sub delivers again."""
        body = await request.body()
        verdict = await run_in_threadpool(_take, machines, body, request.headers)
        if verdict is not Verdict.ACK:
            raise Unavailable("the delivery could not be stored; deliver it again")
        return Response(status_code=204)

    return router


def _take(machines: Machines, body: bytes, headers: Mapping[str, str]) -> Verdict:
    now = machines.clock.now()
    try:
        pushed = read_push(body, headers, now)
    except Refusal as refusal:
        # An answer of 4xx would bring it again for days; parked, a person sees it and the subscription goes on.
        return machines.intake.refuse(unread(body[:UNREAD_BYTES_KEPT], now), refusal)
    except Exception as exc:  # noqa: BLE001 - charged to this body, and logged there
        return machines.intake.charge(unread(body[:UNREAD_BYTES_KEPT], now), exc)
    if pushed.subscription not in {None, machines.subscription}:
        detail = f"this worker serves {machines.subscription}; another subscription pushed"
        machines.push_guard.refuse("subscription", detail)
    return machines.intake.handle(pushed.delivery)


def _tick_routes(machines: Machines) -> APIRouter:
    router = APIRouter(
        tags=["machines"],
        route_class=machines.tick_guard.route_class(),
        dependencies=[Depends(BEARER)],
        responses=responses(401, 403, 413, 500, 503),
    )

    @router.post("/tick", response_model=TickAnswer)
    def tick() -> dict[str, Any]:
        """Open expected dates, fire due timers, build ready dates and publish outcomes, within a bounded time."""
        return asdict(machines.tick())

    return router
