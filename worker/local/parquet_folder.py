"""Parquet files of the embedded warehouse: load or link a folder, load an analysis date, write rehearsal files.

A file is named after the table, `<dataset>.<table>.parquet`. Loading and linking are a transaction: a crash leaves the
tables as before. A file of a rehearsal is written beside the target and then moved, so a reader sees the old file or
the new file. Two simultaneous writers of a file would lose rows of the first writer; a rehearsal has a single writer.
"""

from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path

import duckdb

from worker.adapters.duckdb.dialect import quoted
from worker.adapters.duckdb.links import link_table
from worker.adapters.duckdb.parquet import NAME, NO_TYPES, catalogue_types, replace_slice, replace_table, source_of
from worker.adapters.duckdb.parquet import delete_slice as delete_rows
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.errors import Refused

ENDING = ".parquet"


def load_parquet_folder(
    warehouse: DuckDbWarehouse, directory: Path, *, structure_only: Collection[str] = ()
) -> list[tuple[str, int]]:
    """Replace a table for each file of a folder: all tables or, on any fault, no table.

    Args:
        warehouse: Target of the rows.
        directory: The folder; hidden files and files with another ending than `.parquet` are left alone.
        structure_only: Tables (`dataset.table`) that get their columns but no rows, for a night still to come.

    Returns:
        (`dataset.table`, rows) per file, by name.

    Raises:
        Refused: The folder is missing or has no Parquet file, a file is not named after a table, or the table is
            written by the worker. The error names the file.
        SchemaDrift: A file cannot be read as Parquet. The error names the file.
        Unavailable: The disk or the memory is full.
    """
    files, types = tables_in(directory, warehouse.pipeline.tables.all), catalogue_types(warehouse.pipeline)
    loaded = []
    with warehouse.writing(f"loading {directory}") as cursor:
        for table, path in files:
            wanted, rows_max = types.get(table.casefold(), NO_TYPES), 0 if table in structure_only else None
            loaded.append((table, replace_table(cursor, table, path, wanted=wanted, rows_max=rows_max)))
    return loaded


def link_parquet_folder(warehouse: DuckDbWarehouse, directory: Path) -> list[tuple[str, int]]:
    """Replace a table by a view for each file of a folder: all tables or, on any fault, no table.

    Later statements read the later content of the files, so upstream can go on writing without another load. A writer
    moves a complete file into place before the completion event; if a file is replaced during a build, some statements
    of the build may read the old file and others the new file.

    Args:
        warehouse: Warehouse that gets the views.
        directory: The folder, as seen by the worker; the files must stay there.

    Returns:
        (`dataset.table`, rows now) per file, by name.

    Raises:
        Refused, SchemaDrift, Unavailable: As for `load_parquet_folder`.
    """
    files, types = tables_in(directory, warehouse.pipeline.tables.all), catalogue_types(warehouse.pipeline)
    with warehouse.writing(f"linking {directory}") as cursor:
        return [
            (table, link_table(cursor, table, path, wanted=types.get(table.casefold(), NO_TYPES)))
            for table, path in files
        ]


def tables_in(directory: Path, own_tables: Collection[str]) -> list[tuple[str, Path]]:
    """Return (`dataset.table`, file) for each file of a folder, by name; *own_tables* are the worker's tables.

    Raises:
        Refused: As for `load_parquet_folder`.
    """
    if not directory.is_dir():
        raise Refused(f"{directory} is not a folder; name a folder with <dataset>.<table>.parquet files")
    files = sorted(path for path in directory.iterdir() if path.suffix == ENDING and not is_hidden(path))
    if not files:
        raise Refused(f"{directory} holds no .parquet file; name a folder of <dataset>.<table>.parquet files")
    tables = [(table_of(path, own_tables), path) for path in files]
    first: dict[str, Path] = {}
    for table, path in tables:
        if (other := first.setdefault(table.casefold(), path)) is not path:
            raise Refused(f"{other} and {path.name} are one table: names are compared without case; keep one file")
    return tables


def is_hidden(path: Path) -> bool:
    """Return whether a file is ignored because of the name: macOS and editors store hidden files beside each file."""
    return path.name.startswith(".")


