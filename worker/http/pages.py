"""The status page: tonight at a glance, each date in full, and forms to replay, cancel and retract.

A form shows the plan first. A confirmed form is applied, and the browser is sent to the page of the date by GET, so
that going back or reloading repeats no act. The page follows the generation until the generation has ended.
"""

import json
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from statemachine.events import CompletionRetracted, InterventionEvent
from statemachine.model import DateRecord
from worker.access import LOCAL_CALLER, Role
from worker.clock import pause
from worker.date_text import retraction_follows
from worker.errors import CorruptRecord, PipelineError
from worker.foresight.outlook import Stage
from worker.foresight.outlook_text import rows_of
from worker.foresight.reading import AT_ONCE_S
from worker.http import problems
from worker.http.actions import ActionContext
from worker.http.guard import RouteGuard, caller_of
from worker.http.models import (
    NAME_CHARS_MAX,
    CancelRequest,
    Day,
    DayInPath,
    FormControls,
    ReplayRequest,
    RetractRequest,
)
from worker.http.page_model import DatePage, Strip, chip_of, damaged_night, night_of, night_to_show
from worker.http.plots import plot_of
from worker.http.reading import DateReader
from worker.http.rendering import Moments, Pages
from worker.interventions.audit import REASON_CHARS_MAX
from worker.interventions.idempotency import KeyInUse
from worker.interventions.requests import POLL_S, InterventionAnswer, has_ended
from worker.observing.outbox import untold_by_date

