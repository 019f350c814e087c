"""`mlfs profile`, `/dates/DATE/profile` and the page of distributions, over a warehouse of generated nights."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import typer

from ops.cli import app
from tests.support.league import NIGHTS, SUNDAY, League
from tests.support.services import Service
from worker.errors import Refused
from worker.pipelines.shipped import FEATURES

Run = Callable[..., str]
UsageError: type[Exception] = typer.BadParameter.__bases__[0]
BEFORE = date(2024, 12, 1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse file with three published nights."""
    path = tmp_path_factory.mktemp("profile") / "warehouse.duckdb"
    league = League(str(path))
    for night in NIGHTS:
        league.build(night)
    league.warehouse.close()
    return path


@pytest.fixture
def run(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("MLFS_WAREHOUSE", f"duckdb://{path}")
    monkeypatch.setenv("MLFS_DATA_DIR", str(path.parent))

    def command(*arguments: object) -> str:
        assert not app(["profile", *map(str, arguments)], standalone_mode=False)
        return capsys.readouterr().out

    return command


@pytest.fixture
def service(path: Path) -> Iterator[Service]:
    league = League.opened(path)
    with Service(warehouse=league.warehouse) as running:
        yield running
    league.warehouse.close()


def test_the_table_shows_every_feature_beside_the_nights_before(run: Run) -> None:
    head, _names, *lines = run(SUNDAY).splitlines()

    assert head.startswith("Sunday 2024-12-15, generation 1, ")
    assert head.endswith("rows, beside 2 nights before")
    assert [line.split()[0] for line in lines[: len(FEATURES)]] == [feature.name for feature in FEATURES]
    assert all(re.search("[▁▂▃▄▅▆▇█]", line) for line in lines[: len(FEATURES)])


def test_a_single_feature_has_a_histogram_and_a_line_for_each_night(run: Run) -> None:
    told = run(SUNDAY, "points_projection")

    assert "points_projection, points, by player_composite_factors" in told
    assert re.findall(r"^(\d{4}-\d{2}-\d{2}) ", told, re.MULTILINE) == [night.isoformat() for night in NIGHTS[::-1]]
    assert "20 and more" in told


def test_scripts_get_the_same_over_http(run: Run, service: Service) -> None:
    for feature in ("", "pace"):
        told: Any = json.loads(run(SUNDAY, *([feature] if feature else []), "--json"))
        answer = service.client.get(f"/dates/{SUNDAY}/profile", params={"feature": feature} if feature else {})

        assert answer.status_code == 200
        assert answer.json() == told
    assert told["features"][0]["per_team"] is True
    assert [night["analysis_date"] for night in told["features"][0]["nights"]] == ["2024-12-14", "2024-12-13"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((BEFORE,), "nothing is published for 2024-12-01"), ((SUNDAY, "paces"), "did you mean pace?")],
)
def test_what_cannot_be_shown_is_explained(
    run: Run, service: Service, arguments: tuple[object, ...], words: str
) -> None:
    with pytest.raises(Refused, match=re.escape(words)):
        run(*arguments)

    day, *feature = arguments
    answer = service.client.get(f"/dates/{day}/profile", params={"feature": feature[0]} if feature else {})
    assert answer.status_code == 409
    assert words in answer.json()["detail"]


def test_the_page_draws_a_plot_with_words_for_each_feature_and_no_script_in_the_plots(service: Service) -> None:
    answer = service.client.get(f"/nights/{SUNDAY}/features")

    plots = re.findall(r"<svg width.*?</svg>", answer.text, re.DOTALL)
    assert (answer.status_code, len(plots)) == (200, len(FEATURES))
    for plot in plots:
        [labels] = re.findall('role="img" aria-labelledby="(t-[0-9]+ d-[0-9]+)"', plot)
        assert all(f'id="{label}"' in plot for label in labels.split())
        assert re.search("<desc[^>]*>tonight most values lie .*; on the 2 nights before", plot)
        assert not re.search("script|style=|NaN|inf", plot)


def test_the_page_of_a_date_without_a_publication_says_so(service: Service) -> None:
    answer = service.client.get(f"/nights/{BEFORE}/features")

    assert answer.status_code == 409
    assert "nothing is published for 2024-12-01" in answer.text
