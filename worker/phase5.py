"""Interface of Phase 5: whether an analysis date is ready for predictions, and the features of the analysis date.

    if validate_ml_feature_store_ready("2024-12-15"):
        players = load_features_for_prediction("2024-12-15")

Both functions read only the published table and need no worker, Redis or Pub/Sub. With `generation=` or
`published_by=` both functions read an earlier publication, until a vacuum deletes the rows. The warehouse is
MLFS_WAREHOUSE, another URL, or an open warehouse. Both functions work beside a running worker: a call opens a DuckDB
file only for the duration of the call. While another process has the file open, the call waits at most
MLFS_DUCKDB_WAIT_S (30 s), then raises `Unavailable`. A crash leaves no trace: both functions write no data.
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
"""Thresholds of Phase 5. The quality gate of a build has the same numbers, so a published build passes.

Source: the pipeline document, "Phase 5 Dependencies".
"""

Row = dict[str, Any]


class FeatureStoreNotReady(PipelineError, ValueError):
    """Phase 5 cannot predict from this analysis date. The message names the analysis date and the next step.

    Also a `ValueError`, because existing code of Phase 5 catches `ValueError`.

    Attributes:
        analysis_date: The analysis date.
    """

    def __init__(self, analysis_date: date, why: str) -> None:
        day = analysis_date.isoformat()
        super().__init__(f"{day} is not ready for predictions: {why}; see how it stands: mlfs explain {day}")
        self.analysis_date = analysis_date


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Figures of an analysis date for Phase 5.

    Attributes:
        analysis_date: The analysis date.
        row_count: Number of published rows.
        average_quality_score: Mean score of the rows, 0 to 100; None without rows.
        fallback_rows: Rows with a value from another source than Phase 4 of the analysis date.
        yesterday_rows: Rows copied from an earlier analysis date, as the last resort.
        generation: The published generation; None without rows.
    """

    analysis_date: date
    row_count: int
    average_quality_score: float | None
    fallback_rows: int
    yesterday_rows: int
    generation: int | None

    @property
    def fault(self) -> str | None:
        """The reason why Phase 5 may not predict; None if Phase 5 may predict."""
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
    """Check whether Phase 5 may predict: at least 200 rows, with an average quality score of at least 75.

    Args:
        prediction_date: The analysis date, a `date` or `YYYY-MM-DD`.
        warehouse: An open warehouse, a URL, or None for the URL in MLFS_WAREHOUSE.
        generation: Published generation to check; by default the current publication.
        published_by: Check the newest generation published at this instant: aware, or a text in ISO 8601.

    Raises:
        Refused: *prediction_date* is no date, *published_by* is no instant with a zone, or the warehouse file does not
            exist.
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
    """Return the figures checked by `validate_ml_feature_store_ready`; `fault` names the failed threshold.

    Raises:
        FeatureStoreNotReady: The warehouse has no feature table, or lacks the requested generation.
        Refused: *prediction_date* is no date, *published_by* is no instant with a zone, or the warehouse file does not
            exist.
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
    """Load the features of an analysis date: a row per player, ordered by player_id, with all published columns.

    Args:
        prediction_date: The analysis date, a `date` or `YYYY-MM-DD`.
        warehouse: An open warehouse, a URL, or None for the URL in MLFS_WAREHOUSE.
        quality_score_min: Leave out rows with a lower quality score, 0 to 100.
        frame: `rows` for a list of dictionaries, or a DataFrame of `pandas` or `polars`; a DataFrame needs the extra
            of the same name: in a checkout of the product, `pip install '.[pandas]'`.
        generation: Published generation to load; by default the current publication.
        published_by: Load the newest generation published at this instant: aware, or a text in ISO 8601.

    Raises:
        FeatureStoreNotReady: No row has the quality score, the requested generation was never published, or the rows
            of the generation were deleted.
        Refused: *prediction_date* is no date, *published_by* is no instant with a zone, the warehouse file does not
            exist, or the library of the frame is not installed.
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
    """Return the constructor of the frame. Called before the query, so that a missing library costs no query."""
    if frame == "rows":
        return list
    if frame not in {"pandas", "polars"}:
        raise Refused(f"{frame!r} is no kind of frame; choose rows, pandas or polars")
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
    with _open_warehouse(warehouse) as source:
        try:
            return _read(source, night, name, wanted, parameters)
        except SchemaDrift as exc:
            raise FeatureStoreNotReady(
                night, f"{PUBLISHED_TABLE} cannot be read in this warehouse (MLFS_WAREHOUSE names it): {exc}"
            ) from exc


def _read(
    source: "Warehouse", night: date, name: str, wanted: Wanted, parameters: Mapping[str, object]
) -> Sequence[Any]:
    """Run a statement over the published rows, or over the rows of the wanted generation."""
    values = {"analysis_date": night, **parameters}
    if wanted == PUBLISHED_NOW:
        return source.query(Statement(name=name, sql=SHIPPED.text(name), parameters=values))
    try:
        build_id = find_generation(source, night, wanted).build_id
        sql = SHIPPED.text(name, rows_of="published_rows")
        rows = source.query(Statement(name=name, sql=sql, parameters={**values, "build_id": build_id}))
        # A vacuum may have deleted the rows meanwhile: check again, so that a deleted generation is not read as empty.
        find_generation(source, night, wanted)
    except Refused as exc:
        raise FeatureStoreNotReady(night, str(exc).removeprefix(f"{night}: ")) from exc
    return rows


@contextmanager
def _open_warehouse(warehouse: "Warehouse | str | None") -> Iterator["Warehouse"]:
    """Use the open warehouse, or open a warehouse for the duration of the call; create no table."""
    if warehouse is not None and not isinstance(warehouse, str):
        yield warehouse
        return
    # The import of a warehouse client takes most of a second; a caller with an open warehouse needs no import.
    from worker.resources import open_warehouse
    from worker.settings import load

    opened = open_warehouse(load() if warehouse is None else load(warehouse=warehouse))
    try:
        yield opened
    finally:
        opened.close()
