"""The benchmarks measure what they say; how fast it is, no test asks."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from ops.bench import build_tasks
from ops.bench.measure import in_child, percentiles, spread, verdict
from ops.bench.running import measure_build
from worker.adapters.duckdb.dialect import to_duckdb
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.builds.steps import run_build
from worker.clock import SystemClock
from worker.pipelines.shipped import GENERATIONS_TABLE, PUBLISHED_TABLE, SHIPPED

MEANS = {"memory_limit": "1GB", "threads": 2}


def test_a_build_takes_as_many_statements_for_many_entities_as_for_few(tmp_path: Path) -> None:
    counted = {}
    for entities in (250, 5000):
        path = str(tmp_path / f"{entities}.duckdb")
        build_tasks.generate(path, entities, **MEANS)
        answer = build_tasks.build(path, **MEANS)
        assert (answer["rows"], answer["published"]) == (entities, True)
        counted[entities] = answer["statements"]

    assert counted[250] == counted[5000] > 0


def test_the_bare_join_gives_the_cells_that_the_build_publishes(tmp_path: Path) -> None:
    """A yardstick that computed less would flatter nobody but itself."""
    path = str(tmp_path / "warehouse.duckdb")
    build_tasks.generate(path, 500, **MEANS)
    assert build_tasks.bare(path, **MEANS)["rows"] == 500
    build_tasks.build(path, **MEANS)

    with duckdb.connect(path) as connection:
        columns = ", ".join(name for name, *_ in connection.execute("DESCRIBE nba_predictions.bare_join").fetchall())
        bare, built = (
            connection.execute(f"SELECT {columns} FROM {table} ORDER BY player_id").fetchall()  # noqa: S608 -- our names
            for table in ("nba_predictions.bare_join", PUBLISHED_TABLE)
        )
        sources = connection.execute(f"SELECT data_source, count(*) FROM {PUBLISHED_TABLE} GROUP BY ALL").fetchall()  # noqa: S608 -- our names

    assert bare == built
    assert dict(sources) == {"phase4": 425, "mixed": 75}


def test_the_same_select_gives_the_rows_that_the_build_stores(tmp_path: Path) -> None:
    path = str(tmp_path / "warehouse.duckdb")
    build_tasks.generate(path, 500, **MEANS)
    build_tasks.same_select(path, **MEANS)
    build_tasks.build(path, **MEANS)

    with duckdb.connect(path) as connection:
        columns = ", ".join(one.name for one in SHIPPED.generation_columns if one.name != "processed_at")
        selected, stored = (
            connection.execute(f"SELECT {columns} FROM {table} ORDER BY player_id").fetchall()  # noqa: S608 -- our names
            for table in ("nba_predictions.same_select", GENERATIONS_TABLE)
        )

    assert selected == stored
    assert len(stored) == 500


def test_a_measured_build_is_a_usual_one_and_a_prepared_process_translates_nothing_for_it(tmp_path: Path) -> None:
    """A night with a finding, or with a statement translated on the way, would measure something else."""
    path, clock = str(tmp_path / "warehouse.duckdb"), SystemClock()
    build_tasks.generate(path, 250, **MEANS, nights=2)
    with closing(DuckDbWarehouse(path)) as warehouse:
        warehouse.ensure_tables()
        warehouse.prepare_builds()
        known = to_duckdb.cache_info().misses
        request = build_tasks.make_request(1, clock.now())
        earlier = replace(request, key=replace(request.key, analysis_date=build_tasks.NIGHT - timedelta(days=1)))
        first, second = (run_build(warehouse, asked, now=clock.now) for asked in (earlier, request))

    assert (first.published, first.report.findings) == (second.published, second.report.findings) == (True, ())
    assert to_duckdb.cache_info().misses == known


def test_a_night_is_measured_in_a_warm_process_too(tmp_path: Path) -> None:
    path = str(tmp_path / "warehouse.duckdb")
    build_tasks.generate(path, 250, **MEANS)

    assert build_tasks.bare(path, **MEANS, warm=True)["warm_seconds"] > 0
    assert build_tasks.build(path, **MEANS, warm=True)["warm_seconds"] > 0
    with duckdb.connect(path) as connection:
        assert connection.execute(f"SELECT DISTINCT build_generation FROM {PUBLISHED_TABLE}").fetchall() == [(2,)]  # noqa: S608 -- our names


def test_build_reports_all_sides_their_ratios_and_the_targets() -> None:
    answer = measure_build([250], 1, **MEANS, progress=lambda _text: None)

    (size,) = answer["sizes"]
    for yardstick in ("same_select", "bare"):
        for figure in ("seconds", "cpu_seconds", "peak_mb"):
            ratio = size["build"][figure]["median"] / size[yardstick][figure]["median"]
            assert size[f"against_{yardstick}"][figure] == ratio
    assert answer["targets"] == []
    json.dumps(answer)


def test_the_intake_is_measured_on_events_that_are_stored(tmp_path: Path) -> None:
    answer = in_child("intake", folder=str(tmp_path), events=80)

    assert answer["events_per_s"] > 0


def test_every_deadline_is_measured_once(tmp_path: Path) -> None:
    answer = in_child("deadline", folder=str(tmp_path), open_dates=30, deadlines=4)

    assert len(answer["lag_ms"]) == 4


@pytest.mark.parametrize(("value", "at_least", "met"), [(1.0, False, True), (1.1, False, False), (1.1, True, True)])
def test_a_missed_target_is_reported_as_missed(value: float, at_least: bool, met: bool) -> None:
    assert verdict("name", value, 1.0, at_least=at_least)["met"] is met


def test_spread_and_percentiles() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 3.0, "runs": [3.0, 1.0, 2.0]}
    assert percentiles([float(number) for number in range(101)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0}