def hidden_files(directory: Path) -> list[str]:
    """Return the names of the Parquet files of a folder that are left out because they are hidden, sorted."""
    return sorted(path.name for path in directory.iterdir() if path.suffix == ENDING and is_hidden(path))


def load_parquet_slice(
    warehouse: DuckDbWarehouse, path: Path, day: date, *, date_column: str = "analysis_date"
) -> tuple[str, int]:
    """Replace the rows of an analysis date in a table by the rows of a file, like a processor at night.

    A second call changes no row. A missing table is created.

    Args:
        warehouse: Target of the rows.
        path: The table's file.
        day: The date whose rows to take.
        date_column: The table's date.

    Returns:
        (`dataset.table`, rows of the date).

    Raises:
        Refused: The file is not named after a table.
        SchemaDrift: The file cannot be read as Parquet, or has other columns than the table.
        Unavailable: The disk or the memory is full.
    """
    table = table_of(path, warehouse.pipeline.tables.all)
    wanted = catalogue_types(warehouse.pipeline).get(table.casefold(), NO_TYPES)
    with warehouse.writing(f"loading {path} for {day.isoformat()}") as cursor:
        return table, replace_slice(cursor, table, path, date_column, day, wanted=wanted)


def delete_slice(warehouse: DuckDbWarehouse, table: str, day: date, *, date_column: str = "analysis_date") -> int:
    """Delete the rows of a date in `dataset.table`; return the number of deleted rows.

    Raises:
        Refused: *table* or *date_column* is not a valid name.
        SchemaDrift: The table or the column is missing.
    """
    with warehouse.writing(f"deleting {day.isoformat()} from {table}") as cursor:
        return delete_rows(cursor, table, date_column, day)


def table_of(path: Path, own_tables: Collection[str]) -> str:
    """Return the table that a Parquet file is named after; refuse a table in *own_tables*.

    Raises:
        Refused: The name is not `<dataset>.<table>.parquet`, or names a table that only the worker writes.
    """
    table = path.name.removesuffix(ENDING)
    parts = table.split(".")
    if path.suffix != ENDING or len(parts) != 2 or any(NAME.fullmatch(part) is None for part in parts):  # noqa: PLR2004
        raise Refused(
            f"{path} is not named <dataset>.<table>.parquet; rename the file, or move the file out of the folder"
        )
    # DuckDB compares names without case.
    if table.casefold() in {own.casefold() for own in own_tables}:
        raise Refused(f"{path} would replace {table}, which only the worker writes; move the file out of the folder")
    return table


_OF_DAYS = "WHERE list_contains($days, CAST(analysis_date AS DATE))"
_NOT_OF_DAYS = "WHERE NOT list_contains($days, CAST(analysis_date AS DATE))"


def dates_in(path: Path) -> list[date]:
    """Return the analysis dates of the rows of a file, in order."""
    with duckdb.connect() as connection:
        sql = f"SELECT DISTINCT CAST(analysis_date AS DATE) FROM {source_of(path)} ORDER BY 1"  # noqa: S608 -- quoted
        return [day for (day,) in connection.execute(sql).fetchall()]


def write_without(path: Path, source: Path, days: Sequence[date]) -> None:
    """Write the rows of *source* except for *days*: the file as before the processor of these nights runs."""
    _write(path, _rows_of(source, _NOT_OF_DAYS), days)


def write_night(path: Path, source: Path, day: date) -> int:
    """Replace the rows of a date in *path* by the rows of *source*; return the number of rows. Repeatable."""
    held = _rows_of(path, _NOT_OF_DAYS)
    _write(path, f"{held} UNION ALL {_rows_of(source, _OF_DAYS)}", [day])
    with duckdb.connect() as connection:
        counted = f"SELECT count(*) FROM ({_rows_of(path, _OF_DAYS)})"  # noqa: S608 -- quoted
        row = connection.execute(counted, {"days": [day]}).fetchone()
    return int(row[0]) if row else 0


def _rows_of(path: Path, condition: str) -> str:
    return f"SELECT * FROM {source_of(path)} {condition}"  # noqa: S608 -- quoted


def _write(path: Path, select: str, days: Sequence[date]) -> None:
    aside = path.with_name(f".{path.name}.new")
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO {quoted(str(aside))} (FORMAT parquet)", {"days": list(days)})
    aside.replace(path)
