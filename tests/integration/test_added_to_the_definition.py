"""A feature is one entry of the definition, a processor one block with its features: no other file is touched.

Each is added to a copy by the steps of CONTRIBUTING.md and played: every cell, source and score is worked out a second
time, and `mlfs lineage` explains the new cell.
"""

from datetime import date
from pathlib import Path

import pytest

import worker.features
from tests.support.faulty_nights import Season, assert_built_as_worked_out
from tests.support.grid_day import DAY, DEFINITION, MODELS, VALUES, ZONES, GridDay
from tests.support.recomputed import CELLS, COLUMNS, DEFENSE, FALLBACK, GAMES, PHASE4, Question
from worker.features.model import CellSource
from worker.lineage.row import trace_row
from worker.pipelines.files import read_pipeline
from worker.pipelines.shipped import SHIPPED

NIGHT = date(2024, 12, 15)
SHIPPED_FILE = Path(worker.features.__file__).with_name("pipeline.toml")
FEATURE = """
[[features]]
name = "{name}"
unit = "as upstream has it"
block = "{block}"
phase3_table = "{phase3_table}"
"""
PROCESSOR = """
[[blocks]]
name = "solar"
processor = "solar_curves"
table = "grid_models.solar_curves"
key = "zone_code"

[[features]]
name = "solar_mw"
unit = "megawatts"
block = "solar"
phase3_table = "grid_history.observations"
"""


NEW = (
    ("turnover_rate", "composite", GAMES),
    ("corner_three_attempt_rate", "player_shot", GAMES),
    ("last_5_games_rpg", "daily_cache", GAMES),
    ("opponent_pace", "team_defense", DEFENSE),
)
"""A feature for each block, of columns that upstream has."""


@pytest.mark.parametrize(("name", "block", "phase3_table"), [new for new in NEW if new[0] not in FALLBACK])
def test_a_feature_is_one_entry(
    name: str, block: str, phase3_table: str, tmp_path: Path, sample_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SHIPPED_FILE.read_text("utf-8") + FEATURE.format(name=name, block=block, phase3_table=phase3_table)
    (tmp_path / "pipeline.toml").write_text(text, "utf-8")
    for values, key in ((CELLS, block), (COLUMNS, phase3_table), (COLUMNS, PHASE4[block])):
        monkeypatch.setitem(values, key, [*values[key], name])
    monkeypatch.setitem(FALLBACK, name, phase3_table)
    season = Season(sample_folder, read_pipeline(tmp_path))
    gone = [(PHASE4[block], "UPDATE {} SET " + name + " = NULL WHERE hash(processed_at, " + name + ") % 3 = 0", [])]  # noqa: S608 -- of this file

    whole = assert_built_as_worked_out(season, Question(night=NIGHT), season.sources)
    with season.spoiled(NIGHT, gone) as sources:
        assert_built_as_worked_out(season, Question(night=NIGHT), sources)
        rows = season.published(NIGHT)
        fallen_back = next(player for player, row in rows.items() if name in row["phase3_features"])
        traced = trace_row(season.warehouse, NIGHT, fallen_back)
    assert ["pipeline.toml"] == [file.name for file in tmp_path.iterdir()], "one file is the whole change"
    assert (4, len(SHIPPED.features_of(block)) + 1) == (len(whole.stats.blocks), whole.stats.blocks[block].cells_each)
    assert max(row["quality_score"] for row in rows.values()) <= 100
    [cell] = [feature for feature in traced.features if feature.name == name]
    assert (CellSource.PHASE3, phase3_table, None) == (cell.source, cell.source_table, cell.changed)
    season.warehouse.close()


def test_a_processor_is_one_block_with_its_features(
    tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(DEFINITION.read_text("utf-8") + PROCESSOR, "utf-8")
    monkeypatch.setenv("MLFS_PIPELINE", str(file))
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MLFS_REDIS_URL", valkey_url)
    with GridDay(valkey_url) as grid:
        grid.put_all()
        for model in MODELS:
            grid.push(model)
        waiting = grid.tick()
        grid.put("grid_models.solar_curves", zones=ZONES[:3])
        grid.push("solar_curves")
        built = grid.tick()
        rows = grid.query("SELECT * FROM grid_out.day_ahead ORDER BY zone_code")
        [(_topic, told)] = grid.outcomes()
        [counted] = grid.query("SELECT * FROM grid_out.day_ahead_inputs")

    assert ([], [("degraded", 1)]) == (waiting, built)
    assert [(VALUES["solar_mw"], source) for source in ("phase4",) * 3 + ("phase3",)] == [
        (row["solar_mw"], row["solar_source"]) for row in rows
    ]
    # One block of four from Phase 3: a quarter of the row, which costs ten points.
    assert [100.0, 100.0, 100.0, 90.0] == [row["quality_score"] for row in rows]
    assert 1 / 16 == told["fallback_rate"]
    assert (True, 3) == (counted["solar_available"], counted["solar_rows"])
    assert str(DAY) == told["analysis_date"]
