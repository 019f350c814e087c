"""JSON routes that change analysis dates: `/process` for schedulers and workflows; replay, cancel and retract."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from statemachine.events import InterventionEvent, ReplayRequested
from statemachine.model import TERMINAL_STATES, DateRecord, State
from worker.access import Role
from worker.calendar import FUTURE_DAYS_MAX, Calendar
from worker.date_text import DateSummary, summary
from worker.errors import Refused
from worker.http.guard import BEARER, RouteGuard, caller_of
from worker.http.models import (
    CancelRequest,
    DayInPath,
    IdempotencyKey,
    Intervened,
    ProcessRequest,
    ReplayRequest,
    RetractRequest,
)
from worker.http.problems import problem, responses
from worker.interventions.idempotency import IdempotentRequests, StoredResponse
from worker.interventions.process import Processing
from worker.interventions.requests import Interventions
from worker.ports import Clock

_LOCATION = {"Location": {"description": "Address of the explanation of the date.", "schema": {"type": "string"}}}
_FAILED = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """Arguments of the action routes.

    Attributes:
        interventions: Plans and applies interventions.
        processing: Builds an analysis date while the request waits.
        once: Runs a request of `/process` a single time for each key.
        calendar: Reads `today`, `tonight` and `yesterday`.
        earliest: First date accepted.
        clock: The shell's clock.
        wait_s: A request waits for a build at most this long.
    """

    interventions: Interventions
    processing: Processing
    once: IdempotentRequests
    calendar: Calendar
    earliest: date
    clock: Clock
    wait_s: float

    def day(self, wanted: date | str) -> date:
        """Return the date of a text or of a word out of `DAY_WORDS`.

        Raises:
            Refused: The date is outside the accepted range.
        """
        day = wanted if isinstance(wanted, date) else self.calendar.named_day(wanted, self.clock.now())
        if not self.accepts(day):
            raise Refused(f"{day} is outside {self.earliest} to {self._latest()}")
        return day

    def accepts(self, day: date) -> bool:
        """Whether the date is in the accepted range."""
        return self.earliest <= day <= self._latest()

    def _latest(self) -> date:
        return self.calendar.league_day(self.clock.now()) + timedelta(days=FUTURE_DAYS_MAX)

    def day_to_change(self, request: Request, day: date) -> date:
        """Read the date of a request that replays, cancels or retracts.

        Raises:
            TwoDates: The path said `today` or `tonight`, soon after midnight.
            Refused: Outside the range.
        """
        word: str | None = getattr(request.state, "day_word", None)
        return self.day(day if word is None else self.calendar.day_to_change(word, self.clock.now()))


def action_routes(actions: ActionContext, guard: RouteGuard) -> APIRouter:
    """Return the action routes."""
    router = APIRouter(
        tags=["actions"],
        route_class=guard.route_class(),
        dependencies=[Depends(BEARER), guard.at_least(Role.OPERATOR)],
        responses=responses(400, 401, 403, 404, 409, 413, 422, 500, 503),
    )
    accepted = _accepted(DateSummary, "The build has not ended; see Location")

    @router.post("/process", response_model=DateSummary, responses=accepted)
    def process(body: ProcessRequest, request: Request, idempotency_key: IdempotencyKey = None) -> JSONResponse:
        """Build an analysis date now and wait for the end; a published date stays unchanged.

        200 published, 202 not ended yet, 409 failed (with the fields of the summary) or refused.
        """
        day = request.state.analysis_date = actions.day(body.analysis_date)
        caller = caller_of(request).name
        wanted = {"route": "process", "day": day.isoformat(), "forced": body.force_phase3_fallback}

        def act() -> StoredResponse:
            record = actions.processing.process(
                day,
                forced=body.force_phase3_fallback,
                actor=caller,
                idempotency_key=idempotency_key,
                wait_s=actions.wait_s,
            )
            return _process_answer(record)

        return _to_response(request, actions.once.run(idempotency_key, caller, wanted, act))

    _add_interventions(router, actions, guard)
    return router


def _accepted(model: type[DateSummary], text: str) -> dict[int | str, dict[str, Any]]:
    return {202: {"model": model, "headers": _LOCATION, "description": text}}


def _add_interventions(router: APIRouter, actions: ActionContext, guard: RouteGuard) -> None:
    accepted = _accepted(Intervened, "Accepted; a worker builds the date")

    def intervene(
        request: Request, day: date, event: InterventionEvent, key: str | None, *, dry_run: bool = False
    ) -> JSONResponse:
        day = actions.day_to_change(request, day)
        if dry_run:
            planned = actions.interventions.ask(day, event, caller=event.actor, consent=lambda *_plan: False)
            return JSONResponse(planned.facts)
        answer = actions.interventions.ask(day, event, caller=event.actor, key=key)
        status = 202 if isinstance(event, ReplayRequested) else 200
        return JSONResponse(answer.facts, status, _location(day) if answer.outcome["applied"] else None)

    @router.post("/dates/{analysis_date}/replay", response_model=Intervened, responses=accepted)
    def replay(
        analysis_date: DayInPath, body: ReplayRequest, request: Request, idempotency_key: IdempotencyKey = None
    ) -> JSONResponse:
        """Build an analysis date again, as a new generation. 202 accepted, 200 for a dry run."""
        if body.force:
            guard.require(request, Role.ADMIN)
        event = body.event(caller_of(request).name)
        return intervene(request, analysis_date, event, idempotency_key, dry_run=body.dry_run)

    @router.post("/dates/{analysis_date}/cancel", response_model=Intervened)
    def cancel(
        analysis_date: DayInPath, body: CancelRequest, request: Request, idempotency_key: IdempotencyKey = None
    ) -> JSONResponse:
        """Stop a waiting, ready or running analysis date; the date stays failed until a replay."""
        event = body.event(caller_of(request).name)
        return intervene(request, analysis_date, event, idempotency_key)

    @router.post("/dates/{analysis_date}/retract", response_model=Intervened)
    def retract(
        analysis_date: DayInPath, body: RetractRequest, request: Request, idempotency_key: IdempotencyKey = None
    ) -> JSONResponse:
        """Retract a run of a processor: the run no longer counts, and no build reads the processor's Phase 4 table."""
        event = body.event(caller_of(request).name)
        return intervene(request, analysis_date, event, idempotency_key, dry_run=body.dry_run)


def _process_answer(record: DateRecord) -> StoredResponse:
    if record.state not in TERMINAL_STATES:
        return StoredResponse(status=202, body=summary(record), headers=_location(record.analysis_date))
    return StoredResponse(status=_FAILED if record.state is State.FAILED else 200, body=summary(record))


def _location(day: date) -> dict[str, str]:
    return {"Location": f"/dates/{day.isoformat()}"}


def _to_response(request: Request, answer: StoredResponse) -> JSONResponse:
    """Return the response; a failed date is a problem document, so schedulers and workflows notice the failure."""
    if answer.status == _FAILED:
        return _failed(request, answer.body)
    return JSONResponse(dict(answer.body), answer.status, headers=dict(answer.headers))


def _failed(request: Request, body: Mapping[str, Any]) -> JSONResponse:
    day, failure = body["analysis_date"], body["failure"] or {"because": "unknown", "message": ""}
    detail = f"{day} failed ({failure['because']}): {failure['message']}"
    step = f"repair the named cause, then POST /dates/{day}/replay; GET /dates/{day} explains the date"
    return problem(request, _FAILED, "date-failed", detail, step, more=body)
