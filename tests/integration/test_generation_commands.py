"""`mlfs diff`, `vacuum` and the options that read an older generation, as a person or a script runs them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from ops.cli import app
from statemachine.model import BuildMode
from tests.support.league import FRIDAY, SUNDAY, League, built_at
from worker.errors import Refused
from worker.phase5 import FeatureStoreNotReady, load_features_for_prediction
from worker.pipelines.shipped import FEATURES

Run = Callable[..., str]
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `mlfs` in this process, over a warehouse in which Sunday was built from Phase 3 first, then from Phase 4."""
    path = tmp_path / "warehouse.duckdb"
    league = League(str(path))
    league.build(SUNDAY, mode=BuildMode.FORCED_FALLBACK)
    monkeypatch.setenv("MLFS_WAREHOUSE", f"duckdb://{path}")
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))

    def command(*arguments: object) -> str:
        assert not app([str(argument) for argument in arguments], standalone_mode=False)
        return capsys.readouterr().out

    command("features", SUNDAY, "--out", tmp_path / "read_at_2350.csv")
    league.build(SUNDAY, 2)
    league.warehouse.close()
    return command


def answer(run: Run, *arguments: object) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_what_a_command_wrote_before_an_upgrade_it_writes_again_byte_for_byte(run: Run, tmp_path: Path) -> None:
    before = (tmp_path / "read_at_2350.csv").read_bytes()

    told = answer(run, "features", SUNDAY, "--out", tmp_path / "again.csv", "--generation", 1)
    now = answer(run, "features", SUNDAY, "--out", tmp_path / "now.csv", "--published-by", built_at(SUNDAY).isoformat())

    assert (tmp_path / "again.csv").read_bytes() == before
    assert (told["generation"], told["state"], told["build_id"]) == (1, "degraded", "2024-12-15-g1-a1")
    assert told["published_at"] == "2024-12-16T04:30:00Z"
    assert (now["generation"], now["state"]) == (2, "done")
    assert (tmp_path / "now.csv").read_bytes() != before


def test_a_row_of_an_older_generation_is_explained(run: Run) -> None:
    player_id = answer(run, "diff", SUNDAY)["columns"][0]["largest"][0]["key"]

    traced = answer(run, "lineage", SUNDAY, player_id, "--generation", 1)

    assert traced["build"]["generation"] == 1
    assert {feature["source"] for feature in traced["features"]} <= {"phase3", "missing", None}
    assert traced["build"]["ignored"] == []
    assert answer(run, "lineage", SUNDAY, player_id)["build"]["generation"] == 2


def test_a_diff_tells_scripts_and_people_the_same(run: Run) -> None:
    found = answer(run, "diff", SUNDAY)
    text = run("diff", SUNDAY)

    assert found == answer(run, "diff", SUNDAY, "--generations", 1, 2)
    assert (found["before"]["quality_score"], found["after"]["state"]) == (75.0, "done")
    assert found["cells_changed"] == sum(column["cells_changed"] for column in found["columns"]) > 0
    assert {column["column"] for column in found["columns"]} <= {feature.name for feature in FEATURES}
    first = found["columns"][0]
    assert f"cells changed {found['cells_changed']}" in text
    assert first["column"] in text
    largest = first["largest"][0]
    assert f"{largest['label']} ({largest['key']})" in " ".join(text.split())
    assert "published 2024-12-15 23:30:00 EST" in text
    assert found["before"]["published_at"] == "2024-12-16T04:30:00Z"
    for pair in first["sources"]:
        assert pair["cells"] >= pair["changed"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("diff", FRIDAY), "nothing is published for 2024-12-13"),
        (("diff", SUNDAY, "--generations", 2, 7), "generation 7 was never published"),
        (("features", FRIDAY, "--out", "x.csv"), "nothing is published for 2024-12-13"),
        (
            ("features", SUNDAY, "--out", "x.csv", "--generation", 7),
            r"generation 7 .* 1 \(2024-12-16T04:30:00Z\), 2 \(",
        ),
        (("features", SUNDAY, "--out", "x.csv", "--published-by", "2024-12-15T00:00Z"), "nothing was published by"),
        (("lineage", SUNDAY, 1, "--generation", 3), "generation 3 was never published"),
        (("lineage", SUNDAY, 1, "--generation", 1, "--published-by", "2024-12-16T05:00Z"), "--generation, generation"),
    ],
)
def test_what_is_not_there_is_refused_by_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Refused, match=said):
        run(*arguments)
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("instant", ["23:50", "2024-12-15T23:50:00", "tonight", "2024-12-15"])
def test_an_instant_needs_its_zone(run: Run, instant: str) -> None:
    with pytest.raises(UsageError, match=r"no instant|no zone"):
        run("features", SUNDAY, "--out", "x.csv", "--published-by", instant)


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_instant_beyond_the_calendar_is_refused(run: Run, instant: str) -> None:
    with pytest.raises(UsageError, match="not in the years 1 to 9999"):
        run("features", SUNDAY, "--out", "x.csv", "--published-by", instant)


def test_a_vacuum_counts_first_and_deletes_then(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_KEEP_GENERATIONS", "1")
    rows = answer(run, "diff", SUNDAY)["before"]["row_count"]

    counted = answer(run, "vacuum", "--dry-run")
    assert f"{counted['superseded_rows']} rows of generations superseded 1 days ago" in run("vacuum", "--dry-run")
    deleted = answer(run, "vacuum")

    assert counted == {"unpublished_rows": 0, "superseded_rows": counted["superseded_rows"]} | {
        "keep_generations": 1,
        "dry_run": True,
    }
    assert counted["superseded_rows"] >= rows
    assert deleted == counted | {"dry_run": False}
    assert answer(run, "vacuum")["superseded_rows"] == 0
    with pytest.raises(Refused, match=r"the rows of generation 1 .* are gone"):
        run("features", SUNDAY, "--out", tmp_path / "x.csv", "--generation", 1)
    assert answer(run, "features", SUNDAY, "--out", tmp_path / "now.csv")["generation"] == 2


def test_by_default_a_vacuum_keeps_every_generation(run: Run) -> None:
    assert "all are kept (MLFS_KEEP_GENERATIONS=0)" in run("vacuum")
    assert answer(run, "diff", SUNDAY)["before"]["generation"] == 1


@pytest.mark.usefixtures("run")
def test_a_dry_run_that_would_fail_says_so_and_ends_as_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["build", "2019-12-15", "--dry-run"], standalone_mode=False) == 1

    text = capsys.readouterr().out
    assert "would be failed" in text
    assert "nothing was published" in text


@pytest.mark.usefixtures("run")
def test_phase_5_is_told_the_date_once_and_the_generations_there_are(tmp_path: Path) -> None:
    with pytest.raises(FeatureStoreNotReady) as refused:
        load_features_for_prediction(SUNDAY, warehouse=f"duckdb://{tmp_path}/warehouse.duckdb", generation=7)

    assert str(refused.value).startswith(
        "2024-12-15 is not ready for predictions: generation 7 was never published; published generations: 1 ("
    )
