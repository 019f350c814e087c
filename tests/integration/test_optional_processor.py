"""Optional processors that are absent at the deadline: each cell, source and score, worked out a second time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

import worker.features
from statemachine.model import FindingSeverity, State
from tests.support.faulty_nights import Change, Season, assert_built_as_worked_out
from tests.support.grid_day import DEADLINE, DEFINITION, MODELS, GridDay
from tests.support.recomputed import PHASE4, Question
from worker.features.findings import Check
from worker.pipelines.files import read_pipeline

NIGHT = date(2024, 12, 15)
SHIPPED_FILE = Path(worker.features.__file__).with_name("pipeline.toml")
OPTIONAL = frozenset({"team_defense", "daily_cache"})
"""A block of the players with a game, and a block of every player."""
ASKED = Question(night=NIGHT, optional=OPTIONAL)


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> Iterator[Season]:
    file = tmp_path_factory.mktemp("optional") / "pipeline.toml"
    text = SHIPPED_FILE.read_text("utf-8")
    for block in OPTIONAL:
        named = f'[[blocks]]\nname = "{block}"\n'
        assert named in text
        text = text.replace(named, f"{named}required = false\n")
    file.write_text(text, "utf-8")
    made = Season(sample_folder, read_pipeline(file))
    yield made
    made.warehouse.close()


def lost(*blocks: str) -> list[Change]:
    return [(PHASE4[block], "DELETE FROM {} WHERE analysis_date = ?", [NIGHT]) for block in blocks]


@pytest.mark.parametrize(
    ("blocks", "state"),
    [
        ((), State.DONE),
        (("team_defense",), State.DONE),
        (("daily_cache",), State.DONE),
        (("team_defense", "daily_cache"), State.DONE),
        (("daily_cache", "player_shot"), State.DEGRADED),
    ],
)
def test_an_absent_optional_block_costs_no_point_and_no_state(
    season: Season, blocks: tuple[str, ...], state: State
) -> None:
    with season.spoiled(NIGHT, lost(*blocks)) as sources:
        outcome = assert_built_as_worked_out(season, ASKED, sources)

    assert state is outcome.report.earned_state
    assert (outcome.report.severity is None) == (state is State.DONE)


@pytest.mark.parametrize("forced", [False, True])
def test_an_optional_block_with_rows_counts_like_any_other(season: Season, forced: bool) -> None:
    half = (PHASE4["daily_cache"], "DELETE FROM {} WHERE analysis_date = ? AND player_id % 2 = 0", [NIGHT])
    with season.spoiled(NIGHT, [half]) as sources:
        whole = assert_built_as_worked_out(season, replace(ASKED, forced=forced), sources)
        required = assert_built_as_worked_out(season, replace(ASKED, forced=forced, optional=frozenset()), sources)

    assert whole.report == required.report
    assert whole.report.fallback_rate > 0


def test_an_optional_table_that_is_gone_is_told_as_a_note(season: Season) -> None:
    table = PHASE4["daily_cache"]
    with season.warehouse.writing("dropping a table") as cursor:
        cursor.execute(f"DROP TABLE {table}")
    outcome = season.build(ASKED)
    with season.warehouse.writing("restoring the table") as cursor:
        cursor.execute(f"CREATE TABLE {table} AS FROM kept.{table.partition('.')[2]}")

    assert (State.DONE, None) == (outcome.report.earned_state, outcome.report.severity)
    assert [(Check.TABLE_UNUSABLE, FindingSeverity.NOTE)] == [
        (finding.check, finding.severity) for finding in outcome.report.findings or ()
    ]


@pytest.mark.parametrize("absent", [True, False])
def test_a_date_without_an_optional_processor_is_done_at_its_deadline(
    absent: bool, tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = DEFINITION.read_text("utf-8").replace('name = "weather"\n', 'name = "weather"\nrequired = false\n', 1)
    (tmp_path / "grid.toml").write_text(text, "utf-8")
    monkeypatch.setenv("MLFS_PIPELINE", str(tmp_path / "grid.toml"))
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MLFS_REDIS_URL", valkey_url)
    optional, *required = MODELS
    with GridDay(valkey_url) as grid:
        grid.put_all(but=optional if absent else "")
        for model in required:
            grid.push(model)
        waiting = grid.tick()
        grid.clock.instant = DEADLINE
        built = grid.tick()
        grid.push(optional)
        held = grid.tick()
        rows = grid.query("SELECT * FROM grid_out.day_ahead")
        [(_topic, told)] = grid.outcomes()

    assert ([], [("done", 1)], []) == (waiting, built, held)
    assert {100.0} == {row["quality_score"] for row in rows}
    assert {"phase3" if absent else "phase4"} == {row["weather_source"] for row in rows}
    assert (100.0, 0.0) == (told["quality_score"], told["fallback_rate"])
