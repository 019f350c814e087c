"""`mlfs load` looks at the files at once: missing columns, other types, empty, absent and unread tables, dates."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ops.cli import app
from tests.support.league import sample_folder
from worker.errors import Refused, SchemaDrift
from worker.features.pipeline import Pipeline
from worker.local.folder_check import check_folder, folder_findings
from worker.pipelines.files import shipped_pipeline

CACHE = "nba_precompute.player_daily_cache"
FACTORS = "nba_precompute.player_composite_factors"
ROSTER = "nba_raw.nbac_player_list"
SCHEDULE = "nba_raw.nbac_schedule"

Load = Callable[..., Any]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return shipped_pipeline()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tables that builds read; the sample has further tables."""
    copied = Path(shutil.copytree(sample_folder(), tmp_path / "in"))
    for file in copied.iterdir():
        if file.stem not in shipped_pipeline().upstream:
            file.unlink()
    return copied


@pytest.fixture
def load(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Load:
    """The command on the folder; returns the JSON."""
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path / "data"))

    def command(*options: str, code: int = 0) -> Any:
        ended = app(["load", str(folder), "--json", *options], standalone_mode=False) or 0
        shown = capsys.readouterr().out
        assert code == ended, shown
        return json.loads(shown)

    return command


def edit(folder: Path, table: str, select: str) -> None:
    """Replace a file by a SELECT from the file, which the SELECT calls `held`."""
    file = folder / f"{table}.parquet"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE VIEW held AS SELECT * FROM '{file}'")  # noqa: S608 -- of the test
        connection.execute(f"COPY ({select}) TO '{folder}/aside' (FORMAT parquet)")
    (folder / "aside").replace(file)


def findings(folder: Path, pipeline: Pipeline, kept: dict[str, dict[str, str]] | None = None) -> list[tuple[str, ...]]:
    found = folder_findings(check_folder(folder, pipeline), pipeline, kept or {})
    return [(one.severity.value, one.check, one.subject, one.observed) for one in found]


def test_a_usual_folder_has_no_finding(folder: Path, pipeline: Pipeline) -> None:
    assert [] == findings(folder, pipeline)


def test_a_renamed_column_is_named_with_the_name_that_is_there(folder: Path, pipeline: Pipeline) -> None:
    edit(folder, CACHE, "SELECT * RENAME (season_avg_ppg AS season_ppg) FROM held")

    assert [
        ("warning", "column_missing", f"{CACHE}.season_avg_ppg", "no such column; season_ppg is there")
    ] == findings(folder, pipeline)


def test_text_for_numbers_is_named_with_the_first_value(folder: Path, pipeline: Pipeline) -> None:
    edit(folder, CACHE, "SELECT * REPLACE ('about ' || season_avg_ppg AS season_avg_ppg) FROM held ORDER BY player_id")
    with duckdb.connect() as connection:
        sql = f"SELECT season_avg_ppg FROM '{folder / CACHE}.parquet' WHERE season_avg_ppg IS NOT NULL"  # noqa: S608
        first = connection.execute(sql).fetchall()[0][0]

    assert [
        (
            "warning",
            "column_retyped",
            f"{CACHE}.season_avg_ppg",
            f"STRING, first value that is no FLOAT64: {first}",
        )
    ] == findings(folder, pipeline)


def test_a_value_that_does_not_fit_is_named(folder: Path, pipeline: Pipeline) -> None:
    edit(
        folder,
        FACTORS,
        "SELECT * REPLACE (analysis_date + CASE WHEN player_id % 2 = 0 THEN INTERVAL 0 HOUR ELSE INTERVAL 5 HOUR END "
        "AS analysis_date) FROM held WHERE analysis_date = DATE '2024-12-15'",
    )

    assert [
        (
            "warning",
            "column_retyped",
            f"{FACTORS}.analysis_date",
            "TIMESTAMP without time zone, first value that is no DATE: 2024-12-15 05:00:00",
        )
    ] == findings(folder, pipeline)


def test_a_conversion_is_said(folder: Path, pipeline: Pipeline) -> None:
    edit(
        folder,
        FACTORS,
        "SELECT * REPLACE (analysis_date::TIMESTAMP AS analysis_date, player_id::UBIGINT AS player_id) FROM held",
    )

    [(severity, check, subject, observed)] = findings(folder, pipeline)

    assert ("note", "column_converted", FACTORS) == (severity, check, subject)
    assert observed == (
        "converted: analysis_date from TIMESTAMP without time zone to DATE, player_id from UBIGINT to INT64"
    )


