"""The status page: tonight at a glance, each date in full, and a form to have a date built again."""

import json
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from statemachine.model import DateRecord
from worker.access import Role
from worker.calendar import with_weekday
from worker.errors import CorruptRecord, PipelineError
from worker.http import problems
from worker.http.actions import ActionContext, replay_event
from worker.http.guard import RouteGuard, caller_of
from worker.http.models import DayInPath, ReplayForm
from worker.http.page_model import Chip, DatePage, chip_of, damaged_night, night_of, night_to_show
from worker.http.reading import DateReader
from worker.http.rendering import Moments, Pages
from worker.interventions.audit import REASON_CHARS_MAX
from worker.observing.outbox import untold_by_date

DATES_IN_STRIP = 14
_FIELDS_MAX = 10
_TOLD = (PipelineError, HTTPException, RequestValidationError)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """What the pages work with.

    Attributes:
        shelf: What they read.
        desk: What their form asks.
        gate: Who may see them.
        pages: The templates.
    """

    shelf: DateReader
    desk: ActionContext
    gate: RouteGuard
    pages: Pages

    def moments(self) -> Moments:
        """Tell times as they are now."""
        return Moments(self.shelf.clock.now(), self.shelf.zone)

    def strip(self) -> list[Chip]:
        """Give the latest dates, oldest first."""
        days = self.shelf.store.dates(DATES_IN_STRIP)
        records = self.shelf.store.load_all(days)
        known = (chip_of(day, records.get(day)) for day in days if records.get(day) is not None or day not in records)
        return list(known)[::-1]

    def night(self, day: date, moments: Moments) -> DatePage:
        """Describe a date.

        Raises:
            HTTPException: 404, it was never opened.
        """
        store, history = self.shelf.store, self.shelf.store.history(day)
        try:
            record: DateRecord | None = store.load(day)
        except CorruptRecord as exc:
            return damaged_night(day, str(exc), history)
        if record is None:
            raise HTTPException(404, f"{with_weekday(day)} was never opened")
        untold = untold_by_date(store).get(day)
        return night_of(record, history, moments.now, self.shelf.policy, self.shelf.zone, untold)

    def problem(self, request: Request, exc: Exception) -> Response:
        """Make the page of a problem; it says what the API says."""
        answer = problems.answer(request, exc)
        told = json.loads(bytes(answer.body))
        page = self.pages.render("problem.html", self.moments(), status=answer.status_code, problem=told)
        page.headers.update(
            {name: answer.headers[name] for name in ("retry-after", "www-authenticate") if name in answer.headers}
        )
        return page


def page_routes(window: PageContext) -> APIRouter:
    """Make the routes of the pages."""
    router = APIRouter(
        include_in_schema=False,
        route_class=_route_class(window),
        dependencies=[window.gate.at_least(Role.VIEWER)],
        default_response_class=HTMLResponse,
    )

    @router.get("/")
    def start(request: Request) -> Response:
        moments, strip = window.moments(), window.strip()
        known = [chip.day for chip in reversed(strip)]
        day = night_to_show(window.desk.calendar.tonight(moments.now), known)
        if day is None:
            return window.pages.render("empty.html", moments)
        return _night_page(window, request, window.night(day, moments), strip, moments)

    @router.get("/nights/{analysis_date}")
    def one_night(request: Request, analysis_date: DayInPath) -> Response:
        moments = window.moments()
        night = window.night(analysis_date, moments)
        return _night_page(window, request, night, window.strip(), moments)

    @router.post("/nights/{analysis_date}/replay", dependencies=[window.gate.at_least(Role.OPERATOR)])
    def replay(request: Request, analysis_date: DayInPath, form: Annotated[ReplayForm, Depends(_form)]) -> Response:
        if form.force:
            window.gate.require(request, Role.ADMIN)
        day, caller, wish = window.desk.day_to_change(request, analysis_date), caller_of(request).name, form.wish()
        facts: dict[str, Any] = {"day": day, "form": form, "caller": caller}
        if not form.confirmed:
            planned = window.desk.interventions.plan(day, replay_event(caller, wish, request_id="")).record
            return window.pages.render("confirm.html", window.moments(), **facts, planned=planned)
        answer = window.desk.replay(day, caller, wish, form.key)
        return window.pages.render("accepted.html", window.moments(), status=answer.status, **facts, answer=answer.body)

    return router


def _night_page(
    window: PageContext, request: Request, night: DatePage, strip: list[Chip], moments: Moments
) -> HTMLResponse:
    return window.pages.render(
        "night.html",
        moments,
        night=night,
        strip=strip,
        title="Tonight" if night.day == window.desk.calendar.tonight(moments.now) else "Night",
        role=caller_of(request).role,
        roles=Role,
        key=uuid.uuid4().hex,
        reason_chars_max=REASON_CHARS_MAX,
    )


async def _form(request: Request) -> ReplayForm:
    """Read the form; a box that is not ticked is not sent."""
    try:
        fields = dict(parse_qsl((await request.body()).decode(), max_num_fields=_FIELDS_MAX, errors="strict"))
        ticked = {name: name in fields for name in ("force_phase3_fallback", "force", "confirmed")}
        return ReplayForm(reason=fields.get("reason", ""), key=fields.get("key", ""), **ticked)
    except ValidationError as exc:
        raise RequestValidationError([{**fault, "loc": ("form", *fault["loc"])} for fault in exc.errors()]) from exc
    except ValueError as exc:
        raise HTTPException(400, "this is no form") from exc


def _route_class(window: PageContext) -> type[APIRoute]:
    """Give the class of the pages' routes: a problem is a page too."""
    gated = window.gate.route_class()

    class PageRoute(gated):  # type: ignore[misc, valid-type] # made by a function
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
