"""Linked files are looked at as they are now; names of folders are names; what was wrong once is right at once."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statemachine.model import State
from tests.support.league import SATURDAY, SUNDAY, League, sample_folder
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.errors import Refused, SchemaDrift, SourceGone
from worker.features.model import Statement
from worker.local.parquet_folder import (
    dates_in,
    link_parquet_folder,
    load_parquet_folder,
    write_night,
)

CACHE = "nba_precompute.player_daily_cache"
FACTORS = "nba_precompute.player_composite_factors"
NAIVE = "processed_at::TIMESTAMP AS processed_at"
WRITER = duckdb.connect()
WRITER.execute("SET TimeZone = 'UTC'")
Bring = Callable[[DuckDbWarehouse, Path], object]
BRING: list[Bring] = [load_parquet_folder, link_parquet_folder]


@pytest.fixture
def warehouse() -> Iterator[DuckDbWarehouse]:
    opened = DuckDbWarehouse(":memory:")
    yield opened
    opened.close()


@pytest.fixture
def league(tmp_path: Path) -> Iterator[League]:
    """A league whose tables are linked to `tmp_path`."""
    made = League()
    shutil.copytree(sample_folder(), tmp_path, dirs_exist_ok=True)
    link_parquet_folder(made.warehouse, tmp_path)
    yield made
    made.warehouse.close()


def write(path: Path, select: str) -> None:
    """Write a file and move the file into place, as a processor does."""
    WRITER.execute(f"COPY ({select}) TO '{path.parent}/.aside' (FORMAT parquet)")
    (path.parent / ".aside").replace(path)


def edit(path: Path, changes: str) -> None:
    write(path, f"SELECT * {changes} FROM '{path}'")  # noqa: S608 -- of the test


def look(warehouse: DuckDbWarehouse, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in warehouse.query(Statement(name="look", sql=sql))]


def test_a_file_that_was_wrong_once_is_right_at_once(league: League, tmp_path: Path) -> None:
    """A timestamp without zone is read as UTC the first night and the second, and the file of before is fine again."""
    file = tmp_path / f"{FACTORS}.parquet"
    league.build(SUNDAY)
    usual = league.published(SUNDAY)
    shutil.copy(file, tmp_path / "good")

    edit(file, f"REPLACE ({NAIVE})")
    drifted = [league.build(SUNDAY, generation) for generation in (2, 3)]
    (tmp_path / "good").replace(file)
    repaired = [league.build(SUNDAY, 4), league.build(SATURDAY)]

    assert {State.DONE} == {built.report.earned_state for built in (*drifted, *repaired)}
    assert {99.6} == {built.report.quality_score for built in (*drifted, *repaired[:1])}
    versions = {"build_generation", "build_id"}
    assert [without(row, versions) for row in usual.values()] == [
        without(row, versions) for row in league.published(SUNDAY).values()
    ]


def without(row: object, names: set[str]) -> dict[str, object]:
    assert isinstance(row, dict)
    return {name: value for name, value in row.items() if name not in names}


def test_the_columns_of_a_link_are_those_of_the_file_now(warehouse: DuckDbWarehouse, tmp_path: Path) -> None:
    file = tmp_path / f"{CACHE}.parquet"
    seen = []
    for columns in (
        "1::BIGINT AS player_id, 1.5::DOUBLE AS season_avg_ppg",
        "1::UBIGINT AS player_id, 1.5::DOUBLE AS season_avg_ppg",
        "'x' AS player_id, 1.5::DOUBLE AS season_avg_ppg",
        "2.5::DOUBLE AS season_avg_ppg",
        "7::BIGINT AS player_id, 2.5::DOUBLE AS season_avg_ppg, 1 AS added",
        "1::BIGINT AS player_id, 1.5::DOUBLE AS season_avg_ppg",
    ):
        write(file, f"SELECT {columns}")
        if not seen:
            link_parquet_folder(warehouse, tmp_path)
        seen.append(dict(warehouse.columns(CACHE)))

    usual = {"player_id": "INT64", "season_avg_ppg": "FLOAT64"}
    assert [
        usual,
        usual,
        {"player_id": "STRING", "season_avg_ppg": "FLOAT64"},
        {"season_avg_ppg": "FLOAT64"},
        {**usual, "added": "INT64"},
        usual,
    ] == seen
    assert [(1, 1.5)] == look(warehouse, f"SELECT player_id, season_avg_ppg FROM {CACHE}")  # noqa: S608


def test_a_linked_column_that_nobody_reads_may_go(league: League, tmp_path: Path) -> None:
    edit(tmp_path / f"{FACTORS}.parquet", "EXCLUDE (games_played)")

    built = league.build(SUNDAY)

    assert (State.DONE, 99.6) == (built.report.earned_state, built.report.quality_score)


def test_a_converted_column_that_nobody_reads_may_go(warehouse: DuckDbWarehouse, tmp_path: Path) -> None:
    """Between two validations, too: a statement that fails looks at the files and runs again."""
    file = tmp_path / f"{CACHE}.parquet"
    write(file, "SELECT 1::BIGINT AS player_id, 2::UBIGINT AS days_rest")
    link_parquet_folder(warehouse, tmp_path)

    write(file, "SELECT 3::BIGINT AS player_id")

    assert [(3,)] == look(warehouse, f"SELECT player_id FROM {CACHE}")  # noqa: S608


def test_a_value_that_does_not_fit_any_more_changes_no_value(warehouse: DuckDbWarehouse, tmp_path: Path) -> None:
    """The new file has the same types, so only the values tell that the conversion does not hold."""
    file = tmp_path / f"{CACHE}.parquet"
    write(file, "SELECT 1.0::DOUBLE AS player_id")
    link_parquet_folder(warehouse, tmp_path)
    before = look(warehouse, f"SELECT player_id FROM {CACHE}")  # noqa: S608

    write(file, "SELECT 1.5::DOUBLE AS player_id")

    assert ([(1,)], [(1.5,)]) == (before, look(warehouse, f"SELECT player_id FROM {CACHE}"))  # noqa: S608
    assert {"player_id": "FLOAT64"} == warehouse.columns(CACHE)


@pytest.mark.parametrize("spoil", ["gone", "half"])
def test_a_linked_file_that_cannot_be_read_has_no_columns_until_it_can(
    warehouse: DuckDbWarehouse, tmp_path: Path, spoil: str
) -> None:
    file = tmp_path / f"{CACHE}.parquet"
    write(file, "SELECT 1::BIGINT AS player_id")
    link_parquet_folder(warehouse, tmp_path)
    whole = file.read_bytes()
    if spoil == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-20])

    spoilt = warehouse.columns(CACHE)
    file.write_bytes(whole)

    assert ({}, {"player_id": "INT64"}) == (spoilt, warehouse.columns(CACHE))


def test_another_spelling_of_a_table_is_the_table(warehouse: DuckDbWarehouse, tmp_path: Path) -> None:
    file = tmp_path / f"{CACHE.upper()}.parquet"
    write(file, "SELECT 1::UBIGINT AS Player_ID")
    for bring in (*BRING, *BRING):
        bring(warehouse, tmp_path)
        assert {"Player_ID": "INT64"} == warehouse.columns(CACHE)


NASTY = st.text(st.sampled_from("ab*?[]{}!^-#%&=~'\";:$@+,é \n"), min_size=1, max_size=8).filter(
    lambda name: name not in {"~", "."}
)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes, DuckDbWarehouse]]:
    """A folder of folders that a pattern would match, the bytes of a file with two nights, a warehouse."""
    around = tmp_path_factory.mktemp("names")
    write(around / "other", "SELECT DATE '1999-09-09' AS analysis_date, 9::BIGINT AS player_id")
    days = "SELECT DATE '2024-12-14' + i::INTEGER AS analysis_date, 7::BIGINT AS player_id FROM range(2) t(i)"
    write(around / "wanted", days)
    for other in ("a", "ab", "b", "aa"):
        (around / other).mkdir()
        shutil.copy(around / "other", around / other / f"{CACHE}.parquet")
    warehouse = DuckDbWarehouse(":memory:")
    yield around, (around / "wanted").read_bytes(), warehouse
    warehouse.close()


@settings(max_examples=20)
@given(name=NASTY)
@example(name="analysis_date=2024-12-16")
@example(name="player_id=1")
@example(name="[ab]")
@example(name="a*")
@example(name="??")
@example(name="run#1")
@example(name="100%41")
def test_the_name_of_a_folder_is_a_name(crowd: tuple[Path, bytes, DuckDbWarehouse], name: str) -> None:
    around, wanted, warehouse = crowd
    folder = around / f"{name}/"
    if folder.exists():
        return
    folder.mkdir()
    (folder / f"{CACHE}.parquet").write_bytes(wanted)
    for bring in BRING:
        bring(warehouse, folder)

        found = look(warehouse, f"SELECT CAST(analysis_date AS STRING), player_id FROM {CACHE} ORDER BY 1")  # noqa: S608
        assert [("2024-12-14", 7), ("2024-12-15", 7)] == found
        assert {"analysis_date": "DATE", "player_id": "INT64"} == warehouse.columns(CACHE)
    shutil.rmtree(folder)


def test_the_name_of_a_folder_is_a_name_for_a_rehearsal_too(
    crowd: tuple[Path, bytes, DuckDbWarehouse], tmp_path: Path
) -> None:
    file = tmp_path / "analysis_date=2024-12-16, a*[b]" / f"{CACHE}.parquet"
    file.parent.mkdir()
    file.write_bytes(crowd[1])

    assert 1 == write_night(file, file, SUNDAY)
    assert [SATURDAY, SUNDAY] == dates_in(file)


def test_a_file_that_is_gone_is_named_without_the_escapes_of_its_folder(
    warehouse: DuckDbWarehouse, tmp_path: Path
) -> None:
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    write(folder / f"{CACHE}.parquet", "SELECT 1::BIGINT AS player_id")
    link_parquet_folder(warehouse, folder)
    (folder / f"{CACHE}.parquet").unlink()

    with pytest.raises(SourceGone) as gone:
        look(warehouse, f"SELECT player_id FROM {CACHE}")  # noqa: S608

    assert f"the file {folder / CACHE}.parquet, to which" in str(gone.value)


@pytest.mark.parametrize("bring", BRING)
def test_a_folder_that_duckdb_cannot_name_is_refused(warehouse: DuckDbWarehouse, tmp_path: Path, bring: Bring) -> None:
    folder = tmp_path / "a\\b"
    shutil.copytree(sample_folder(), folder)

    with pytest.raises(Refused, match="choose another folder"):
        bring(warehouse, folder)
    assert {} == warehouse.columns(CACHE)


def test_a_link_of_an_earlier_release_is_followed_too(warehouse: DuckDbWarehouse, tmp_path: Path) -> None:
    """Such a view names every column and bears no comment."""
    file = tmp_path / f"{CACHE}.parquet"
    write(file, "SELECT 1::BIGINT AS player_id, 2 AS games_played_season")
    with warehouse.writing("as of an earlier release") as cursor:
        cursor.execute("CREATE SCHEMA nba_precompute")
        cursor.execute(f"CREATE VIEW {CACHE} AS SELECT player_id, games_played_season FROM read_parquet('{file}')")  # noqa: S608

    write(file, "SELECT 5::UBIGINT AS player_id")

    assert [(5,)] == look(warehouse, f"SELECT player_id FROM {CACHE}")  # noqa: S608
    assert {"player_id": "INT64"} == warehouse.columns(CACHE)


def test_a_statement_that_is_wrong_itself_is_told_once(warehouse: DuckDbWarehouse, tmp_path: Path) -> None:
    write(tmp_path / f"{CACHE}.parquet", "SELECT 1::BIGINT AS player_id")
    link_parquet_folder(warehouse, tmp_path)

    with pytest.raises(SchemaDrift, match="no_such_column"):
        look(warehouse, f"SELECT no_such_column FROM {CACHE}")  # noqa: S608