def test_names_of_columns_and_tables_are_compared_without_case(folder: Path, pipeline: Pipeline) -> None:
    edit(folder, FACTORS, "SELECT * RENAME (player_id AS Player_ID, analysis_date AS ANALYSIS_DATE) FROM held")
    (folder / f"{FACTORS}.parquet").rename(folder / f"{FACTORS.upper()}.parquet")

    assert [] == findings(folder, pipeline)
    assert {FACTORS.upper(): 3} == {
        file.table: file.dates[2]
        for file in check_folder(folder, pipeline)
        if file.dates and file.table.casefold() == FACTORS
    }


def test_empty_absent_and_unread_tables_are_said(folder: Path, pipeline: Pipeline) -> None:
    edit(folder, CACHE, "SELECT * FROM held WHERE false")
    (folder / f"{FACTORS}.parquet").unlink()
    (folder / f"{SCHEDULE}.parquet").rename(folder / "nba_raw.nbac_shedule.parquet")

    assert [
        ("warning", "table_absent", FACTORS, "no file in the folder; builds do without"),
        ("warning", "table_empty", CACHE, "0 rows"),
        ("note", "table_absent", SCHEDULE, "no file in the folder; the warehouse keeps the table of before"),
        ("note", "table_unread", "1 table", "no build reads nba_raw.nbac_shedule"),
    ] == sorted(
        findings(folder, pipeline, kept={SCHEDULE: {"game_id": "STRING"}}), key=lambda row: (row[0] == "note", *row[1:])
    )


def test_the_roster_alone_is_indispensable(folder: Path, load: Load) -> None:
    edit(folder, ROSTER, "SELECT * RENAME (player_id AS person_id) FROM held")

    answer = load(code=1)

    assert [("critical", f"{ROSTER}.player_id")] == [
        (finding["severity"], finding["subject"]) for finding in answer["findings"]
    ]
    assert answer["loaded"]


def test_warnings_stop_nothing_and_lie_in_the_json(folder: Path, load: Load) -> None:
    edit(folder, CACHE, "SELECT * EXCLUDE (season_avg_ppg) FROM held")

    answer = load()

    [finding] = answer["findings"]
    assert ["check", "severity", "subject", "observed", "expected", "next_step"] == list(finding)
    assert f"write season_avg_ppg in {CACHE}.parquet, and load again" == finding["next_step"]
    assert {"first": "2024-12-13", "last": "2024-12-15", "count": 3} == answer["dates"][CACHE]
    assert set(answer["tables"]) == set(answer["dates"]) == {path.stem for path in folder.iterdir()}


def test_a_table_of_an_earlier_load_is_kept(folder: Path, load: Load) -> None:
    load()
    for path in folder.iterdir():
        if path.stem != CACHE:
            path.unlink()

    answer = load()

    assert {"note"} == {finding["severity"] for finding in answer["findings"]}
    assert {"table_absent"} == {finding["check"] for finding in answer["findings"]}


def test_a_check_loads_nothing(folder: Path, tmp_path: Path, load: Load) -> None:
    edit(folder, CACHE, "SELECT * EXCLUDE (season_avg_ppg) FROM held")

    answer = load("--check")

    assert (False, ["column_missing"]) == (answer["loaded"], [finding["check"] for finding in answer["findings"]])
    assert not (tmp_path / "data").exists()
    with pytest.raises(Refused, match="one of the two"):
        load("--check", "--link")


def test_a_file_that_is_no_parquet_is_named_and_nothing_is_loaded(folder: Path, tmp_path: Path, load: Load) -> None:
    (folder / "nba_raw.zzz.parquet").write_text("id,name\n1,x\n")

    with pytest.raises(SchemaDrift, match=r"nba_raw\.zzz\.parquet cannot be read as Parquet"):
        load()

    assert not (tmp_path / "data" / "warehouse.duckdb").exists()


def test_findings_are_shown_with_whole_names(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(folder, CACHE, "SELECT * RENAME (season_avg_ppg AS season_ppg) FROM held")
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path / "data"))
    app(["load", str(folder), "--check"], standalone_mode=False)

    shown = capsys.readouterr().out
    assert f"{CACHE}.season_avg_ppg" in shown
    assert "2024-12-13  2024-12-15" in shown
    assert "checked only" in shown
