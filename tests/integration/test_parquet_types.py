"""Types of Parquet files: types that hold the same values are converted, by load and by link; no value changes.

`tests/support/parquet/written_by_pandas.parquet` was written by pandas 3.1.1 with pyarrow 26.0.1 from columns that only
pandas writes so: dates in datetime64, ids in uint64, a category, objects without any value, whole numbers with a NaN,
instants in datetime64[ns, UTC].
"""

import math
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.league import SUNDAY, League, sample_folder
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.features.model import Statement
from worker.local.parquet_folder import link_parquet_folder, load_parquet_folder, load_parquet_slice

FACTORS = "nba_precompute.player_composite_factors"
SHOTS = "nba_precompute.player_shot_zone_analysis"
COLUMN_OF = {
    "INT64": "player_id",
    "FLOAT64": "offensive_rating",
    "STRING": "player_name",
    "DATE": "analysis_date",
    "TIMESTAMP": "processed_at",
    "BOOL": "has_game",
}
WRITER = duckdb.connect()
WRITER.execute("SET TimeZone = 'UTC'")
BRING = [load_parquet_folder, link_parquet_folder]
Bring = Callable[[DuckDbWarehouse, Path], Any]

IN_RANGE = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DAYS = st.dates(date(1700, 1, 1), date(2200, 1, 1))
INSTANTS = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)).map(lambda at: at.replace(tzinfo=UTC, fold=0))  # noqa: DTZ001


def midnight(day: date) -> datetime:
    return datetime.combine(day, time())


def without_zone(at: datetime) -> datetime:
    return at.replace(tzinfo=None)


def same(value: Any) -> Any:
    return value


# Type in the catalogue, type in the file, values in the catalogue's type, and the value for the file.
HELD: list[tuple[str, str, st.SearchStrategy[Any], Callable[[Any], Any]]] = [
    ("INT64", "BIGINT", IN_RANGE, same),
    ("INT64", "UBIGINT", st.integers(0, 2**63 - 1), same),
    ("INT64", "INTEGER", st.integers(-(2**31), 2**31 - 1), same),
    ("INT64", "UTINYINT", st.integers(0, 255), same),
    ("INT64", "DECIMAL(20,0)", IN_RANGE, Decimal),
    ("INT64", "DECIMAL(22,2)", IN_RANGE, Decimal),
    ("INT64", "DOUBLE", st.integers(-(2**53), 2**53), float),
    ("FLOAT64", "DOUBLE", FLOATS, same),
    ("FLOAT64", "FLOAT", st.floats(allow_nan=False, allow_infinity=False, width=32), same),
    ("FLOAT64", "BIGINT", st.integers(-(2**53), 2**53).map(float), int),
    ("FLOAT64", "DECIMAL(9,2)", st.decimals(-1000, 1000, places=2).map(float), lambda value: Decimal(f"{value:.2f}")),
    ("STRING", "VARCHAR", st.text(st.characters(codec="utf-8", exclude_characters="\0")), same),
    ("STRING", "UUID", st.uuids().map(str), same),
    ("DATE", "DATE", DAYS, same),
    ("DATE", "TIMESTAMP", DAYS, midnight),
    ("DATE", "TIMESTAMP_NS", DAYS, midnight),
    ("DATE", "TIMESTAMPTZ", DAYS, lambda day: midnight(day).replace(tzinfo=UTC)),
    ("TIMESTAMP", "TIMESTAMPTZ", INSTANTS, same),
    ("TIMESTAMP", "TIMESTAMPTZ_NS", INSTANTS, same),
    ("TIMESTAMP", "TIMESTAMP", INSTANTS, without_zone),
    ("TIMESTAMP", "TIMESTAMP_NS", INSTANTS, without_zone),
    ("TIMESTAMP", "TIMESTAMP_MS", INSTANTS.map(lambda at: at.replace(microsecond=0)), without_zone),
]


@pytest.fixture(scope="module")
def warehouse() -> Iterator[DuckDbWarehouse]:
    opened = DuckDbWarehouse(":memory:")
    yield opened
    opened.close()


