"""Acting on dates: `/process` for schedulers, workflows and people; replay and cancel for people.

Taking back over HTTP what a processor announced by mistake.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from statemachine.decide import Decision
from statemachine.events import CancelRequested, CompletionRetracted, InterventionEvent, ReplayRequested
from statemachine.model import BuildMode, State
from worker.access import Role
from worker.calendar import FUTURE_DAYS_MAX, Calendar
from worker.date_text import summary
from worker.errors import Refused
from worker.http.guard import BEARER, RouteGuard, caller_of
from worker.http.models import (
    CancelRequest,
    DateSummary,
    DayInPath,
    IdempotencyKey,
    Intervened,
    ProcessRequest,
    ReplayRequest,
    RetractRequest,
)
from worker.http.problems import problem, responses
from worker.interventions.idempotency import IdempotentRequests, StoredResponse
from worker.interventions.requests import Interventions, Processed
from worker.ports import Clock

_LOCATION = {"Location": {"description": "Where to look for the end.", "schema": {"type": "string"}}}
_FAILED = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """What the routes that act work with.

    Attributes:
        interventions: Does it.
        once: Lets a repeated request take effect once.
        calendar: Reads `today`, `tonight` and `yesterday`.
        earliest: First date accepted.
        clock: The shell's clock.
        wait_s: A request waits for a build at most this long.
    """

    interventions: Interventions
    once: IdempotentRequests
    calendar: Calendar
    earliest: date
    clock: Clock
    wait_s: float

    def day(self, wanted: date | str) -> date:
        """Read a date or one of `DAY_WORDS`, and refuse a date outside the accepted range.

        Raises:
            Refused: Outside the range.
        """
        now = self.clock.now()
        day = wanted if isinstance(wanted, date) else self.calendar.named_day(wanted, now)
        latest = self.calendar.league_day(now) + timedelta(days=FUTURE_DAYS_MAX)
        if not self.earliest <= day <= latest:
            raise Refused(f"{day} is outside {self.earliest} to {latest}")
        return day

    def day_to_change(self, request: Request, day: date) -> date:
        """Read the date of a request that replays, cancels or retracts.

        Raises:
            TwoDates: The path said `today` or `tonight`, soon after midnight.
            Refused: Outside the range.
        """
        word: str | None = getattr(request.state, "day_word", None)
        return self.day(day if word is None else self.calendar.day_to_change(word, self.clock.now()))

    def request_id(self, caller: str, day: date, idempotency_key: str | None) -> str:
        """Name a request; under one key, for a day, it keeps its name, so that a repeat finds its own change."""
        if idempotency_key is None:
            return uuid.uuid4().hex
        name = f"{caller}/{idempotency_key}/{day}/{self.calendar.league_day(self.clock.now())}"
        return uuid.uuid5(uuid.NAMESPACE_OID, name).hex

    def replay(self, day: date, caller: str, body: ReplayRequest, idempotency_key: str | None) -> StoredResponse:
        """Have a date built again, once per key.

        Raises:
            Refused: It makes no sense in this state, or the key stands for another request.
            Unavailable: Store or warehouse does not answer.
        """
        event = replay_event(caller, body, self.request_id(caller, day, idempotency_key))

        def act() -> StoredResponse:
            decision = self.interventions.apply(day, event, idempotency_key=idempotency_key)
            return intervention_answer(decision, event, status=202, applied=True)

        wanted = {"route": "replay", "day": day.isoformat(), **body.model_dump(mode="json")}
        return self.once.run(idempotency_key, caller, wanted, act)


def replay_event(caller: str, body: ReplayRequest, request_id: str) -> ReplayRequested:
    """Give the event of a replay."""
    return ReplayRequested(
        actor=caller,
        reason=body.reason,
        mode=BuildMode.FORCED_FALLBACK if body.force_phase3_fallback else BuildMode.NORMAL,
        take_over=body.force,
        request_id=request_id,
    )


def action_routes(desk: ActionContext, gate: RouteGuard) -> APIRouter:
    """Make the routes that act."""
    router = APIRouter(
        tags=["actions"],
        route_class=gate.route_class(),
        dependencies=[Depends(BEARER), gate.at_least(Role.OPERATOR)],
        responses=responses(400, 401, 403, 404, 409, 413, 422, 500, 503),
    )
    accepted = _accepted(DateSummary, "Still on its way; see Location")

    @router.post("/process", response_model=DateSummary, responses=accepted)
    def process(body: ProcessRequest, request: Request, idempotency_key: IdempotencyKey = None) -> JSONResponse:
        """Build a date now and wait for the end; a date that is published already is only reported.

        200 published, 202 still on its way, 409 failed (with the fields of the summary) or refused.
        """
        day = request.state.analysis_date = desk.day(body.analysis_date)
        caller = caller_of(request).name
        wanted = {"route": "process", "day": day.isoformat(), "forced": body.force_phase3_fallback}

        def act() -> StoredResponse:
            processed = desk.interventions.process(
                day,
                forced=body.force_phase3_fallback,
                actor=caller,
                idempotency_key=idempotency_key,
                wait_s=desk.wait_s,
            )
            return _process_answer(processed)

        return tell(request, desk.once.run(idempotency_key, caller, wanted, act))

    _add_replay(router, desk, gate)
    _add_cancel(router, desk)
    return router


def _accepted(model: type[DateSummary], text: str) -> dict[int | str, dict[str, Any]]:
    return {202: {"model": model, "headers": _LOCATION, "description": text}}


def _add_replay(router: APIRouter, desk: ActionContext, gate: RouteGuard) -> None:
    accepted = _accepted(Intervened, "Accepted; a worker builds it")

    @router.post("/dates/{analysis_date}/replay", response_model=Intervened, responses=accepted)
    def replay(
        analysis_date: DayInPath, body: ReplayRequest, request: Request, idempotency_key: IdempotencyKey = None
    ) -> JSONResponse:
        """Build a date again, as a new generation. 202 accepted, 200 for a dry run."""
        if body.force:
            gate.require(request, Role.ADMIN)
        day, caller = desk.day_to_change(request, analysis_date), caller_of(request).name
        if body.dry_run:
            event = replay_event(caller, body, uuid.uuid4().hex)
            planned = desk.interventions.plan(day, event)
            return tell(request, intervention_answer(planned, event, status=200, applied=False))
        return tell(request, desk.replay(day, caller, body, idempotency_key))


def _add_cancel(router: APIRouter, desk: ActionContext) -> None:
    @router.post("/dates/{analysis_date}/cancel", response_model=Intervened)
    def cancel(
        analysis_date: DayInPath, body: CancelRequest, request: Request, idempotency_key: IdempotencyKey = None
    ) -> JSONResponse:
        """Stop a date that is waiting or being built; it stays failed until somebody replays it."""
        day, caller = desk.day_to_change(request, analysis_date), caller_of(request).name
        request_id = desk.request_id(caller, day, idempotency_key)
        event = CancelRequested(actor=caller, reason=body.reason, request_id=request_id)

        def act() -> StoredResponse:
            decision = desk.interventions.apply(day, event, idempotency_key=idempotency_key)
            return intervention_answer(decision, event, status=200, applied=True)

        wanted = {"route": "cancel", "day": day.isoformat(), **body.model_dump(mode="json")}
        return tell(request, desk.once.run(idempotency_key, caller, wanted, act))


def _process_answer(processed: Processed) -> StoredResponse:
    record = processed.record
    if not processed.ended:
        return StoredResponse(status=202, body=summary(record), headers=_location(record.analysis_date))
    return StoredResponse(status=_FAILED if record.state is State.FAILED else 200, body=summary(record))


def intervention_answer(decision: Decision, event: InterventionEvent, *, status: int, applied: bool) -> StoredResponse:
    """Give the answer to what a person asked of a date."""
    body = {
        **summary(decision.record),
        "applied": applied,
        "event": event.kind.value,
        "reason": decision.reason.value,
    }
    return StoredResponse(status=status, body=body, headers=_location(decision.record.analysis_date) if applied else {})


def _location(day: date) -> dict[str, str]:
    return {"Location": f"/dates/{day.isoformat()}"}


def tell(request: Request, answer: StoredResponse) -> JSONResponse:
    """Send an answer; a date that failed is a problem to its caller, so that schedulers and workflows notice."""
    if answer.status == _FAILED:
        return _failed(request, answer.body)
    return JSONResponse(dict(answer.body), answer.status, headers=dict(answer.headers))


def _failed(request: Request, body: Mapping[str, Any]) -> JSONResponse:
    day, failure = body["analysis_date"], body["failure"] or {"because": "unknown", "message": ""}
    detail = f"{day} failed ({failure['because']}): {failure['message']}"
    step = f"repair what is named, then POST /dates/{day}/replay; GET /dates/{day} tells the whole story"
    return problem(request, _FAILED, "date-failed", detail, step, more=body)


def add_retract(router: APIRouter, desk: ActionContext) -> None:
    """Add the route to those that act."""

    @router.post("/dates/{analysis_date}/retract", response_model=Intervened)
    def retract(
        analysis_date: DayInPath, body: RetractRequest, request: Request, idempotency_key: IdempotencyKey = None
    ) -> JSONResponse:
        """Take back a processor's success: the run no longer counts, and no build reads the table it filled."""
        day, caller = desk.day_to_change(request, analysis_date), caller_of(request).name

        def event(request_id: str) -> CompletionRetracted:
            return CompletionRetracted(
                processor=body.processor,
                identity=desk.interventions.run_to_take_back(day, body.processor, body.run_id),
                actor=caller,
                reason=body.reason,
                rebuild=body.rebuild,
                request_id=request_id,
            )

        if body.dry_run:
            asked = event(uuid.uuid4().hex)
            planned = desk.interventions.plan(day, asked)
            return tell(request, intervention_answer(planned, asked, status=200, applied=False))

        def act() -> StoredResponse:
            asked = event(desk.request_id(caller, day, idempotency_key))
            decision = desk.interventions.apply(day, asked, idempotency_key=idempotency_key)
            return intervention_answer(decision, asked, status=200, applied=decision.changed)

        wanted = {"route": "retract", "day": day.isoformat(), **body.model_dump(mode="json")}
        return tell(request, desk.once.run(idempotency_key, caller, wanted, act))
