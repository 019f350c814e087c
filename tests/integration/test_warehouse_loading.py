"""Parquet folders and single nights into the embedded warehouse, and what is refused on the way."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pytest

from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.errors import Refused, SchemaDrift, SourceGone
from worker.features.model import Statement
from worker.local.parquet_folder import (
    dates_in,
    delete_slice,
    link_parquet_folder,
    load_parquet_folder,
    load_parquet_slice,
    write_night,
    write_without,
)

NIGHT = date(2024, 12, 15)
CACHE = "nba_precompute.player_daily_cache"
LIST = "nba_raw.nbac_player_list"


@pytest.fixture
def warehouse() -> Iterator[DuckDbWarehouse]:
    opened = DuckDbWarehouse(":memory:")
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "it's data"
    made.mkdir()
    (made / "README.md").write_text("not a table")
    nights = (
        "SELECT DATE '2024-12-15' + (i // 2)::INTEGER AS analysis_date, i AS player_id, 1.5 AS ppg FROM range(4) t(i)"
    )
    write(made / f"{CACHE}.parquet", nights)
    write(made / f"{LIST}.parquet", "SELECT DATE '2024-12-15' AS snapshot_date, 7 AS player_id")
    return made


def write(path: Path, select: str) -> None:
    duckdb.sql(select).write_parquet(str(path))


def rows(warehouse: DuckDbWarehouse, table: str) -> int:
    sql = "SELECT COUNT(*) AS n FROM that_table".replace("that_table", table)
    return int(warehouse.query(Statement(name="count", sql=sql))[0]["n"])


def test_a_folder_becomes_tables(warehouse: DuckDbWarehouse, folder: Path) -> None:
    assert load_parquet_folder(warehouse, folder) == [(CACHE, 4), (LIST, 1)]
    assert (rows(warehouse, CACHE), rows(warehouse, LIST)) == (4, 1)


def test_loading_again_replaces(warehouse: DuckDbWarehouse, folder: Path) -> None:
    load_parquet_folder(warehouse, folder)
    write(folder / f"{LIST}.parquet", "SELECT 'another type' AS snapshot_date")

    assert load_parquet_folder(warehouse, folder) == [(CACHE, 4), (LIST, 1)]
    assert warehouse.columns(LIST) == {"snapshot_date": "STRING"}


def test_a_table_can_be_loaded_empty(warehouse: DuckDbWarehouse, folder: Path) -> None:
    assert load_parquet_folder(warehouse, folder, structure_only={CACHE}) == [(CACHE, 0), (LIST, 1)]
    assert warehouse.columns(CACHE)["player_id"] == "INT64"


def test_a_night_is_played_and_played_again(warehouse: DuckDbWarehouse, folder: Path) -> None:
    load_parquet_folder(warehouse, folder, structure_only={CACHE})
    file = folder / f"{CACHE}.parquet"

    assert load_parquet_slice(warehouse, file, NIGHT) == (CACHE, 2)
    assert load_parquet_slice(warehouse, file, NIGHT) == (CACHE, 2)
    assert rows(warehouse, CACHE) == 2


def test_a_night_creates_its_table(warehouse: DuckDbWarehouse, folder: Path) -> None:
    assert load_parquet_slice(warehouse, folder / f"{LIST}.parquet", NIGHT, date_column="snapshot_date") == (LIST, 1)


def test_a_night_is_deleted_alone(warehouse: DuckDbWarehouse, folder: Path) -> None:
    load_parquet_folder(warehouse, folder)

    assert delete_slice(warehouse, CACHE, NIGHT) == 2
    assert delete_slice(warehouse, CACHE, NIGHT) == 0
    assert rows(warehouse, CACHE) == 2


def test_a_night_with_other_columns_is_drift(warehouse: DuckDbWarehouse, folder: Path) -> None:
    load_parquet_folder(warehouse, folder)
    file = folder / f"{CACHE}.parquet"
    write(file, "SELECT DATE '2024-12-15' AS analysis_date, 1 AS player_id, 1.5 AS points_per_game")

    with pytest.raises(SchemaDrift, match="points_per_game"):
        load_parquet_slice(warehouse, file, NIGHT)

    assert rows(warehouse, CACHE) == 4


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMPTZ"])
def test_a_timestamp_without_a_zone_is_utc(warehouse: DuckDbWarehouse, tmp_path: Path, kind: str) -> None:
    text = "2024-12-15 23:05:00+00" if kind == "TIMESTAMPTZ" else "2024-12-15 23:05:00"
    write(tmp_path / f"{CACHE}.parquet", f"SELECT '{text}'::{kind} AS processed_at")

    load_parquet_folder(warehouse, tmp_path)

    assert warehouse.columns(CACHE) == {"processed_at": "TIMESTAMP"}
    [row] = warehouse.query(Statement(name="instant", sql="SELECT processed_at FROM nba_precompute.player_daily_cache"))
    assert row["processed_at"].isoformat() == "2024-12-15T23:05:00+00:00"


@pytest.mark.parametrize(
    "name", ["players.parquet", "a.b.c.parquet", "nba raw.list.parquet", "nba_raw.drop table.parquet", ".parquet"]
)
def test_a_file_that_is_named_after_no_table_is_refused(warehouse: DuckDbWarehouse, folder: Path, name: str) -> None:
    write(folder / "x.parquet", "SELECT 1 AS x")
    (folder / "x.parquet").rename(folder / name)
    if name == ".parquet":  # a hidden file without an ending is left alone
        assert len(load_parquet_folder(warehouse, folder)) == 2
        return

    with pytest.raises(Refused, match=name):
        load_parquet_folder(warehouse, folder)

    assert warehouse.columns(CACHE) == {}


def test_the_workers_own_tables_are_not_loaded(warehouse: DuckDbWarehouse, folder: Path) -> None:
    write(folder / "nba_predictions.ml_feature_store_v2_ledger.parquet", "SELECT 1 AS x")

    with pytest.raises(Refused, match="only the worker writes"):
        load_parquet_folder(warehouse, folder)


def test_the_workers_own_tables_are_known_in_any_spelling(warehouse: DuckDbWarehouse, folder: Path) -> None:
    shutil.copy(next(folder.glob("*.parquet")), folder / "NBA_Predictions.ML_Feature_Store_V2.parquet")

    with pytest.raises(Refused, match="which only the worker writes"):
        load_parquet_folder(warehouse, folder)


def test_two_spellings_of_one_table_are_refused(warehouse: DuckDbWarehouse, folder: Path) -> None:
    file = next(folder.glob("*.parquet"))
    shutil.copy(file, folder / f"{file.name.removesuffix('.parquet').upper()}.parquet")

    with pytest.raises(Refused, match="compared without case"):
        load_parquet_folder(warehouse, folder)


def test_hidden_files_are_left_out(warehouse: DuckDbWarehouse, folder: Path) -> None:
    before = load_parquet_folder(warehouse, folder)
    for name in ("._x.parquet", ".DS_Store", ".nba_raw.nbac_schedule.parquet"):
        (folder / name).write_bytes(b"x")

    assert load_parquet_folder(warehouse, folder) == before
    assert link_parquet_folder(warehouse, folder) == before


def test_an_unreadable_file_is_named_and_nothing_is_loaded(warehouse: DuckDbWarehouse, folder: Path) -> None:
    (folder / "nba_raw.zzz.parquet").write_bytes(b"PAR1 but not really")

    with pytest.raises(SchemaDrift, match=r"nba_raw\.zzz\.parquet cannot be read as Parquet"):
        load_parquet_folder(warehouse, folder)

    assert warehouse.columns(CACHE) == {}


def test_a_truncated_file_is_named_and_the_old_table_stays(warehouse: DuckDbWarehouse, folder: Path) -> None:
    load_parquet_folder(warehouse, folder)
    file = folder / f"{CACHE}.parquet"
    file.write_bytes(file.read_bytes()[:-20])

    with pytest.raises(SchemaDrift, match="cannot be read as Parquet"):
        load_parquet_slice(warehouse, file, NIGHT)

    assert rows(warehouse, CACHE) == 4


def test_a_folder_that_is_none_is_refused(warehouse: DuckDbWarehouse, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is not a folder"):
        load_parquet_folder(warehouse, tmp_path / "nowhere")


def test_a_folder_without_parquet_is_refused(warehouse: DuckDbWarehouse, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"holds no \.parquet file"):
        load_parquet_folder(warehouse, tmp_path)


@pytest.mark.parametrize("table", ["players", "a.b.c", "a.b; DROP TABLE c", ""])
def test_a_name_that_is_none_is_refused(warehouse: DuckDbWarehouse, table: str) -> None:
    with pytest.raises(Refused):
        delete_slice(warehouse, table, NIGHT)


def test_a_linked_folder_is_read_as_it_is_now(warehouse: DuckDbWarehouse, folder: Path) -> None:
    linked = link_parquet_folder(warehouse, folder)
    before = rows(warehouse, CACHE)
    # A reader that looked at size and time alone would miss some of these.
    seen = []
    for i in range(20):
        write(folder / "aside", f"SELECT DATE '2024-12-15' AS analysis_date, {i} AS player_id, 1.5 AS ppg")
        (folder / "aside").replace(folder / f"{CACHE}.parquet")
        statement = Statement(name="look", sql="SELECT player_id FROM nba_precompute.player_daily_cache")
        seen.append(warehouse.query(statement)[0]["player_id"])

    assert [(CACHE, 4), (LIST, 1)] == linked
    assert (4, list(range(20))) == (before, seen)
    assert {"analysis_date": "DATE", "player_id": "INT64", "ppg": "NUMERIC"} == warehouse.columns(CACHE)


def test_linking_and_loading_replace_each_other(warehouse: DuckDbWarehouse, folder: Path) -> None:
    load_parquet_folder(warehouse, folder)
    link_parquet_folder(warehouse, folder)
    link_parquet_folder(warehouse, folder)
    load_parquet_folder(warehouse, folder)
    (folder / f"{CACHE}.parquet").unlink()

    assert (4, 1) == (rows(warehouse, CACHE), rows(warehouse, LIST))


def test_a_folder_is_linked_whole_or_not_at_all(warehouse: DuckDbWarehouse, folder: Path) -> None:
    load_parquet_folder(warehouse, folder)
    (folder / "nba_raw.zzz.parquet").write_text("no parquet")

    with pytest.raises(SchemaDrift, match=r"zzz\.parquet"):
        link_parquet_folder(warehouse, folder)
    (folder / f"{CACHE}.parquet").unlink()
    assert 4 == rows(warehouse, CACHE)


def test_a_linked_file_that_is_gone_is_named_with_its_table_and_the_next_step(
    warehouse: DuckDbWarehouse, folder: Path
) -> None:
    link_parquet_folder(warehouse, folder)
    file = folder / f"{CACHE}.parquet"
    aside = file.rename(folder / "aside")

    with pytest.raises(SourceGone) as gone:
        rows(warehouse, CACHE)

    assert str(gone.value) == (
        f"running count: the file {file}, to which the table {CACHE} is linked, is gone; put the file back, or "
        "link the new folder: mlfs load DIR --link"
    )
    assert 1 == rows(warehouse, LIST)
    aside.rename(file)
    assert 4 == rows(warehouse, CACHE)


def test_a_linked_file_without_a_column_that_is_read_is_told_in_one_line(
    warehouse: DuckDbWarehouse, folder: Path
) -> None:
    link_parquet_folder(warehouse, folder)
    write(folder / f"{CACHE}.parquet", "SELECT DATE '2024-12-15' AS analysis_date, 1 AS player_id, 2 AS points")

    with pytest.raises(SchemaDrift, match='"ppg" not found') as drifted:
        warehouse.query(Statement(name="look", sql="SELECT ppg FROM nba_precompute.player_daily_cache"))

    assert 1 == len(str(drifted.value).splitlines())


def test_a_night_is_written_into_an_upstream_file_and_nothing_else_changes(folder: Path, tmp_path: Path) -> None:
    source, target = folder / f"{CACHE}.parquet", tmp_path / f"{CACHE}.parquet"
    nights = dates_in(source)
    write_without(target, source, nights[1:])
    held = dates_in(target)

    written = [write_night(target, source, nights[1]) for _ in range(2)]

    assert nights[:1] == held
    assert [2, 2] == written
    assert (
        duckdb.sql(f"FROM '{quote(source)}' ORDER BY ALL").fetchall()
        == duckdb.sql(f"FROM '{quote(target)}' ORDER BY ALL").fetchall()
    )
    assert [target.name] == [path.name for path in tmp_path.iterdir() if path.is_file()]


def quote(path: Path) -> str:
    return str(path).replace("'", "''")
