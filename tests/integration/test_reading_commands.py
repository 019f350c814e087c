"""`mlfs lineage`, `features` and `build --source yesterday` as a person or a script runs them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.cli import app
from tests.support.league import SATURDAY, SUNDAY, League
from worker.errors import Refused
from worker.pipelines.shipped import FEATURES, OUTPUT_COLUMNS

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `mlfs` in this process, over a warehouse with Saturday in it; give exit code and output."""
    path = tmp_path / "warehouse.duckdb"
    league = League(str(path))
    league.build(SATURDAY)
    league.warehouse.close()
    monkeypatch.setenv("MLFS_WAREHOUSE", f"duckdb://{path}")
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))

    def command(*arguments: object) -> tuple[int, str]:
        code = app([str(argument) for argument in arguments], standalone_mode=False)
        return code or 0, capsys.readouterr().out

    return command


def answer(run: Run, *arguments: object, code: int = 0) -> Any:
    got, text = run(*arguments, "--json")
    assert got == code
    return json.loads(text)


def test_a_last_resort_from_command_to_lineage(run: Run, tmp_path: Path) -> None:
    built = answer(run, "build", SUNDAY, "--source", "yesterday", "--reason", "both phases are empty", code=3)
    assert (built["state"], built["quality_score"], built["published"]) == ("degraded", 75.0, True)

    written = answer(run, "features", SUNDAY, "--out", tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    assert (written["rows"], written["state"], written["quality_score"]) == (len(rows), "degraded", 75.0)
    assert written["columns"] == list(rows[0]) == [column.name for column in OUTPUT_COLUMNS]

    traced = answer(run, "lineage", SUNDAY, rows[0]["player_id"])
    assert [feature["name"] for feature in traced["features"]] == [feature.name for feature in FEATURES]
    assert (traced["build"]["mode"], traced["changed_features"]) == ("yesterday", [])
    assert traced["features"][0]["source_date"] == SATURDAY.isoformat()

    league = League.opened(tmp_path / "warehouse.duckdb")
    [audited] = league.query("SELECT reason, mode, decision, previous_generation FROM nba_predictions.replay_audit")
    league.warehouse.close()
    assert audited == {
        "reason": "both phases are empty",
        "mode": "yesterday",
        "decision": "built_by_hand",
        "previous_generation": 0,
    }


def test_the_lineage_of_a_row_fits_a_screen(run: Run, tmp_path: Path) -> None:
    answer(run, "features", SATURDAY, "--out", tmp_path / "rows.jsonl")
    first = json.loads((tmp_path / "rows.jsonl").read_text("utf-8").splitlines()[0])
    code, text = run("lineage", SATURDAY, first["player_id"])

    assert code == 0
    assert f"{SATURDAY}  {first['player_name']} ({first['player_id']})" in text
    for feature in FEATURES:
        assert f"  {feature.name} " in text
    assert text.count("nba_precompute.player_composite_factors of 2024-12-14, processed 2024-12-14 23:15:00 EST") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("build", SATURDAY, "--source", "yesterday"),
            "2024-12-14 is done: yesterday's rows would replace better ones",
        ),
        (("lineage", SUNDAY, 1), "nothing is published for 2024-12-15"),
        (("features", SUNDAY, "--out", "rows.csv"), "nothing is published for 2024-12-15"),
        (("features", SATURDAY, "--out", "rows.xls"), "the name must end in"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_next_step(run: Run, arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(Refused, match=said):
        run(*arguments)


def test_a_dry_run_of_the_last_resort_leaves_no_trace(run: Run, tmp_path: Path) -> None:
    built = answer(run, "build", SUNDAY, "--source", "yesterday", "--dry-run", code=3)

    league = League.opened(tmp_path / "warehouse.duckdb")
    assert (built["published"], league.published(SUNDAY)) == (False, {})
    assert league.query("SELECT * FROM nba_predictions.replay_audit") == []
    league.warehouse.close()


def test_a_build_by_hand_is_told_to_openlineage(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("MLFS_OPENLINEAGE", events.as_uri())
    run("build", SUNDAY)
    run("build", SUNDAY, "--dry-run")

    told = [json.loads(line) for line in events.read_text("utf-8").splitlines()]
    assert [event["eventType"] for event in told] == ["START", "COMPLETE"]
    assert told[0]["run"]["runId"] == told[1]["run"]["runId"]