DATES_IN_STRIP = 14
# The strip leads to older dates up to this number: more than ten seasons.
DATES_PAGED_MAX = 4_000
REQUESTS: Mapping[str, type[ReplayRequest | CancelRequest | RetractRequest]] = {
    "replay": ReplayRequest,
    "cancel": CancelRequest,
    "retract": RetractRequest,
}
# Seconds for which the second of two equal forms waits for the answer to the first form.
SENT_TWICE_WAIT_S = 5.0
_FIELDS_MAX = 10
_TOLD = (PipelineError, HTTPException, RequestValidationError)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """Arguments of the page routes.

    Attributes:
        reader: Reads dates.
        actions: Carries out the forms.
        guard: Checks the caller.
        pages: The templates.
    """

    reader: DateReader
    actions: ActionContext
    guard: RouteGuard
    pages: Pages

    def moments(self) -> Moments:
        """Return the formatter of times, at the present instant."""
        return Moments(self.reader.clock.now(), self.reader.zone)

    def strip(self, day: date) -> Strip:
        """Return the block of latest dates that holds *day*, with links to the blocks before and after."""
        days = self.reader.store.dates(DATES_PAGED_MAX)
        first = sum(1 for known in days if known > day) // DATES_IN_STRIP * DATES_IN_STRIP
        shown = days[first : first + DATES_IN_STRIP]
        records = self.reader.store.load_all(shown)
        chips = [chip_of(known, records.get(known)) for known in shown if known not in records or records[known]]
        older = days[first + DATES_IN_STRIP : first + DATES_IN_STRIP + 1]
        newer = days[max(first - DATES_IN_STRIP, 0) : first][:1]
        return Strip(chips=chips[::-1], older=next(iter(older), None), newer=next(iter(newer), None))

    def night(self, day: date, moments: Moments) -> DatePage | None:
        """Return the description of a date; None for a date that was never opened."""
        store, history = self.reader.store, self.reader.store.history(day)
        try:
            record: DateRecord | None = store.load(day)
        except CorruptRecord as exc:
            return damaged_night(day, str(exc), history)
        if record is None:
            return None
        untold = untold_by_date(store).get(day)
        return night_of(record, history, moments.now, self.reader.policy, self.reader.zone, untold)

    def show(
        self, request: Request, day: date, follow: int | None = None, followed_act: str = "replay"
    ) -> HTMLResponse:
        """Return the page of a date.

        Args:
            request: The request.
            day: The analysis date.
            follow: Generation of the date after a person's request: the page asks for news until the generation has
                ended. A generation that the date has not reached comes from no request and is ignored.
            followed_act: Kind of the request. Only a replay is the request named by the record of the generation.
        """
        moments = self.moments()
        night = self.night(day, moments)
        caller, record = caller_of(request), night.record if night else None
        if record is None or (follow is not None and follow > record.generation):
            follow = None
        facts: dict[str, Any] = {
            "strip": self.strip(day),
            "role": caller.role,
            "roles": Role,
            "asks_name": caller.name == LOCAL_CALLER,
            "key": uuid.uuid4().hex,
            "reason_chars_max": REASON_CHARS_MAX,
            "name_chars_max": NAME_CHARS_MAX,
        }
        if night is None:
            opens = self.actions.accepts(day)
            return self.pages.render("unopened.html", moments, status=404, day=day, opens=opens, **facts)
        return self.pages.render(
            "night.html",
            moments,
            **self._outlook(record),
            night=night,
            day=day,
            title="Tonight" if day == self.actions.calendar.tonight(moments.now) else "Night",
            follow=follow,
            followed_act=followed_act,
            ended=record is not None and follow is not None and has_ended(record, follow),
            **facts,
        )

    def _outlook(self, record: DateRecord | None) -> dict[str, Any]:
        """Return the facts about the outlook of an open date; the page never waits for the warehouse."""
        reader = self.reader.outlook
        facts: dict[str, Any] = {"outlook": None, "outlook_rows": [], "outlook_absent": ""}
        if record is None or reader.stage(record) is not Stage.OPEN:
            return facts
        try:
            outlook = reader.read(record, AT_ONCE_S)
        except PipelineError as exc:
            return {**facts, "outlook_absent": str(exc)}
        return {**facts, "outlook": outlook, "outlook_rows": rows_of(outlook, self.reader.zone)}

    def features(self, day: date) -> HTMLResponse:
        """Return the page with the distribution of each feature; the page waits for the warehouse.

        Raises:
            Refused: Nothing is published, or the publication has no statistics.
            Unavailable: The warehouse does not answer.
        """
        found = self.reader.distributions(day)
        # The sort is stable: features with findings first, then the order of the catalogue.
        plots = sorted((plot_of(distribution) for distribution in found.features), key=lambda plot: not plot.level)
        return self.pages.render("features.html", self.moments(), day=day, found=found, plots=plots)

    def intervene(self, request: Request, day: date, act: str, fields: Mapping[str, str]) -> Response:
        """Return the plan of an act; apply a confirmed act and send the browser to a page that follows the date.

        Raises:
            Refused: The act makes no sense in this state, or the key belongs to another request.
            Unavailable: Store or warehouse does not answer.
            RequestValidationError: A field of the form is wrong.
        """
        wish, controls = read_form(act, fields)
        if isinstance(wish, ReplayRequest) and wish.force:
            self.guard.require(request, Role.ADMIN)
        day, caller = self.actions.day_to_change(request, day), caller_of(request).name
        event = wish.event(controls.name if controls.name and caller == LOCAL_CALLER else caller)
        service, key = self.actions.interventions, f"{act}/{controls.key}"
        if controls.confirmed:
            answer = self._ask(day, event, caller, key)
            if not answer.outcome["applied"]:
                return self._go(f"/nights/{day}")
            return self._go(f"/nights/{day}?follow={answer.generation}" + ("" if act == "replay" else f"&act={act}"))
        event, before, planned = service.plan(day, event)
        if not planned.changed:
            return self._go(f"/nights/{day}")
        facts: dict[str, Any] = {"day": day, "act": act, "event": event, "before": before, "planned": planned.record}
        if isinstance(event, CompletionRetracted):
            facts["follows"] = retraction_follows(planned.record, event.processor)
            # The plan names the run: another run that counts meanwhile is not retracted.
            fields = {**fields, "run_id": event.identity}
        return self.pages.render("confirm.html", self.moments(), **facts, fields={**fields, "confirmed": "on"})

    def _ask(self, day: date, event: InterventionEvent, caller: str, key: str) -> InterventionAnswer:
        """Apply the event; a form sent twice at once waits for the answer to the first form.

        A browser shows the answer to the last of two clicks.
        """
        for _ in range(round(SENT_TWICE_WAIT_S / POLL_S)):
            try:
                return self.actions.interventions.ask(day, event, caller=caller, key=key)
            except KeyInUse as exc:
                if not exc.pending:
                    raise
            pause(POLL_S)
        return self.actions.interventions.ask(day, event, caller=caller, key=key)

    def _go(self, address: str) -> Response:
        """Send the browser to an address by GET: going back or reloading repeats no act."""
        return RedirectResponse(address, 303, headers=self.pages.headers)

    def problem(self, request: Request, exc: Exception) -> Response:
        """Return the page of a problem, with the texts of the JSON routes."""
        answer = problems.answer(request, exc)
        told = json.loads(bytes(answer.body))
        if isinstance(exc, HTTPException | KeyInUse):
            # The next step of the JSON routes is for programs; a person goes back to the page.
            told["next"] = "go back, reload the page of the date and send the form again"
        page = self.pages.render("problem.html", self.moments(), status=answer.status_code, problem=told)
        page.headers.update(
            {name: answer.headers[name] for name in ("retry-after", "www-authenticate") if name in answer.headers}
        )
        return page


