"""Routes for reading analysis dates: list, explanation, history, findings, outlook, distributions, comparison."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query
from starlette.exceptions import HTTPException

from statemachine.model import DateRecord, Policy
from worker.access import Role
from worker.builds.generations import describe_distributions
from worker.calendar import with_weekday
from worker.date_text import explanation, standing, summary
from worker.errors import CorruptRecord
from worker.features.diff import GenerationDiff, describe
from worker.features.distributions import Distributions
from worker.foresight.outlook_text import DateOutlook
from worker.foresight.reading import OutlookReader
from worker.http.guard import BEARER, RouteGuard
from worker.http.models import (
    DamagedDate,
    DateDiff,
    DateFindings,
    DateProfile,
    DateRow,
    DateStory,
    DayInPath,
    HistoryItem,
)
from worker.http.problems import responses
from worker.observing.outbox import Untold, untold_by_date
from worker.ports import Clock, StateStore

DATES_LISTED_MAX = 31
PAIR_PATTERN = "^[1-9][0-9]{0,9},[1-9][0-9]{0,9}$"
FeatureName = Annotated[str, Query(max_length=100, description="A single feature, with the statistics of each night.")]
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
        distributions: Reads the distributions of the features of a published analysis date from the warehouse.
        outlook: Reads the outlook of an open analysis date from the warehouse.
    """

    store: StateStore
    clock: Clock
    policy: Policy
    zone: ZoneInfo
    compare: Callable[[date, tuple[int, int] | None], GenerationDiff]
    distributions: Callable[[date], Distributions]
    outlook: OutlookReader


def date_routes(reader: DateReader, guard: RouteGuard) -> APIRouter:
    """Return the read routes."""
    router = APIRouter(
        tags=["dates"],
        route_class=guard.route_class(),
        dependencies=[Depends(BEARER), guard.at_least(Role.VIEWER)],
        responses=responses(400, 401, 403, 500, 503),
    )

    @router.get("/dates", response_model=list[DateRow | DamagedDate])
    def dates() -> list[dict[str, Any]]:
        """Return the latest analysis dates, newest first."""
        untold = untold_by_date(reader.store)
        shown = (_row(reader.store, day, untold.get(day)) for day in reader.store.dates(DATES_LISTED_MAX))
        return [row for row in shown if row is not None]

    @router.get("/dates/{analysis_date}", response_model=DateStory, responses=responses(404, 422))
    def one_date(analysis_date: DayInPath) -> dict[str, Any]:
        """Explain an analysis date."""
        record = _load_or_404(reader.store, analysis_date)
        untold = untold_by_date(reader.store).get(analysis_date)
        story = explanation(record, reader.clock.now(), reader.policy, reader.zone, untold)
        return {**story, "history": _history(reader.store, analysis_date)}

    @router.get("/dates/{analysis_date}/history", response_model=list[HistoryItem], responses=responses(404, 422))
    def history(analysis_date: DayInPath) -> list[dict[str, Any]]:
        """Return every stored change of an analysis date, oldest first."""
        _load_or_404(reader.store, analysis_date)
        return _history(reader.store, analysis_date)

    @router.get("/dates/{analysis_date}/findings", responses=responses(404, 422))
    def findings(analysis_date: DayInPath) -> DateFindings:
        """Return the reasons why the published rows of an analysis date may be wrong."""
        figures = summary(_load_or_404(reader.store, analysis_date))
        return DateFindings(**{name: figures[name] for name in DateFindings.model_fields})

    _add_warehouse_routes(router, reader)
    return router


def _add_warehouse_routes(router: APIRouter, reader: DateReader) -> None:
    """Add the routes that read the warehouse."""

    @router.get("/dates/{analysis_date}/outlook", responses=responses(404, 422))
    def outlook(analysis_date: DayInPath) -> DateOutlook:
        """Return when each missing processor comes by the nights before, and the score now and with each table."""
        record = reader.store.load(analysis_date)
        if record is None:
            raise HTTPException(404, reader.outlook.unopened(analysis_date))
        return reader.outlook.read(record)

    @router.get("/dates/{analysis_date}/profile", responses=responses(404, 409, 422))
    def profile(analysis_date: DayInPath, feature: FeatureName = "") -> DateProfile:
        """Return the distribution of each feature of the published rows beside the nights before."""
        found = reader.distributions(analysis_date)
        return DateProfile(**describe_distributions(found, feature))

    @router.get("/dates/{analysis_date}/diff", responses=responses(404, 409, 422))
    def diff(analysis_date: DayInPath, generations: Pair = None) -> DateDiff:
        """Compare two published generations; by default the current publication with the previous publication."""
        before, _, after = (generations or "").partition(",")
        pair = (int(before), int(after)) if generations else None
        return DateDiff(**describe(reader.compare(analysis_date, pair)))


def _row(store: StateStore, day: date, untold: Untold | None) -> dict[str, Any] | None:
    """Return the figures of an analysis date; an unreadable record does not hide the other dates."""
    try:
        record = store.load(day)
    except CorruptRecord as exc:
        return {"analysis_date": day.isoformat(), "state": "corrupt", "error": str(exc)}
    return standing(record, untold) if record is not None else None


def _load_or_404(store: StateStore, day: date) -> DateRecord:
    record = store.load(day)
    if record is None:
        raise HTTPException(404, f"{with_weekday(day)} was never opened")
    return record


def _history(store: StateStore, day: date) -> list[dict[str, Any]]:
    return [asdict(entry) for entry in store.history(day)]
