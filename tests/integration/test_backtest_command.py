"""`mlfs backtest` over a warehouse with recorded arrivals: figures, refusals, plot, and nothing written."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ops.arguments import EXIT_REFUSED
from ops.cli import app
from tests.support.arrivals import generated_season, store_arrivals
from tests.support.league import FRIDAY, SATURDAY, SUNDAY, League
from tests.support.nights import CACHE, FACTORS
from worker.errors import Refused
from worker.features.records import replay_row
from worker.pipelines.shipped import SHIPPED

FIRST, LAST, SILENT = date(2024, 12, 9), SUNDAY, date(2024, 12, 11)
DAYS = [FIRST + timedelta(days=offset) for offset in range((LAST - FIRST).days + 1)]
DURATION_S = 180.0
Run = Callable[..., str]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven nights of arrivals, one of them without any; three nights were built, one of them for a person."""
    path = tmp_path_factory.mktemp("backtest") / "warehouse.duckdb"
    league = League(str(path))
    league.build(FRIDAY)
    league.execute("DELETE FROM nba_precompute.player_daily_cache WHERE analysis_date = ?", [SATURDAY])
    league.build(SATURDAY)
    league.build(SUNDAY)
    asked = replay_row(
        SUNDAY,
        requested_at=league.warehouse.read_ledger(SUNDAY).committed_at,  # type: ignore[union-attr]
        requested_by="a@b",
        reason="wrong rows",
        mode="normal",
        request_id="r1",
        previous_state="done",
        previous_generation=1,
        decision="replay_accepted",
    )
    league.warehouse.log_replay(asked)
    season = generated_season(3, len(DAYS), first=FIRST)
    store_arrivals(league.warehouse, [arrival for arrival in season if arrival.analysis_date != SILENT])
    league.execute(
        "INSERT INTO nba_raw.nbac_schedule BY NAME SELECT * REPLACE (CAST(? AS DATE) AS game_date, 'x' AS game_id) "
        "FROM nba_raw.nbac_schedule LIMIT 1",
        [SILENT],
    )
    league.warehouse.close()
    return path


