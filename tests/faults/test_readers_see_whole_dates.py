"""While a date is rebuilt over and over, readers see one whole generation of it; a replaced worker adds nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from statemachine.events import ReplayRequested
from statemachine.model import BuildMode, State
from tests.support.bigquery import open_warehouse as open_bigquery
from tests.support.bigquery_peer.server import BigQueryServer
from tests.support.nights import NIGHT, PROCESSORS, success
from tests.support.rigs import Rig
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.builds.builder import Builder
from worker.features.model import BlockCounts, BuildKey, BuildRequest, BuildStats, Publication, Statement
from worker.features.quality import score
from worker.local.parquet_folder import load_parquet_folder
from worker.observing.metrics import Metrics
from worker.observing.observer import BuildStep, Notice, Observer, Observers
from worker.pipelines.shipped import BLOCKS, SHIPPED
from worker.ports import Warehouse

REBUILDS = 80
LOOK_EVERY_S = 0.002  # several looks a rebuild, and the writer still gets its turn
AT = datetime(2024, 12, 16, 4, 25, tzinfo=UTC)

LITERALS = {
    "DATE": "@analysis_date",
    "INT64": "player_number",
    "FLOAT64": "CAST(@generation AS FLOAT64)",
    "STRING": "@build_id",
    "BOOL": "TRUE",
    "TIMESTAMP": "@built_at",
    "ARRAY<STRING>": "ARRAY<STRING>[@build_id]",
}

LOOK = """
SELECT
  COUNT(*) AS row_count,
  COUNT(DISTINCT features.build_id) AS builds,
  MIN(features.build_generation) AS generation,
  COUNT(DISTINCT features.points_projection) AS numbers,
  MIN(quality.row_count) AS rows_promised,
  MIN(quality.generation) AS quality_generation,
  MIN(dependencies.generation) AS dependency_generation,
  MAX(ledger.generation) AS ledger_generation
