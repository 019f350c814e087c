"""What Phase 5 uses: is a night ready to predict from, and its features.

    if validate_ml_feature_store_ready("2024-12-15"):
        players = load_features_for_prediction("2024-12-15")

Both read the published table alone and need no worker, Redis or Pub/Sub. With `generation=` or `published_by=` they
read what was published before, as long as its rows are kept. The warehouse is the one that MLFS_WAREHOUSE names,
another by its URL, or one that is open already. Both work beside a running worker: a call opens a DuckDB file for as
long as the call takes. While another process has the file open, the call waits, MLFS_DUCKDB_WAIT_S (30 s) at most, and
then raises `Unavailable`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

import structlog

from worker.builds.generations import find_generation
from worker.errors import PipelineError, Refused, SchemaDrift
from worker.features.generations import PUBLISHED_NOW, Wanted, read_instant
from worker.features.model import Statement
from worker.pipelines.shipped import OUTPUT_COLUMNS, PUBLISHED_TABLE, SHIPPED

if TYPE_CHECKING:
    from worker.ports import Warehouse

log = structlog.get_logger(__name__)

ROWS_MIN = 200
QUALITY_SCORE_MIN = 75.0
"""Phase 5's own thresholds; the gate of the build holds the same numbers, so what is published passes them.

Source: the pipeline document, "Phase 5 Dependencies".
"""

Row = dict[str, Any]


class FeatureStoreNotReady(PipelineError, ValueError):
    """Nothing to predict from for this date. The message names the date and the next step.

    A `ValueError` too, because that is what Phase 5 has always caught here.

    Attributes:
        analysis_date: The night.
    """

    def __init__(self, analysis_date: date, why: str) -> None:
        day = analysis_date.isoformat()
        super().__init__(f"{day} is not ready for predictions: {why}; see how it stands: mlfs explain {day}")
        self.analysis_date = analysis_date


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What Phase 5 finds for a date.

    Attributes:
        analysis_date: The night.
        row_count: Rows published for it.
        average_quality_score: Mean of their scores, 0 to 100; None without rows.
        fallback_rows: Rows with a value that is not from Phase 4 of the date.
        yesterday_rows: Rows that were copied from a night before, as the last resort.
        generation: The generation published; None without rows.
    """

    analysis_date: date
    row_count: int
    average_quality_score: float | None
    fallback_rows: int
    yesterday_rows: int
    generation: int | None

    @property
    def fault(self) -> str | None:
        """Why Phase 5 may not predict; None where it may."""
        if self.row_count == 0 or self.average_quality_score is None:
            return "no rows are published"
        if self.row_count < ROWS_MIN:
            return f"{self.row_count} rows are published, {ROWS_MIN} needed"
        if self.average_quality_score < QUALITY_SCORE_MIN:
            return f"average quality score {self.average_quality_score:.1f}, {QUALITY_SCORE_MIN:g} needed"
        return None


def validate_ml_feature_store_ready(
    prediction_date: date | str,
    *,
    warehouse: "Warehouse | str | None" = None,
    generation: int | None = None,
    published_by: datetime | str | None = None,
) -> bool:
    """Tell whether Phase 5 may predict: at least 200 rows, with an average quality score of at least 75.

    Args:
        prediction_date: The analysis date, a `date` or `YYYY-MM-DD`.
        warehouse: An open warehouse, the URL of one, or None for the one that MLFS_WAREHOUSE names.
        generation: Judge this published generation; the one that is published by default.
        published_by: Judge the newest generation published at this instant: with its zone, or a text in ISO 8601.

    Raises:
        Refused: *prediction_date* is no date, *published_by* is no instant with a zone, or there is no such warehouse
            file.
        Unavailable: The warehouse does not answer; try again.
    """
    try:
        readiness = read_readiness(
            prediction_date, warehouse=warehouse, generation=generation, published_by=published_by
        )
    except FeatureStoreNotReady as exc:
        log.warning("features_not_ready", detail=str(exc))
        return False
    day = readiness.analysis_date.isoformat()
    if readiness.fault is not None:
        log.warning("features_not_ready", detail=str(FeatureStoreNotReady(readiness.analysis_date, readiness.fault)))
        return False
    log.info(
        "features_ready",
        analysis_date=day,
        row_count=readiness.row_count,
        average_quality_score=readiness.average_quality_score,
        yesterday_rows=readiness.yesterday_rows,
    )
    return True


def read_readiness(
    prediction_date: date | str,
    *,
    warehouse: "Warehouse | str | None" = None,
    generation: int | None = None,
    published_by: datetime | str | None = None,
) -> Readiness:
    """Return the numbers behind `validate_ml_feature_store_ready`; `fault` says what is wrong.

    Raises:
        FeatureStoreNotReady: The warehouse has no feature table at all, or not the generation that is asked for.
        Refused: *prediction_date* is no date, *published_by* is no instant with a zone, or there is no such warehouse
            file.
        Unavailable: The warehouse does not answer; try again.
    """
    night = _read_date(prediction_date)
    [row] = _select(warehouse, night, "phase5_ready", _wanted(generation, published_by))
    return Readiness(analysis_date=night, **row)


@overload
def load_features_for_prediction(
    prediction_date: date | str,
    *,
    warehouse: "Warehouse | str | None" = None,
    quality_score_min: float = QUALITY_SCORE_MIN,
    frame: Literal["rows"] = "rows",
    generation: int | None = None,
    published_by: datetime | str | None = None,
) -> list[Row]: ...