def write(path: Path, select: str, values: dict[str, Any] | None = None) -> None:
    path.parent.mkdir(exist_ok=True)
    WRITER.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)", values or {})


def values_of(warehouse: DuckDbWarehouse, column: str) -> list[Any]:
    rows = warehouse.query(Statement(name="look", sql=f"SELECT {column} FROM {FACTORS}"))  # noqa: S608 -- names of the test
    return [row[column] for row in rows]


@pytest.mark.parametrize(("wanted", "kind", "values", "in_file"), HELD, ids=[f"{row[0]}-from-{row[1]}" for row in HELD])
@settings(max_examples=5)
@given(data=st.data())
def test_types_that_hold_the_same_values_are_read_as_the_type_of_the_catalogue(
    warehouse: DuckDbWarehouse,
    tmp_path_factory: pytest.TempPathFactory,
    wanted: str,
    kind: str,
    values: st.SearchStrategy[Any],
    in_file: Callable[[Any], Any],
    data: st.DataObject,
) -> None:
    expected = data.draw(st.lists(st.one_of(st.none(), values), min_size=3, max_size=9))
    held = [None if value is None else in_file(value) for value in expected]
    path, column = tmp_path_factory.mktemp("types") / f"{FACTORS}.parquet", COLUMN_OF[wanted]
    parts = [f"SELECT CAST($v{at} AS {kind}) AS {column}" for at in range(len(held))]
    write(path, " UNION ALL ".join(parts), {f"v{at}": value for at, value in enumerate(held)})

    for bring in BRING:
        bring(warehouse, path.parent)

        assert {column: wanted} == warehouse.columns(FACTORS)
        # No order of rows is promised.
        assert sorted(map(repr, expected)) == sorted(map(repr, map(in_utc, values_of(warehouse, column))))


def in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@pytest.mark.parametrize("bring", BRING)
def test_a_file_of_pandas_has_the_types_of_the_catalogue(
    warehouse: DuckDbWarehouse, tmp_path: Path, bring: Bring
) -> None:
    written = Path(__file__).parent.parent / "support/parquet/written_by_pandas.parquet"
    shutil.copy(written, tmp_path / f"{FACTORS}.parquet")

    bring(warehouse, tmp_path)

    assert {
        "analysis_date": "DATE",
        "player_id": "INT64",
        "player_name": "STRING",
        "team_abbreviation": "STRING",
        "has_game": "BOOL",
        "games_played": "INT64",
        "offensive_rating": "FLOAT64",
        "usage_rate": "FLOAT64",
        "points_projection": "FLOAT64",
        "processed_at": "TIMESTAMP",
    } == warehouse.columns(FACTORS)
    rows = warehouse.query(Statement(name="look", sql=f"SELECT * FROM {FACTORS} ORDER BY player_id"))  # noqa: S608
    at = datetime(2024, 12, 15, 23, 5, tzinfo=UTC)
    first = [date(2024, 12, 15), 2544, "LeBron James", None, None, 24, 112.5, None, 23.0, at]
    assert first == [in_utc(value) for value in rows[0].values()]
    assert [201939, None] == [rows[1]["player_id"], rows[1]["games_played"]]


@pytest.mark.parametrize("bring", BRING)
@pytest.mark.parametrize("kind", ["DOUBLE", "INTEGER", "VARCHAR", "BLOB"])
@pytest.mark.parametrize("rows", [1, 0])
def test_a_column_without_values_has_the_type_of_the_catalogue(
    warehouse: DuckDbWarehouse, tmp_path: Path, bring: Bring, kind: str, rows: int
) -> None:
    columns = ", ".join(f"CAST(NULL AS {kind}) AS {column}" for column in COLUMN_OF.values())
    write(tmp_path / f"{FACTORS}.parquet", f"SELECT {columns} LIMIT {rows}")

    bring(warehouse, tmp_path)

    assert {column: wanted for wanted, column in COLUMN_OF.items()} == warehouse.columns(FACTORS)
    assert [None] * rows == values_of(warehouse, "player_id")


