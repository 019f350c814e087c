"""Phase 5's contract: ready or not by its own thresholds, whole rows, and errors that say what to do."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pytest

from statemachine.model import BuildMode
from tests.support.league import FRIDAY, SATURDAY, SUNDAY, League
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.errors import Refused
from worker.phase5 import (
    FeatureStoreNotReady,
    load_features_for_prediction,
    read_readiness,
    validate_ml_feature_store_ready,
)
from worker.pipelines.shipped import GENERATIONS_TABLE, OUTPUT_COLUMNS, PUBLISHED_TABLE

PAGE = Path(__file__).parents[2] / "docs" / "phase5.md"
NIGHT = SUNDAY.isoformat()


@pytest.fixture
def league() -> Iterator[League]:
    league = League()
    yield league
    league.warehouse.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[League]:
    """Sunday in full, Saturday from Phase 3 alone; nothing on Friday. Tests only read it."""
    league = League()
    league.build(SUNDAY)
    league.build(SATURDAY, mode=BuildMode.FORCED_FALLBACK)
    yield league
    league.warehouse.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A warehouse file with Sunday in it, that nobody has open."""
    path = tmp_path_factory.mktemp("phase5") / "warehouse.duckdb"
    league = League(str(path))
    league.build(SUNDAY)
    league.warehouse.close()
    return f"duckdb://{path}"


@pytest.mark.parametrize("night", [SUNDAY, SATURDAY, NIGHT])
def test_a_published_night_is_ready(shared: League, night: date | str) -> None:
    assert validate_ml_feature_store_ready(night, warehouse=shared.warehouse) is True


def test_a_night_without_rows_is_not_ready(shared: League) -> None:
    assert validate_ml_feature_store_ready(FRIDAY, warehouse=shared.warehouse) is False
    assert read_readiness(FRIDAY, warehouse=shared.warehouse).fault == "no rows are published"


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        ("DELETE FROM that_table WHERE player_id NOT IN (SELECT player_id FROM view ORDER BY 1 LIMIT 200)", None),
        (
            "DELETE FROM that_table WHERE player_id NOT IN (SELECT player_id FROM view ORDER BY 1 LIMIT 199)",
            "199 rows are published, 200 needed",
        ),
        ("UPDATE that_table SET quality_score = 75", None),
        ("UPDATE that_table SET quality_score = 74.9", "average quality score 74.9, 75 needed"),
    ],
)
def test_the_thresholds_are_200_rows_and_an_average_of_75(league: League, spoil: str, fault: str | None) -> None:
    league.build(SUNDAY)
    league.execute(spoil.replace("that_table", GENERATIONS_TABLE).replace("view", PUBLISHED_TABLE))

    assert read_readiness(SUNDAY, warehouse=league.warehouse).fault == fault
    assert validate_ml_feature_store_ready(SUNDAY, warehouse=league.warehouse) is (fault is None)


def test_a_stale_night_is_ready_and_counted_as_such(league: League) -> None:
    league.build(SATURDAY)
    league.build(SUNDAY, mode=BuildMode.YESTERDAY)
    readiness = read_readiness(SUNDAY, warehouse=league.warehouse)

    assert readiness.fault is None
    assert readiness.average_quality_score == 75.0
    assert readiness.yesterday_rows == readiness.fallback_rows == readiness.row_count


@pytest.mark.parametrize("night", [SUNDAY, SATURDAY])
def test_every_published_row_is_loaded_whole_and_in_order(shared: League, night: date) -> None:
    rows = load_features_for_prediction(night, warehouse=shared.warehouse)

    assert rows == list(shared.published(night).values())
    assert list(rows[0]) == [column.name for column in OUTPUT_COLUMNS]
    assert [row["player_id"] for row in rows] == sorted(row["player_id"] for row in rows)


def test_a_floor_leaves_out_the_rows_below_it(shared: League) -> None:
    scores = [row["quality_score"] for row in shared.published(SUNDAY).values()]
    loaded = load_features_for_prediction(SUNDAY, warehouse=shared.warehouse, quality_score_min=100)

    assert len(loaded) == sum(1 for score in scores if score >= 100) < len(scores)


def test_nothing_to_load_names_the_date_and_the_next_step(shared: League) -> None:
    with pytest.raises(FeatureStoreNotReady, match=r"2024-12-13 is not ready .* mlfs explain 2024-12-13") as caught:
        load_features_for_prediction(FRIDAY, warehouse=shared.warehouse)

    assert caught.value.analysis_date == FRIDAY
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("wrong", ["tonight", "2024-13-01", datetime(2024, 12, 15)])  # noqa: DTZ001 - a wrong argument
def test_what_is_no_date_is_refused(shared: League, wrong: str) -> None:
    with pytest.raises(Refused, match="is no analysis date"):
        validate_ml_feature_store_ready(wrong, warehouse=shared.warehouse)


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_a_frame_holds_what_the_rows_hold(shared: League, frame: str) -> None:
    pytest.importorskip(frame, reason=f"{frame} is an optional extra and not installed")
    loaded = load_features_for_prediction(SUNDAY, warehouse=shared.warehouse, frame=frame)  # type: ignore[call-overload]

    assert list(loaded.columns) == [column.name for column in OUTPUT_COLUMNS]
    assert list(loaded["player_id"]) == sorted(shared.published(SUNDAY))


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_a_frame_whose_library_is_missing_names_the_extra(
    shared: League, frame: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, frame, None)

    with pytest.raises(Refused, match=rf"pip install '\.\[{frame}\]'"):
        load_features_for_prediction(SUNDAY, warehouse=shared.warehouse, frame=frame)  # type: ignore[call-overload]


def test_a_warehouse_is_opened_by_its_url_and_given_back(url: str) -> None:
    for _ in range(2):
        assert validate_ml_feature_store_ready(SUNDAY, warehouse=url)
    assert len(load_features_for_prediction(SUNDAY, warehouse=url)) == 449


def test_a_warehouse_without_the_table_is_not_ready(tmp_path: Path) -> None:
    empty = f"duckdb://{tmp_path}/empty.duckdb"
    DuckDbWarehouse(f"{tmp_path}/empty.duckdb").close()

    assert validate_ml_feature_store_ready(SUNDAY, warehouse=empty) is False
    with pytest.raises(FeatureStoreNotReady, match="MLFS_WAREHOUSE"):
        load_features_for_prediction(SUNDAY, warehouse=empty)


def test_a_wrong_path_is_named_and_no_warehouse_is_made_there(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "warehouse.duckdb"

    for read in (validate_ml_feature_store_ready, load_features_for_prediction):
        with pytest.raises(Refused, match=rf"no warehouse file at {path}.*MLFS_WAREHOUSE"):
            read(SUNDAY, warehouse=f"duckdb://{path}")
    assert list(tmp_path.iterdir()) == []


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_the_page_runs_as_it_stands(url: str) -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

    said = run(example, MLFS_WAREHOUSE=url)
    assert "449 players; the first is" in said
    assert "210 play tonight; 0 rows are yesterday's" in said


def test_the_import_brings_no_client_and_no_frame_library() -> None:
    heavy = ("pandas", "polars", "duckdb", "redis", "google.cloud", "sqlglot", "grpc")
    code = f"import sys, worker.phase5; print([name for name in {heavy} if name in sys.modules])"

    assert run(code).strip() == "[]"
