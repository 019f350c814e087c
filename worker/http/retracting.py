"""Taking back over HTTP what a processor announced by mistake."""

import uuid

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from statemachine.events import CompletionRetracted
from worker.http.actions import Desk, intervention_answer, tell
from worker.http.gate import caller_of
from worker.http.models import DayInPath, IdempotencyKey, Intervened, RetractRequest
from worker.idempotency import Answer


def add_retract(router: APIRouter, desk: Desk) -> None:
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

        def act() -> Answer:
            asked = event(desk.request_id(caller, day, idempotency_key))
            decision = desk.interventions.apply(day, asked, idempotency_key=idempotency_key)
            return intervention_answer(decision, asked, status=200, applied=decision.changed)

        wanted = {"route": "retract", "day": day.isoformat(), **body.model_dump(mode="json")}
        return tell(request, desk.once.run(idempotency_key, caller, wanted, act))