FROM nba_predictions.ml_feature_store_v2 AS features
JOIN nba_predictions.ml_feature_store_v2_quality_metrics AS quality USING (analysis_date)
JOIN nba_predictions.ml_feature_store_v2_dependency_tracking AS dependencies USING (analysis_date)
JOIN nba_predictions.ml_feature_store_v2_ledger AS ledger USING (analysis_date)
WHERE features.analysis_date = @analysis_date
"""


def rows_of(generation: int) -> int:
    """Every generation has another number of rows, so that a mixture cannot look whole."""
    return 20 + generation % 37


def staging_select(key: BuildKey) -> Statement:
    special = {"build_generation": "@generation", "left_out_reason": "CAST(NULL AS STRING)"}
    columns = ", ".join(f"{special.get(c.name, LITERALS[c.type])} AS {c.name}" for c in SHIPPED.generation_columns)
    return Statement(
        name="features",
        sql=f"SELECT {columns} "  # noqa: S608 -- from the catalogue
        "FROM UNNEST(GENERATE_ARRAY(1, @row_count)) AS player_number",
        parameters={
            "analysis_date": key.analysis_date,
            "generation": key.generation,
            "build_id": key.build_id,
            "built_at": AT,
            "row_count": rows_of(key.generation),
        },
    )


def publication(key: BuildKey) -> Publication:
    rows = rows_of(key.generation)
    stats = BuildStats(
        analysis_date=key.analysis_date,
        row_count=rows,
        dependency_rows=dict.fromkeys(PROCESSORS, rows),
        blocks={b.name: BlockCounts(players=rows, cells_each=1, phase4_cells=rows, phase3_cells=0) for b in BLOCKS},
        required_nulls=0,
        newest_source_date=key.analysis_date,
        left_out_count=0,
        left_out=(),
    )
    request = BuildRequest(
        key=key,
        mode=BuildMode.NORMAL,
        trigger="rerun",
        phase3_lookback_days=30,
        as_of=None,
        started_at=AT,
        claimant="worker-a",
    )
    return Publication(request=request, stats=stats, report=score(stats, BuildMode.NORMAL), committed_at=AT)


@pytest.fixture(params=["duckdb", "bigquery"])
def open_warehouse(request: pytest.FixtureRequest) -> Iterator[Callable[[], Warehouse]]:
    """Open one warehouse as several workers and consumers do, each with a connection of its own."""
    if request.param == "duckdb":
        with closing(DuckDbWarehouse(":memory:")) as only:
            yield lambda: only
    else:
        with BigQueryServer() as server, ExitStack() as opened:
            yield lambda: opened.enter_context(closing(open_bigquery(server, "readers")))


def test_a_reader_sees_the_old_or_the_new_generation_and_never_a_mixture(
    open_warehouse: Callable[[], Warehouse],
) -> None:
    warehouse, readers = open_warehouse(), open_warehouse()
    warehouse.ensure_tables()
    ended, seen, torn = threading.Event(), [], []
    look = Statement(name="look", sql=LOOK, parameters={"analysis_date": NIGHT})

    def read() -> None:
        while not ended.wait(LOOK_EVERY_S):
            [row] = readers.query(look)
            seen.append(row["generation"] or 0)
            generation = row["generation"]
            whole = {
                "row_count": 0 if generation is None else rows_of(generation),
                "builds": 0 if generation is None else 1,
                "generation": generation,
                "numbers": 0 if generation is None else 1,
                "rows_promised": None if generation is None else rows_of(generation),
                "quality_generation": generation,
                "dependency_generation": generation,
                "ledger_generation": generation,
            }
            if row != whole:
                torn.append(row)

    reader = threading.Thread(target=read)
    reader.start()
    for generation in range(1, REBUILDS + 1):
        key = BuildKey(analysis_date=NIGHT, generation=generation, attempt=1)
        warehouse.claim(key, AT, "worker-a")
        warehouse.stage(key, staging_select(key))
        warehouse.publish(publication(key))
    ended.set()
    reader.join()
    [last] = warehouse.query(look)

    assert torn == []
    assert seen == sorted(seen), "a reader went back to an older generation"
    assert len(set(seen)) > REBUILDS / 10, "the reader hardly looked while dates were replaced"
    assert (last["generation"], last["row_count"]) == (REBUILDS, rows_of(REBUILDS))


class Overtaken:
    """Lets another worker take the date and publish it, at the moment this one has scored its build."""

    def __init__(self, overtake: Callable[[], None]) -> None:
        self._overtake = overtake

    def note(self, notice: Notice) -> None:
        if isinstance(notice, BuildStep) and notice.text.startswith("score"):
            self._overtake()


@pytest.fixture(scope="module")
def loaded(sample_folder: Path) -> Iterator[DuckDbWarehouse]:
    warehouse = DuckDbWarehouse(":memory:")
    warehouse.ensure_tables()
    load_parquet_folder(warehouse, sample_folder)
    yield warehouse
    warehouse.close()


def test_a_stale_workers_publish_is_refused_and_counted(loaded: DuckDbWarehouse) -> None:
    rig, metrics = Rig(), Metrics(PROCESSORS)

    def builder(name: str, observer: Observer) -> Builder:
        return Builder(
            engine=rig.engine,
            warehouse=loaded,
            clock=rig.clock,
            worker=name,
            lease_s=60.0,
            phase3_lookback_days=30,
            observer=observer,
            stopwatch=lambda: 0.0,
        )

    def overtake() -> None:
        rig.clock.forward(timedelta(seconds=1))
        rig.engine.apply(NIGHT, ReplayRequested(actor="ana", reason="bad rows upstream", take_over=True))
        builder("worker-b", rig.notes).run_one(NIGHT)

    for name in PROCESSORS:
        rig.engine.apply(NIGHT, success(name))
    builder("worker-a", Observers(metrics, Overtaken(overtake))).run_one(NIGHT)

    record, ledger = rig.store.load(NIGHT), loaded.read_ledger(NIGHT)
    sql = "SELECT DISTINCT build_id FROM nba_predictions.ml_feature_store_v2 WHERE analysis_date = @night"
    published = loaded.query(Statement(name="published", sql=sql, parameters={"night": NIGHT}))
    assert record is not None
    assert ledger is not None
    assert (record.state, record.published_generation, ledger.build_id) == (State.DONE, 2, "2024-12-15-g2-a1")
    assert [row["build_id"] for row in published] == ["2024-12-15-g2-a1"]
    assert "mlfs_fence_rejections_total 1.0" in generate_latest(metrics.registry).decode()
