"""SQL that reads Parquet files into DuckDB tables, for `worker.local.parquet_folder` and for linked tables.

Every function works inside the caller's transaction: a crash leaves the tables as before. Names are checked or quoted
here, because DuckDB takes no parameter for a name. A path is a name: DuckDB's patterns (`*`, `?`, `[`) are escaped, and
no column is guessed from a folder called `column=value`. Columns of the catalogue get the type of the catalogue where
`worker.adapters.duckdb.conversions` knows a conversion and each value fits; timestamps without time zone are UTC.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType

import duckdb

from worker.adapters.duckdb.conversions import (
    Conversion,
    conversion,
    identifier,
    is_same_type,
    no_values,
    to_instant,
)
from worker.adapters.duckdb.dialect import quoted, to_bigquery_type, without_patterns
from worker.errors import Refused, SchemaDrift
from worker.features.pipeline import Pipeline

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NO_TYPES: Mapping[str, str] = MappingProxyType({})

_ROW_NUMBER = "file_row_number"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRead:
    """Column of a Parquet file, and how the column is read.

    Attributes:
        name: Name in the file.
        found: DuckDB's name of the type in the file.
        wanted: BigQuery's name of the type in the catalogue; for a column unknown to the catalogue TIMESTAMP, if the
            column holds timestamps, else empty.
        expression: SQL of the column, converted or not.
        is_converted: Whether the expression changes the type.
        misfit: The first value, as text, that the wanted type does not hold; None for a usable column.
    """

    name: str
    found: str
    wanted: str
    expression: str
    is_converted: bool
    misfit: str | None = None

    @property
    def type(self) -> str:
        """BigQuery's name of the type after the conversion."""
        return self.wanted if self.is_converted else to_bigquery_type(self.found)


def catalogue_types(pipeline: Pipeline) -> Mapping[str, Mapping[str, str]]:
    """Return the columns of the upstream tables, read by builds or listed: {table: {column: BigQuery type}}.

    All names are in lower case, because DuckDB and BigQuery compare names without case.
    """
    upstream = pipeline.upstream
    return {
        table.casefold(): {
            column.casefold(): kind
            for column, kind in {**pipeline.upstream_tables[table].columns, **upstream[table]}.items()
        }
        for table in upstream
    }


def source_of(path: Path) -> str:
    """Return the SQL that reads exactly one Parquet file with exactly the columns of the file.

    Raises:
        Refused: DuckDB cannot read a file of this path.
    """
    return f"read_parquet({_literal(path)}, hive_partitioning = false)"


def _literal(path: Path) -> str:
    text = str(path.absolute())
    if "\\" in text:
        raise Refused(f"{text} has a \\ in the path, which DuckDB takes for a separator; choose another folder")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{text!a} has a name that is not UTF-8, which DuckDB cannot take; rename it") from error
    return quoted(without_patterns(text))


def read_columns(
    cursor: duckdb.DuckDBPyConnection, path: Path, wanted: Mapping[str, str] = NO_TYPES
) -> tuple[ColumnRead, ...]:
    """Return the columns of a file as the file is now, with a conversion where the catalogue asks for another type.

    The footer of the file tells names and types. Values are read only for columns whose type differs from the catalogue
    and decides nothing alone.

    Args:
        cursor: Connection in the time zone UTC.
        path: The file.
        wanted: Types of the catalogue: {column in lower case: BigQuery type}.

    Raises:
        Refused: DuckDB cannot read a file of this path.
        SchemaDrift: The file cannot be read as Parquet.
    """
    source = source_of(path)
    try:
        described = cursor.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608 -- quoted
        footer = [(str(name), str(kind), wanted.get(str(name).casefold(), "")) for name, kind, *_ in described]
        ways = {name: conversion(found, want) if want else to_instant(found) for name, found, want in footer}
        doubtful = {
            name: ways[name]
            for name, found, want in footer
            if want and not is_same_type(found, want) and ((way := ways[name]) is None or way.fits)
        }
        looked_at = _values(cursor, path, doubtful, [name for name, *_ in footer])
    except duckdb.Error as error:
        raise unreadable(path, error) from error
    return tuple(_column(name, found, want, ways[name], looked_at.get(name)) for name, found, want in footer)


def _column(
    name: str, found: str, wanted: str, way: Conversion | None, looked_at: tuple[int, str | None] | None
) -> ColumnRead:
    values, misfit = looked_at or (1, None)
    if wanted and is_same_type(found, wanted):
        way = None
    elif wanted and not values:
        way, misfit = no_values(wanted), None
    if way is None or misfit is not None:
        return ColumnRead(
            name=name,
            found=found,
            wanted=wanted,
            expression=identifier(name),
            is_converted=False,
            misfit=misfit,
        )
    expression = way.expression(name, wanted or "TIMESTAMP")
    return ColumnRead(name=name, found=found, wanted=wanted or "TIMESTAMP", expression=expression, is_converted=True)


