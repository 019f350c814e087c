"""`mlfs sql`: the rendered statements and tables of the pipeline that the settings name, for a person or a script."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from ops.cli import app
from tests.support.grid_day import DEFINITION
from worker.errors import Refused
from worker.pipelines.shipped import SHIPPED

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str) -> str:
        app(["sql", *arguments], standalone_mode=False)
        return capsys.readouterr().out

    return command


def test_without_a_name_every_statement_and_table_is_listed_with_its_purpose(run: Run) -> None:
    statements = [*SHIPPED.statements, *SHIPPED.changes]
    names = [*statements, *SHIPPED.described]
    listed = json.loads(run("--json"))

    assert names == [row["name"] for row in listed]
    views = len(SHIPPED.tables.views)
    assert {"statement": len(statements), "view": views, "table": len(SHIPPED.described) - views} == Counter(
        row["kind"] for row in listed
    )
    # A purpose of two lines stands on one.
    [audit] = [row["purpose"] for row in listed if row["name"] == SHIPPED.tables.replay]
    assert audit.endswith("when and why; written before the effect.")
    assert [line.split()[0] for line in run().splitlines()] == names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("features", SHIPPED.text("features")),
        (SHIPPED.tables.ledger, SHIPPED.ddl_of(SHIPPED.tables.ledger)),
        (SHIPPED.tables.ledger.partition(".")[2], SHIPPED.ddl_of(SHIPPED.tables.ledger)),
    ],
)
def test_a_name_prints_the_very_text_that_runs(run: Run, name: str, text: str) -> None:
    assert run(name) == text
    assert json.loads(run(name, "--json"))["sql"] == text


def test_the_sql_is_that_of_the_pipeline_that_is_set(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_PIPELINE", str(DEFINITION))

    assert "FROM grid_models.weather_ensemble" in run("dependency_rows")
    with pytest.raises(Refused, match="pipeline grid_day_ahead has no statement and no table report_predictions"):
        run("report_predictions")