def page_routes(window: PageContext) -> APIRouter:
    """Return the page routes."""
    router = APIRouter(
        include_in_schema=False,
        route_class=_route_class(window),
        dependencies=[window.guard.at_least(Role.VIEWER)],
        default_response_class=HTMLResponse,
    )

    @router.get("/")
    def start(request: Request, until: Day | None = None) -> Response:
        known = window.reader.store.dates(DATES_PAGED_MAX)
        day = night_to_show(until or window.actions.calendar.tonight(window.reader.clock.now()), known)
        if day is None:
            return window.pages.render("empty.html", window.moments())
        return window.show(request, day)

    @router.get("/nights/{analysis_date}")
    def one_night(
        request: Request,
        analysis_date: DayInPath,
        follow: Annotated[int | None, Query(ge=0, le=10**9)] = None,
        act: str = "replay",
    ) -> Response:
        return window.show(request, analysis_date, follow, act)

    @router.get("/nights/{analysis_date}/features")
    def features(analysis_date: DayInPath) -> Response:
        return window.features(analysis_date)

    for act in REQUESTS:
        path = f"/nights/{{analysis_date}}/{act}"
        operator = [window.guard.at_least(Role.OPERATOR)]
        router.add_api_route(path, _acting(window, act), methods=["POST"], dependencies=operator)
        router.add_api_route(path, _back_to_night, methods=["GET"])
    return router


def _acting(window: PageContext, act: str) -> Callable[..., Response]:
    def intervene(
        request: Request, analysis_date: DayInPath, fields: Annotated[dict[str, str], Depends(_fields)]
    ) -> Response:
        return window.intervene(request, analysis_date, act, fields)

    return intervene


def _back_to_night(analysis_date: DayInPath) -> Response:
    """Lead a person who opens the address of a form to the page of the date."""
    return RedirectResponse(f"/nights/{analysis_date}", 303)


async def _fields(request: Request) -> dict[str, str]:
    try:
        return dict(parse_qsl((await request.body()).decode(), max_num_fields=_FIELDS_MAX, errors="strict"))
    except ValueError as exc:
        day, act = request.url.path.split("/")[-2:]
        detail = f"{day}: the {act} form is not valid UTF-8 or has more than {_FIELDS_MAX} fields"
        raise HTTPException(400, detail) from exc


def read_form(
    act: str, fields: Mapping[str, str]
) -> tuple[ReplayRequest | CancelRequest | RetractRequest, FormControls]:
    """Return the request of a form and the other fields of the form. Browsers send a box only if the box is ticked.

    Raises:
        RequestValidationError: A field is missing or wrong.
    """
    wanted = REQUESTS[act]
    values = {name: fields[name] for name in ("reason", "processor", "run_id") if fields.get(name)}
    ticked = {name: True for name in ("force_phase3_fallback", "force", "rebuild") if name in fields}
    controls = {name: fields[name] for name in ("name", "key") if name in fields}
    try:
        known = {name: value for name, value in {**values, **ticked}.items() if name in wanted.model_fields}
        return wanted(**known), FormControls(**controls, confirmed="confirmed" in fields)
    except ValidationError as exc:
        raise RequestValidationError([{**fault, "loc": ("form", *fault["loc"])} for fault in exc.errors()]) from exc


def _route_class(window: PageContext) -> type[APIRoute]:
    """Return the class of the page routes: a route of this class answers a problem with a page."""
    guarded = window.guard.route_class()

    class PageRoute(guarded):  # type: ignore[misc, valid-type] # made by a function
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def shown(request: Request) -> Response:
                try:
                    response: Response = await handle(request)
                except _TOLD as exc:
                    return window.problem(request, exc)
                return response

            return shown

    return PageRoute
