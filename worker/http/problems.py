"""Errors as RFC 9457 problem details: each problem names the analysis date and the next step."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from schemas.fault_words import in_plain_words
from worker.errors import (
    Conflict,
    CorruptRecord,
    Forbidden,
    PipelineError,
    Refused,
    TwoDates,
    Unauthenticated,
    Unavailable,
    masked,
)
from worker.http.models import RELATIVE_PATTERN
from worker.interventions.audit import SEEN_PATTERN
from worker.interventions.idempotency import KEY_PATTERN, KeyInUse

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = "5"
ERRORS_SHOWN_MAX = 10

_PATTERNS: Mapping[str, str] = {
    RELATIVE_PATTERN: "must be today, tonight or yesterday",
    SEEN_PATTERN: "must be more than white space",
    KEY_PATTERN: "must be 1 to 200 visible ASCII characters without a space",
}
_TITLES = {
    400: "The request cannot be read",
    401: "No valid token",
    403: "Not allowed",
    404: "Not here",
    405: "Not with this method",
    408: "Too slow",
    409: "Not in this state",
    413: "Too large",
    422: "Wrong input",
    500: "A fault of the worker",
    503: "A dependency does not answer",
}


class Problem(BaseModel):
    """Problem, RFC 9457. `type` is stable; `detail` is for people. A failed analysis date adds the summary's fields."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:mlfs:problem:refused",
                    "title": "Not in this state",
                    "status": 409,
                    "detail": "2024-12-15: a build is running; wait for it, or take over with force",
                    "analysis_date": "2024-12-15",
                    "next": "GET /dates/2024-12-15 shows the state and the next step",
                }
            ]
        },
    )

    type: str = Field(pattern=r"^urn:mlfs:problem:[a-z-]+$")
    title: str
    status: int
    detail: str
    next: str = Field(description="Next step of the caller.")
    analysis_date: str | None = Field(
        default=None, description="The analysis date, if the request has an analysis date."
    )


def responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries for the problems of an operation."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {code: {"description": _TITLES[code], "content": content} for code in codes}


def problem(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    next_step: str,
    *,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """Return the problem; the analysis date comes from `request.state.analysis_date`, otherwise from the path."""
    day = getattr(request.state, "analysis_date", None) or request.path_params.get("analysis_date")
    body = {
        **(more or {}),
        "type": f"urn:mlfs:problem:{kind}",
        "title": _TITLES.get(status, "Refused"),
        "status": status,
        "detail": masked(detail),
        "next": next_step,
        "analysis_date": None if day is None else str(day)[:40],
    }
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def bad_head(status: int, detail: str) -> bytes:
    """Return the body of the answer to bytes without a valid request head; no route sees such bytes."""
    return (
        Problem(
            type="urn:mlfs:problem:bad-request",
            title=_TITLES[status],
            status=status,
            detail=detail,
            next="send a whole HTTP/1.1 request; the paths are in /openapi.json",
        )
        .model_dump_json()
        .encode()
    )


def install(app: FastAPI) -> None:
    """Install the handlers: every error of *app* becomes a problem."""
    for error, handler in _ANSWERS.items():
        app.add_exception_handler(error, handler)


def answer(request: Request, exc: Exception) -> JSONResponse:
    """Return the problem of an error, for a route with a separate form of problems."""
    kind = next(kind for kind in type(exc).__mro__ if kind in _ANSWERS)
    return _ANSWERS[kind](request, exc)


def _unauthenticated(request: Request, exc: Exception) -> JSONResponse:
    step = "take a Google identity token for the audience of this service and send the token as bearer token"
    return problem(request, 401, "unauthenticated", str(exc), step, headers={"WWW-Authenticate": 'Bearer realm="mlfs"'})


def _forbidden(request: Request, exc: Exception) -> JSONResponse:
    step = "ask an operator of the service for the role; the settings MLFS_VIEWERS, _OPERATORS, _ADMINS hold the roles"
    return problem(request, 403, "forbidden", str(exc), step)


def _refused(request: Request, exc: Exception) -> JSONResponse:
    if isinstance(exc, KeyInUse) and exc.pending:
        headers = {"Retry-After": RETRY_AFTER_S}
        return problem(request, 409, "request-pending", str(exc), "ask again with the same key", headers=headers)
    if isinstance(exc, KeyInUse):
        return problem(request, 409, "key-reused", str(exc), "take a new Idempotency-Key")
    return problem(request, 409, "refused", str(exc), _look(request))


def _two_dates(request: Request, exc: Exception) -> JSONResponse:
    dates = " or ".join(str(day) for day in exc.dates) if isinstance(exc, TwoDates) else "the date"
    return problem(request, 422, "two-dates", str(exc), f"send the request again with {dates} in the path")


def _conflict(request: Request, exc: Exception) -> JSONResponse:
    return problem(request, 409, "conflict", str(exc), "send the request again", headers={"Retry-After": RETRY_AFTER_S})


def _unavailable(request: Request, exc: Exception) -> JSONResponse:
    step = "send the request again; no data was lost. GET /readyz names the dependency that is down"
    return problem(request, 503, "unavailable", str(exc), step, headers={"Retry-After": RETRY_AFTER_S})


def _corrupt(request: Request, exc: Exception) -> JSONResponse:
    step = (
        "at the next sweep a worker sets the record aside and opens the date again; send the request again in a minute"
    )
    return problem(request, 500, "corrupt-record", str(exc), step)


def _fault(request: Request, exc: Exception) -> JSONResponse:
    detail = str(exc) if isinstance(exc, PipelineError) else f"an unexpected {type(exc).__name__}; see the worker's log"
    return problem(request, 500, "fault", detail, "report the fault with the time of this request")


def _http(request: Request, exc: Exception) -> JSONResponse:
    if not isinstance(exc, HTTPException):
        raise exc
    kinds = {404: "not-found", 405: "method-not-allowed", 408: "too-slow", 413: "too-large"}
    steps = {404: "GET /dates lists the dates; the paths are in /openapi.json", 413: "send less", 408: "send it again"}
    kind, step = kinds.get(exc.status_code, "bad-request"), steps.get(exc.status_code, "the paths are in /openapi.json")
    return problem(request, exc.status_code, kind, str(exc.detail), step, headers=exc.headers)


def _invalid(request: Request, exc: Exception) -> JSONResponse:
    if not isinstance(exc, RequestValidationError):
        raise exc
    faults = in_plain_words(exc.errors(), _PATTERNS)[:ERRORS_SHOWN_MAX]
    detail = "; ".join(f"{fault['where']}: {fault['what']}" for fault in faults)
    return problem(
        request, 422, "invalid", detail, "correct the named fields and send the request again", more={"errors": faults}
    )


def _look(request: Request) -> str:
    day = getattr(request.state, "analysis_date", None) or request.path_params.get("analysis_date", "DATE")
    return f"GET /dates/{day} shows the state and the next step"


_ANSWERS: Mapping[type[Exception], Callable[[Request, Exception], JSONResponse]] = {
    Unauthenticated: _unauthenticated,
    Forbidden: _forbidden,
    TwoDates: _two_dates,
    Refused: _refused,
    Conflict: _conflict,
    Unavailable: _unavailable,
    CorruptRecord: _corrupt,
    PipelineError: _fault,
    HTTPException: _http,
    RequestValidationError: _invalid,
    Exception: _fault,
}