OTHER_VALUES = [
    ("player_id", "UBIGINT", "18446744073709551615", "NUMERIC"),
    ("player_id", "DOUBLE", "1.5", "FLOAT64"),
    ("player_id", "DECIMAL(20,2)", "1.50", "NUMERIC"),
    ("player_id", "VARCHAR", "'2544'", "STRING"),
    ("offensive_rating", "VARCHAR", "'112.5'", "STRING"),
    ("analysis_date", "TIMESTAMP", "'2024-12-15 23:05:00'", "DATETIME"),
    ("analysis_date", "TIMESTAMPTZ", "'2024-12-15 05:00:00+00'", "TIMESTAMP"),
    ("analysis_date", "VARCHAR", "'2024-12-15'", "STRING"),
    ("has_game", "INTEGER", "1", "INT64"),
]


@pytest.mark.parametrize("bring", BRING)
@pytest.mark.parametrize(("column", "kind", "value", "shown"), OTHER_VALUES)
def test_a_column_with_other_values_keeps_the_type_of_the_file(
    warehouse: DuckDbWarehouse, tmp_path: Path, bring: Bring, column: str, kind: str, value: str, shown: str
) -> None:
    write(tmp_path / f"{FACTORS}.parquet", f"SELECT CAST({value} AS {kind}) AS {column}")

    bring(warehouse, tmp_path)

    assert {column: shown} == warehouse.columns(FACTORS)
    [(expected,)] = WRITER.execute(f"SELECT CAST({value} AS {kind})").fetchall()
    assert [expected] == values_of(warehouse, column)


def test_a_night_of_another_type_goes_into_the_table(warehouse: DuckDbWarehouse, tmp_path: Path) -> None:
    file = tmp_path / f"{FACTORS}.parquet"
    write(file, "SELECT DATE '2024-12-14' AS analysis_date, 1 AS player_id")
    load_parquet_folder(warehouse, tmp_path)
    write(file, "SELECT TIMESTAMP '2024-12-15 00:00:00' AS analysis_date, 2::UBIGINT AS player_id")

    assert (FACTORS, 1) == load_parquet_slice(warehouse, file, date(2024, 12, 15))
    assert [1, 2] == sorted(values_of(warehouse, "player_id"))


def test_a_column_may_have_the_name_of_the_row_number(warehouse: DuckDbWarehouse, tmp_path: Path) -> None:
    write(tmp_path / f"{FACTORS}.parquet", "SELECT 7 AS file_row_number, 1.0::DOUBLE AS player_id")

    load_parquet_folder(warehouse, tmp_path)

    assert {"file_row_number": "INT64", "player_id": "INT64"} == warehouse.columns(FACTORS)


@pytest.fixture(scope="module")
def usual() -> Iterator[dict[int, Any]]:
    league = League()
    league.build(SUNDAY)
    yield cells(league)
    league.warehouse.close()


def cells(league: League) -> dict[int, Any]:
    return {
        player: {name: value for name, value in row.items() if not isinstance(value, float) or not math.isnan(value)}
        for player, row in league.published(SUNDAY).items()
    }


@pytest.mark.parametrize("bring", BRING)
def test_a_night_of_other_types_is_published_without_a_changed_cell(
    usual: dict[int, Any], tmp_path: Path, bring: Bring
) -> None:
    league = League()
    shutil.copytree(sample_folder(), tmp_path, dirs_exist_ok=True)
    retype = {
        FACTORS: "processed_at::TIMESTAMPTZ_NS AS processed_at, player_id::UBIGINT AS player_id",
        SHOTS: "processed_at::TIMESTAMP_NS AS processed_at, player_id::DECIMAL(20,0) AS player_id",
        "nba_raw.nbac_player_list": "snapshot_date::TIMESTAMP AS snapshot_date, player_id::DOUBLE AS player_id",
    }
    for table, columns in retype.items():
        file = tmp_path / f"{table}.parquet"
        write(tmp_path / "aside", f"SELECT * REPLACE ({columns}) FROM '{file}'")  # noqa: S608 -- of the test
        (tmp_path / "aside").replace(file)

    bring(league.warehouse, tmp_path)
    built = league.build(SUNDAY)

    assert built.published
    assert usual == cells(league)
    league.warehouse.close()
