"""Linked tables of the embedded warehouse: views of Parquet files, true to the files as they are now.

A view reads all columns of the file and names only the columns that are converted, so a column that no build reads may
go. The comment of the view holds the view's SELECT. A validation reads the footers of the files, compares the SELECT
with the SELECT that the footer asks for, and makes a view anew where the two differ: a file that was wrong once and is
right again is right at once. DuckDB's own list of the columns of a view is not used: the list stays as the last query
left the list.

Making a view anew is a transaction: a crash leaves the earlier view, and the next validation makes the view anew.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from worker.adapters.duckdb.dialect import path_behind, quoted
from worker.adapters.duckdb.parquet import (
    NO_TYPES,
    make_room,
    read_columns,
    require_table,
    select_from,
)
from worker.errors import Refused, SchemaDrift

_FILE = re.compile(r"FROM read_parquet\(\s*'(?P<path>(?:[^']|'')*)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedTable:
    """Linked table, as the file is now.

    Attributes:
        table: `dataset.table`, as DuckDB spells the name.
        columns: Columns in the file, with BigQuery types after conversion; empty if the file is gone or unreadable.
        select: SELECT that the view should have; empty for an unreadable file.
        is_stale: Whether the view has another SELECT.
    """

    table: str
    columns: Mapping[str, str] = field(default_factory=dict)
    select: str = ""
    is_stale: bool = False


def link_table(
    cursor: duckdb.DuckDBPyConnection, table: str, path: Path, *, wanted: Mapping[str, str] = NO_TYPES
) -> int:
    """Replace `dataset.table` by a view of a file; return the present number of rows.

    Each statement opens the file again, so the next statement reads a file that was replaced.

    Raises:
        Refused: *table* is not a valid name, or DuckDB cannot read a file of this path.
        SchemaDrift: The file cannot be read as Parquet.
    """
    require_table(table)
    select = select_from(path, read_columns(cursor, path, wanted))
    make_room(cursor, table)
    _make_view(cursor, table, select)
    [(rows,)] = cursor.execute(f"SELECT count(*) FROM {table}").fetchall()  # noqa: S608 -- the name is checked
    return int(rows)


def linked_tables(
    cursor: duckdb.DuckDBPyConnection,
    wanted: Mapping[str, Mapping[str, str]],
    tables: Collection[str] | None = None,
) -> list[LinkedTable]:
    """Return the linked tables with the columns of the files as the files are now.

    Args:
        cursor: Connection in the time zone UTC.
        wanted: Types of the catalogue, from `catalogue_types`.
        tables: Names to look at, in any case; None for every linked table.
    """
    asked = None if tables is None else {table.casefold() for table in tables}
    views = cursor.execute(
        "SELECT schema_name || '.' || view_name, sql, comment FROM duckdb_views() "
        "WHERE database_name = current_database() AND NOT internal ORDER BY 1"
    ).fetchall()
    found = []
    for table, sql, comment in views:
        file = _FILE.search(sql)
        if file is not None and (asked is None or table.casefold() in asked):
            path = path_behind(file["path"].replace("''", "'"))
            found.append(_look_at(cursor, table, path, comment or "", wanted.get(table.casefold(), NO_TYPES)))
    return found


def refresh_links(cursor: duckdb.DuckDBPyConnection, wanted: Mapping[str, Mapping[str, str]]) -> int:
    """Make the view anew for each linked table whose file has other columns; return the number of new views."""
    stale = [link for link in linked_tables(cursor, wanted) if link.is_stale]
    for link in stale:
        _make_view(cursor, link.table, link.select)
    return len(stale)


def _look_at(
    cursor: duckdb.DuckDBPyConnection, table: str, path: Path, present: str, wanted: Mapping[str, str]
) -> LinkedTable:
    """Return the table with the columns in the file; *present* is the SELECT of the view."""
    try:
        columns = read_columns(cursor, path, wanted)
    except (Refused, SchemaDrift):
        # The view stays: a query of the table raises the reason, and the file may come back.
        return LinkedTable(table=table)
    select = select_from(path, columns)
    types = {column.name: column.type for column in columns}
    return LinkedTable(table=table, columns=types, select=select, is_stale=present != select)


def _make_view(cursor: duckdb.DuckDBPyConnection, table: str, select: str) -> None:
    cursor.execute(f"CREATE OR REPLACE VIEW {table} AS {select}")
    cursor.execute(f"COMMENT ON VIEW {table} IS {quoted(select)}")