def _values(
    cursor: duckdb.DuckDBPyConnection, path: Path, columns: Mapping[str, Conversion | None], names: list[str]
) -> Mapping[str, tuple[int, str | None]]:
    """Return for each of *columns* the number of values and, as text, the first value that does not fit."""
    if not columns:
        return {}
    # A file may have a column of the name that DuckDB gives to the number of the row.
    is_numbered = _ROW_NUMBER not in {name.casefold() for name in names}
    counted = []
    for name, way in columns.items():
        column = identifier(name)
        fits = "FALSE" if way is None else way.condition(name)
        order = _ROW_NUMBER if is_numbered else f"CAST({column} AS VARCHAR)"
        misfit = f"arg_min(CAST({column} AS VARCHAR), {order}) FILTER (WHERE {column} IS NOT NULL AND NOT {fits})"
        counted += [f"count({column})", misfit]
    numbering = f", {_ROW_NUMBER} = true" if is_numbered else ""
    source = source_of(path).removesuffix(")") + numbering + ")"
    [row] = cursor.execute(f"SELECT {', '.join(counted)} FROM {source}").fetchall()  # noqa: S608 -- quoted
    return {name: (int(row[2 * at]), row[2 * at + 1]) for at, name in enumerate(columns)}


def select_from(path: Path, columns: tuple[ColumnRead, ...]) -> str:
    """Return the SELECT of a file's columns; only converted columns are named, so any other column may go later."""
    converted = [f"{column.expression} AS {identifier(column.name)}" for column in columns if column.is_converted]
    replaced = f" REPLACE ({', '.join(converted)})" if converted else ""
    return f"SELECT *{replaced} FROM {source_of(path)}"  # noqa: S608 -- quoted


def replace_table(
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    path: Path,
    *,
    wanted: Mapping[str, str] = NO_TYPES,
    rows_max: int | None = None,
) -> int:
    """Create or replace `dataset.table` from a file, with at most *rows_max* rows; return the number of rows.

    Raises:
        Refused: *table* is not a valid name, or DuckDB cannot read a file of this path.
        SchemaDrift: The file cannot be read as Parquet.
    """
    require_table(table)
    select = select_from(path, read_columns(cursor, path, wanted))
    limit = "" if rows_max is None else f" LIMIT {rows_max:d}"
    make_room(cursor, table)
    try:
        cursor.execute(f"CREATE TABLE {table} AS {select}{limit}")
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        raise unreadable(path, error) from error
    return _affected(cursor)


def replace_slice(
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    path: Path,
    date_column: str,
    day: date,
    *,
    wanted: Mapping[str, str] = NO_TYPES,
) -> int:
    """Replace the rows of a date in a table, created if missing, by the rows of a file; return the number of rows.

    Raises:
        Refused: *table* or *date_column* is not a valid name, or DuckDB cannot read a file of this path.
        SchemaDrift: The file cannot be read as Parquet, or has columns unknown to the table.
    """
    require_table(table)
    _require(date_column)
    select = select_from(path, read_columns(cursor, path, wanted))
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {table.partition('.')[0]}")
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} AS {select} LIMIT 0")
    delete_slice(cursor, table, date_column, day)
    # Around the select, so that the condition sees the converted date.
    cursor.execute(f"INSERT INTO {table} BY NAME SELECT * FROM ({select}) WHERE {date_column} = ?", [day])  # noqa: S608
    return _affected(cursor)


def delete_slice(cursor: duckdb.DuckDBPyConnection, table: str, date_column: str, day: date) -> int:
    """Delete the rows of a date; return the number of rows.

    Raises:
        Refused: *table* or *date_column* is not a valid name.
    """
    require_table(table)
    _require(date_column)
    cursor.execute(f"DELETE FROM {table} WHERE {date_column} = ?", [day])  # noqa: S608 -- both names are checked
    return _affected(cursor)


def make_room(cursor: duckdb.DuckDBPyConnection, table: str) -> None:
    """Create the dataset, and drop the table or view of this name: DuckDB replaces no view by a table."""
    dataset, _, name = table.partition(".")
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {dataset}")
    for kind in ("table", "view"):
        found = cursor.execute(
            f"SELECT 1 FROM duckdb_{kind}s() WHERE database_name = current_database() "  # noqa: S608 -- of the two above
            f"AND lower(schema_name) = lower(?) AND lower({kind}_name) = lower(?)",
            [dataset, name],
        ).fetchone()
        if found is not None:
            cursor.execute(f"DROP {kind} {table}")


def require_table(table: str) -> None:
    """Refuse a text that is not `dataset.table`.

    Raises:
        Refused: A part is no plain identifier.
    """
    dataset, _, name = table.partition(".")
    _require(dataset)
    _require(name)


def unreadable(path: Path, error: duckdb.Error) -> SchemaDrift:
    """Return the error of a file that DuckDB cannot read as Parquet."""
    return SchemaDrift(f"{path} cannot be read as Parquet: {str(error).strip().splitlines()[0]}")


def _affected(cursor: duckdb.DuckDBPyConnection) -> int:
    """Return the number of rows written or deleted by the last statement."""
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def _require(name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise Refused(f"{name!r} is not the name of a dataset, table or column")