@pytest.fixture
def run(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MLFS_WAREHOUSE", f"duckdb://{warehouse}")
    monkeypatch.setenv("MLFS_DATA_DIR", str(warehouse.parent))

    def command(*arguments: object) -> str:
        done = CliRunner().invoke(app, ["backtest", *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.stdout

    return command


SPAN = ("--from", FIRST, "--to", LAST)


def test_the_same_rules_give_the_same_figures_and_one_column(run: Run) -> None:
    answer = json.loads(run(*SPAN, "--json"))

    assert answer["figures"]["today"] == answer["figures"]["tried"]
    assert answer["rules"]["today"] == answer["rules"]["tried"]
    assert "tried" not in run(*SPAN)


def test_figures_are_the_sums_of_the_nights(run: Run) -> None:
    answer = json.loads(run(*SPAN, "--deadline", "23:05", "--json"))

    for which in ("today", "tried"):
        figures = answer["figures"][which]
        endings = [night[which]["ending"] for night in answer["dates"]]
        assert figures["nights"] == answer["nights"] == len(endings)
        assert {kind: figures[kind] for kind in ("done", "upgraded", "degraded", "failed")} == {
            kind: endings.count(kind) for kind in ("done", "upgraded", "degraded", "failed")
        }
    assert (answer["rules"]["today"]["deadline"], answer["rules"]["tried"]["deadline"]) == ("23:25", "23:05")
    assert answer["figures"]["tried"]["published_p50"] < answer["figures"]["today"]["published_p50"]


def test_what_cannot_be_played_and_what_a_person_asked_for_is_named(run: Run) -> None:
    answer, text = json.loads(run(*SPAN, "--json")), run(*SPAN)

    assert [(night["analysis_date"], night["reason"]) for night in answer["not_played"]] == [
        (str(SILENT), "no report is recorded")
    ]
    assert answer["interventions"] == [str(SUNDAY)]
    assert f"not played, no report is recorded: {SILENT}" in text
    assert f"played without the request of a person: {SUNDAY}" in text


def test_the_recorded_state_of_a_night_stands_beside_the_played_one(run: Run) -> None:
    recorded = {night["analysis_date"]: night["recorded"] for night in json.loads(run(*SPAN, "--json"))["dates"]}
    text = run(*SPAN)

    assert recorded == {str(day): None for day in DAYS if day != SILENT} | {
        str(FRIDAY): "done",
        str(SATURDAY): "degraded",
        str(SUNDAY): "done",
    }
    assert re.search(r"today's rules give the recorded state on [012] of 2 nights", text)


def test_estimates_come_from_the_recorded_builds(run: Run) -> None:
    estimates = json.loads(run(*SPAN, "--json"))["estimates"]

    assert (estimates["build_s"], estimates["builds"]) == (DURATION_S, 3)
    scores = {len(known["processors"]): known["quality_score"] for known in estimates["recorded_scores"]}
    assert scores.keys() == {4, 3}
    assert scores[3] < scores[4]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--upgrade-cutoff", "00:30+1d"), {"upgrade_cutoff": "00:30+1d"}),
        (("--on-upstream-failure", "fallback_now"), {"on_upstream_failure": "fallback_now"}),
        (("--rerun", "rebuild"), {"rerun": "rebuild"}),
        (("--optional", CACHE), {"optional": [CACHE]}),
    ],
)
def test_each_option_tries_one_rule_and_leaves_the_others(
    run: Run, options: Sequence[str], rule: dict[str, Any]
) -> None:
    rules = json.loads(run(*SPAN, *options, "--json"))["rules"]

    assert rules["tried"] == rules["today"] | rule


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", LAST, "--to", FIRST), "exchange the dates"),
        (("--from", LAST - timedelta(days=400), "--to", LAST), "choose a shorter span"),
        (
            ("--from", "2023-01-01", "--to", "2023-01-31"),
            "2023-01-01 to 2023-01-31: no night can be played (no report is recorded)",
        ),
        ((*SPAN, "--deadline", "23:55"), "add --upgrade-cutoff TIME"),
        ((*SPAN, "--upgrade-cutoff", "23:10"), "--upgrade-cutoff: 23:10 lies before deadline 23:25"),
        ((*SPAN, "--deadline", "00:30"), "--deadline: 00:30 lies before noon: write 00:30+1d"),
        ((*SPAN, "--deadline", "soon"), "--deadline: must be a wall clock time"),
        ((*SPAN, "--optional", "someone"), "no such processor; the processors are"),
        ((*SPAN, "--optional", FACTORS), "is optional, and a row needs its"),
    ],
)
@pytest.mark.usefixtures("run")
def test_a_refusal_names_the_option_and_the_next_step(arguments: Sequence[object], told: str) -> None:
    with pytest.raises(Refused) as refusal:
        app(["backtest", *map(str, arguments)], standalone_mode=False)

    assert told in str(refusal.value)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("file", ["plot.png", "nowhere/plot.svg"])
def test_a_plot_that_cannot_be_written_is_refused_before_any_night_is_played(file: str) -> None:
    done = CliRunner().invoke(app, ["backtest", *map(str, SPAN), "--plot", file])

    assert done.exit_code == EXIT_REFUSED


def test_the_plot_is_written_with_the_figures_of_each_deadline(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "deadlines.svg"

    answer = json.loads(run(*SPAN, "--deadline", "23:15", "--plot", file, "--json"))

    assert answer["plot"] == str(file)
    assert [point["deadline"] for point in answer["sweep"]][:2] == ["22:45", "22:50"]
    assert {"deadline": "23:15", **answer["figures"]["tried"]} in answer["sweep"]
    assert file.read_text("utf-8").startswith("<svg ")


def test_a_backtest_writes_no_row_and_no_file(run: Run, warehouse: Path) -> None:
    def stored() -> dict[str, int]:
        league = League.opened(warehouse)
        counts = {name: f"SELECT COUNT(*) AS n FROM {name}" for name in SHIPPED.tables.stored}  # noqa: S608 - no user's
        rows = {name: league.query(sql)[0]["n"] for name, sql in counts.items()}
        league.warehouse.close()
        return rows | {file.name: 1 for file in warehouse.parent.iterdir()}

    before = stored()

    run(*SPAN, "--deadline", "23:05")

    assert stored() == before
