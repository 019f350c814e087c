"""Routes for reading analysis dates: list, explanation, history, comparison of generations."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query
from starlette.exceptions import HTTPException

from statemachine.model import DateRecord, Policy
from worker.access import Role
from worker.calendar import with_weekday
from worker.date_text import explanation, standing
from worker.errors import CorruptRecord
from worker.features.diff import GenerationDiff, describe
from worker.http.guard import BEARER, RouteGuard
from worker.http.models import DamagedDate, DateDiff, DateRow, DateStory, DayInPath, HistoryItem
from worker.http.problems import responses
from worker.observing.outbox import Untold, untold_by_date
from worker.ports import Clock, HistoryEntry, StateStore

DATES_LISTED_MAX = 31
PAIR_PATTERN = "^[1-9][0-9]{0,9},[1-9][0-9]{0,9}$"
Pair = Annotated[str | None, Query(pattern=PAIR_PATTERN, description="Two published generations.", examples=["1,3"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class DateReader:
    """Sources of the read routes.

    Attributes:
        store: Store of the records.
        clock: The shell's clock.
        policy: Rules of the pipeline, for the explanation of an analysis date.
        zone: Zone of the times shown to people.
        compare: Compares two published generations of an analysis date.
    """

    store: StateStore
    clock: Clock
    policy: Policy
    zone: ZoneInfo
    compare: Callable[[date, tuple[int, int] | None], GenerationDiff]


def date_routes(shelf: DateReader, gate: RouteGuard) -> APIRouter:
    """Return the read routes."""
    router = APIRouter(
        tags=["dates"],
        route_class=gate.route_class(),
        dependencies=[Depends(BEARER), gate.at_least(Role.VIEWER)],
        responses=responses(400, 401, 403, 500, 503),
    )

    @router.get("/dates")
    def dates() -> list[DateRow | DamagedDate]:
        """Return the latest analysis dates, newest first."""
        untold = untold_by_date(shelf.store)
        shown = (_row(shelf.store, day, untold.get(day)) for day in shelf.store.dates(DATES_LISTED_MAX))
        return [row for row in shown if row is not None]

    @router.get("/dates/{analysis_date}", responses=responses(404, 422))
    def one_date(analysis_date: DayInPath) -> DateStory:
        """Explain an analysis date."""
        record = _opened(shelf.store, analysis_date)
        untold = untold_by_date(shelf.store).get(analysis_date)
        story = explanation(record, shelf.clock.now(), shelf.policy, shelf.zone, untold)
        return DateStory(**story, history=_history(shelf.store, analysis_date))

    @router.get("/dates/{analysis_date}/history", responses=responses(404, 422))
    def history(analysis_date: DayInPath) -> list[HistoryItem]:
        """Return every stored change of an analysis date, oldest first."""
        _opened(shelf.store, analysis_date)
        return _history(shelf.store, analysis_date)

    @router.get("/dates/{analysis_date}/diff", responses=responses(404, 409, 422))
    def diff(analysis_date: DayInPath, generations: Pair = None) -> DateDiff:
        """Compare two published generations; by default the current publication with the previous publication."""
        before, _, after = (generations or "").partition(",")
        pair = (int(before), int(after)) if generations else None
        return DateDiff(**describe(shelf.compare(analysis_date, pair)))

    return router


def _row(store: StateStore, day: date, untold: Untold | None) -> DateRow | DamagedDate | None:
    """Return the figures of an analysis date; an unreadable record does not hide the other dates."""
    try:
        record = store.load(day)
    except CorruptRecord as exc:
        return DamagedDate(analysis_date=day.isoformat(), state="corrupt", error=str(exc))
    return DateRow(**standing(record, untold)) if record is not None else None


def _opened(store: StateStore, day: date) -> DateRecord:
    record = store.load(day)
    if record is None:
        raise HTTPException(404, f"{with_weekday(day)} was never opened")
    return record


def _history(store: StateStore, day: date) -> list[HistoryItem]:
    return [HistoryItem(**_item(entry)) for entry in store.history(day)]


def _item(entry: HistoryEntry) -> dict[str, Any]:
    return {**asdict(entry), "at": entry.at.isoformat()}
