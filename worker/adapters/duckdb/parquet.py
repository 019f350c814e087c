"""SQL that reads Parquet files into DuckDB tables, for `worker.local.parquet_folder`.

Every function works inside the caller's transaction: a crash leaves the tables as before. Names are checked or quoted
here, because DuckDB takes no parameter for a name. Types are kept, except for timestamps without a zone, which are read
as UTC.
"""

import re
from datetime import date
from pathlib import Path

import duckdb

from worker.adapters.duckdb.dialect import quoted
from worker.errors import Refused, SchemaDrift

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

NAIVE_TIMESTAMPS = frozenset({"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"})


def replace_table(cursor: duckdb.DuckDBPyConnection, table: str, path: Path, *, rows_max: int | None = None) -> int:
    """Create or replace `dataset.table` from a file, with at most *rows_max* rows; return the number of rows.

    Raises:
        Refused: *table* is not a valid name.
        SchemaDrift: The file cannot be read as Parquet.
    """
    _require_table(table)
    select = _select(cursor, path)
    limit = "" if rows_max is None else f" LIMIT {rows_max:d}"
    _make_room(cursor, table)
    try:
        cursor.execute(f"CREATE TABLE {table} AS {select}{limit}")
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        raise _unreadable(path, error) from error
    return _affected(cursor)


def link_table(cursor: duckdb.DuckDBPyConnection, table: str, path: Path) -> int:
    """Replace `dataset.table` by a view of a file; return the present number of rows.

    Each statement opens the file again, so the next statement reads a file that was replaced.

    Raises:
        Refused: *table* is not a valid name.
        SchemaDrift: The file cannot be read as Parquet.
    """
    _require_table(table)
    select = _select(cursor, path)
    _make_room(cursor, table)
    cursor.execute(f"CREATE VIEW {table} AS {select}")
    cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 -- the name is checked
    return _affected(cursor)


def replace_slice(cursor: duckdb.DuckDBPyConnection, table: str, path: Path, date_column: str, day: date) -> int:
    """Replace the rows of a date in a table, created if missing, by the rows of a file; return the number of rows.

    Raises:
        Refused: *table* or *date_column* is not a valid name.
        SchemaDrift: The file cannot be read as Parquet, or has columns unknown to the table.
    """
    _require_table(table)
    _require(date_column)
    select = _select(cursor, path)
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {table.partition('.')[0]}")
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} AS {select} LIMIT 0")
    delete_slice(cursor, table, date_column, day)
    cursor.execute(f"INSERT INTO {table} BY NAME {select} WHERE {date_column} = ?", [day])
    return _affected(cursor)


def delete_slice(cursor: duckdb.DuckDBPyConnection, table: str, date_column: str, day: date) -> int:
    """Delete the rows of a date; return the number of rows.

    Raises:
        Refused: *table* or *date_column* is not a valid name.
    """
    _require_table(table)
    _require(date_column)
    cursor.execute(f"DELETE FROM {table} WHERE {date_column} = ?", [day])  # noqa: S608 -- both names are checked
    return _affected(cursor)


def _make_room(cursor: duckdb.DuckDBPyConnection, table: str) -> None:
    """Create the dataset, and drop the table or view of this name: DuckDB replaces no view by a table."""
    dataset, _, name = table.partition(".")
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {dataset}")
    for kind in ("table", "view"):
        found = cursor.execute(
            f"SELECT 1 FROM duckdb_{kind}s() WHERE database_name = current_database() "  # noqa: S608 -- of the two above
            f"AND schema_name = ? AND {kind}_name = ?",
            [dataset, name],
        ).fetchone()
        if found is not None:
            cursor.execute(f"DROP {kind} {table}")


def _select(cursor: duckdb.DuckDBPyConnection, path: Path) -> str:
    """Return a SELECT from a file, after reading names and types in the footer of the file."""
    source = f"read_parquet({quoted(str(path))})"
    try:
        columns = cursor.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608 -- quoted
    except duckdb.Error as error:
        raise _unreadable(path, error) from error
    wanted = []
    for name, kind, *_ in columns:
        column = '"' + str(name).replace('"', '""') + '"'
        naive = kind in NAIVE_TIMESTAMPS
        wanted.append(f"CAST({column} AS TIMESTAMP) AT TIME ZONE 'UTC' AS {column}" if naive else column)
    return f"SELECT {', '.join(wanted)} FROM {source}"  # noqa: S608 -- quoted


def _affected(cursor: duckdb.DuckDBPyConnection) -> int:
    """Return the number of rows written or deleted by the last statement."""
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def _require_table(table: str) -> None:
    dataset, _, name = table.partition(".")
    _require(dataset)
    _require(name)


def _require(name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise Refused(f"{name!r} is not the name of a dataset, table or column")


def _unreadable(path: Path, error: duckdb.Error) -> SchemaDrift:
    return SchemaDrift(f"{path} cannot be read as Parquet: {str(error).strip().splitlines()[0]}")