@overload
def load_features_for_prediction(
    prediction_date: date | str,
    *,
    warehouse: "Warehouse | str | None" = None,
    quality_score_min: float = QUALITY_SCORE_MIN,
    frame: Literal["pandas", "polars"],
    generation: int | None = None,
    published_by: datetime | str | None = None,
) -> Any: ...  # noqa: ANN401 - a DataFrame of a library that need not be installed


def load_features_for_prediction(
    prediction_date: date | str,
    *,
    warehouse: "Warehouse | str | None" = None,
    quality_score_min: float = QUALITY_SCORE_MIN,
    frame: Literal["rows", "pandas", "polars"] = "rows",
    generation: int | None = None,
    published_by: datetime | str | None = None,
) -> Any:
    """Load the features of a date, one row per player, by player_id, every published column.

    Args:
        prediction_date: The analysis date, a `date` or `YYYY-MM-DD`.
        warehouse: An open warehouse, the URL of one, or None for the one that MLFS_WAREHOUSE names.
        quality_score_min: Rows worth less are left out, 0 to 100.
        frame: `rows` for a list of dictionaries, or a DataFrame of `pandas` or `polars`; these need the extra of
            that name: in a checkout of the product, `pip install '.[pandas]'`.
        generation: Load this published generation; the one that is published by default.
        published_by: Load the newest generation published at this instant: with its zone, or a text in ISO 8601.

    Raises:
        FeatureStoreNotReady: There is no such row, or the generation that is asked for was never published or its rows
            are gone.
        Refused: *prediction_date* is no date, *published_by* is no instant with a zone, there is no such warehouse
            file, or the library of the frame is not installed.
        Unavailable: The warehouse does not answer; try again.
    """
    as_frame = _frame_maker(frame)
    night = _read_date(prediction_date)
    wanted = _wanted(generation, published_by)
    rows = _select(warehouse, night, "phase5_features", wanted, quality_score_min=float(quality_score_min))
    if not rows:
        raise FeatureStoreNotReady(night, f"no published row has a quality score of {quality_score_min:g} or more")
    log.info("features_loaded", analysis_date=night.isoformat(), row_count=len(rows))
    return as_frame([{column.name: row[column.name] for column in OUTPUT_COLUMNS} for row in rows])


def _read_date(value: date | str) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError as exc:
        raise Refused(f"{value!r} is no analysis date; give a date or a text like 2024-12-15") from exc


def _frame_maker(frame: str) -> Any:  # noqa: ANN401 - list, or a constructor of a library that need not be installed
    """Give what makes the answer, before anything is read: a missing library should not cost a query."""
    if frame == "rows":
        return list
    if frame not in {"pandas", "polars"}:
        raise Refused(f"{frame!r} is no kind of frame; one of rows, pandas, polars")
    try:
        library = import_module(frame)
    except ImportError as exc:
        raise Refused(f"{frame} is not installed; in a checkout of the product: pip install '.[{frame}]'") from exc
    return library.DataFrame


def _wanted(generation: int | None, published_by: datetime | str | None) -> Wanted:
    if isinstance(published_by, datetime):
        published_by = published_by.isoformat()
    instant = None if published_by is None else read_instant(published_by)
    return Wanted(generation=generation, published_by=instant)


def _select(
    warehouse: "Warehouse | str | None", night: date, name: str, wanted: Wanted, **parameters: object
) -> Sequence[Any]:
    with _opened(warehouse) as source:
        try:
            return _read(source, night, name, wanted, parameters)
        except SchemaDrift as exc:
            raise FeatureStoreNotReady(
                night, f"{PUBLISHED_TABLE} cannot be read in this warehouse (MLFS_WAREHOUSE names it): {exc}"
            ) from exc


def _read(
    source: "Warehouse", night: date, name: str, wanted: Wanted, parameters: Mapping[str, object]
) -> Sequence[Any]:
    """Run one statement over the published rows, or over those of the generation that is wanted."""
    values = {"analysis_date": night, **parameters}
    if wanted == PUBLISHED_NOW:
        return source.query(Statement(name=name, sql=SHIPPED.text(name), parameters=values))
    try:
        build_id = find_generation(source, night, wanted).build_id
        sql = SHIPPED.text(name, rows_of="published_rows")
        rows = source.query(Statement(name=name, sql=sql, parameters={**values, "build_id": build_id}))
        # A vacuum may have deleted the rows meanwhile; a generation that is not there is never an empty one.
        find_generation(source, night, wanted)
    except Refused as exc:
        raise FeatureStoreNotReady(night, str(exc).removeprefix(f"{night}: ")) from exc
    return rows


@contextmanager
def _opened(warehouse: "Warehouse | str | None") -> Iterator["Warehouse"]:
    """Use a warehouse that is open already, or open one for the moment; no table is made in it."""
    if warehouse is not None and not isinstance(warehouse, str):
        yield warehouse
        return
    # The clients of a warehouse take most of a second to import, and who brings an open one needs none of it.
    from worker.resources import open_warehouse
    from worker.settings import load

    opened = open_warehouse(load() if warehouse is None else load(warehouse=warehouse))
    try:
        yield opened
    finally:
        opened.close()
