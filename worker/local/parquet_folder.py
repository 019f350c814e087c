"""Filling the embedded warehouse from Parquet: whole folders, copied or linked, and one table for one night.

A file is named after its table, `<dataset>.<table>.parquet`.

Parquet files that processors of a rehearsal write, one table a file, and a linked warehouse reads.

A file is written aside and moved into its place whole: a reader sees the old one or the new one. Two writers of one
file at the same time would lose the rows of one of them; a rehearsal has one.
"""

from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path

import duckdb

from worker.adapters.duckdb.dialect import quoted
from worker.adapters.duckdb.parquet import NAME, link_table, replace_slice, replace_table
from worker.adapters.duckdb.parquet import delete_slice as delete_rows
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.errors import Refused

ENDING = ".parquet"


def load_parquet_folder(
    warehouse: DuckDbWarehouse, directory: Path, *, structure_only: Collection[str] = ()
) -> list[tuple[str, int]]:
    """Replace one table per file of a folder: all of them or, on any fault, none.

    Args:
        warehouse: Where to load.
        directory: The folder; hidden files and files with another ending than `.parquet` are left alone.
        structure_only: Tables (`dataset.table`) that get their columns but no rows, for a night still to come.

    Returns:
        (`dataset.table`, rows) per file, by name.

    Raises:
        Refused: No such folder, no Parquet file in it, a file whose name is no table's, or a table that the worker
            itself writes. Names the file.
        SchemaDrift: A file that cannot be read as Parquet. Names the file.
        Unavailable: The disk or the memory is full.
    """
    with warehouse.writing(f"loading {directory}") as cursor:
        return [
            (table, replace_table(cursor, table, path, rows_max=0 if table in structure_only else None))
            for table, path in tables_in(directory, warehouse.pipeline.tables.all)
        ]


def link_parquet_folder(warehouse: DuckDbWarehouse, directory: Path) -> list[tuple[str, int]]:
    """Put one view per file of a folder in the place of its table: all of them or, on any fault, none.

    What the files hold later is read by later statements, so upstream can go on writing without loading
    again. A writer moves a whole file into place before it reports; one replaced in the middle of a build may be
    read old by one statement and new by the next.

    Args:
        warehouse: Where to link.
        directory: The folder, as the worker sees it; the files must stay there.

    Returns:
        (`dataset.table`, rows now) per file, by name.

    Raises:
        Refused, SchemaDrift, Unavailable: As for `load_parquet_folder`.
    """
    files = tables_in(directory, warehouse.pipeline.tables.all)
    with warehouse.writing(f"linking {directory}") as cursor:
        return [(table, link_table(cursor, table, path.absolute())) for table, path in files]


def tables_in(directory: Path, own_tables: Collection[str]) -> list[tuple[str, Path]]:
    """Give (`dataset.table`, its file) for each file of a folder, by name; *own_tables* are the worker's.

    Raises:
        Refused: As for `load_parquet_folder`.
    """
    if not directory.is_dir():
        raise Refused(f"{directory} is not a folder; name one that holds <dataset>.<table>.parquet files")
    files = sorted(path for path in directory.iterdir() if path.suffix == ENDING and not is_hidden(path))
    if not files:
        raise Refused(f"{directory} holds no .parquet file; name a folder of <dataset>.<table>.parquet files")
    tables = [(table_of(path, own_tables), path) for path in files]
    first: dict[str, Path] = {}
    for table, path in tables:
        if (other := first.setdefault(table.casefold(), path)) is not path:
            raise Refused(f"{other} and {path.name} are one table: names of tables are compared without case; keep one")
    return tables


def is_hidden(path: Path) -> bool:
    """Return whether a file is left alone for its name: macOS and editors keep notes of theirs beside each file."""
    return path.name.startswith(".")


def load_parquet_slice(
    warehouse: DuckDbWarehouse, path: Path, day: date, *, date_column: str = "analysis_date"
) -> tuple[str, int]:
    """Replace the rows of one date of one table by those that its file holds, as its processor would at night.

    A second call changes nothing. The table is created where it does not exist yet.

    Args:
        warehouse: Where to load.
        path: The table's file.
        day: The date whose rows to take.
        date_column: The table's date.

    Returns:
        (`dataset.table`, rows of the date).

    Raises:
        Refused: The file's name is no table's.
        SchemaDrift: The file cannot be read as Parquet, or its columns are not the table's.
        Unavailable: The disk or the memory is full.
    """
    table = table_of(path, warehouse.pipeline.tables.all)
    with warehouse.writing(f"loading {path} for {day.isoformat()}") as cursor:
        return table, replace_slice(cursor, table, path, date_column, day)


def delete_slice(warehouse: DuckDbWarehouse, table: str, day: date, *, date_column: str = "analysis_date") -> int:
    """Delete the rows of one date of `dataset.table`; give how many there were.

    Raises:
        Refused: *table* or *date_column* is no name.
        SchemaDrift: There is no such table or column.
    """
    with warehouse.writing(f"deleting {day.isoformat()} from {table}") as cursor:
        return delete_rows(cursor, table, date_column, day)


def table_of(path: Path, own_tables: Collection[str]) -> str:
    """Give the table that a Parquet file is named after, which is none of *own_tables*.

    Raises:
        Refused: The name is not `<dataset>.<table>.parquet`, or is that of a table which the worker itself writes.
    """
    table = path.name.removesuffix(ENDING)
    parts = table.split(".")
    if path.suffix != ENDING or len(parts) != 2 or any(NAME.fullmatch(part) is None for part in parts):  # noqa: PLR2004
        raise Refused(f"{path} is not named <dataset>.<table>.parquet; rename it, or move it out of the folder")
    # DuckDB compares names without case.
    if table.casefold() in {own.casefold() for own in own_tables}:
        raise Refused(f"{path} would replace {table}, which only the worker writes; move it out of the folder")
    return table


_WITHOUT = "SELECT * FROM read_parquet($held) WHERE NOT list_contains($days, analysis_date)"
_WITH = "SELECT * FROM read_parquet($source) WHERE list_contains($days, analysis_date)"


def dates_in(path: Path) -> list[date]:
    """Give the analysis dates of a file's rows, in order."""
    with duckdb.connect() as connection:
        sql = "SELECT DISTINCT analysis_date FROM read_parquet(?) ORDER BY 1"
        return [day for (day,) in connection.execute(sql, [str(path)]).fetchall()]


def write_without(path: Path, source: Path, days: Sequence[date]) -> None:
    """Write the rows of *source* but for those of *days*, as they stand before the processor of those nights."""
    _write(path, _WITHOUT, {"held": str(source), "days": list(days)})


def write_night(path: Path, source: Path, day: date) -> int:
    """Replace the rows of one date of *path* by those of *source*; give their number. Repeatable."""
    _write(path, f"{_WITHOUT} UNION ALL {_WITH}", {"held": str(path), "source": str(source), "days": [day]})
    with duckdb.connect() as connection:
        sql = "SELECT count(*) FROM read_parquet(?) WHERE analysis_date = ?"
        row = connection.execute(sql, [str(path), day]).fetchone()
    return int(row[0]) if row else 0


def _write(path: Path, select: str, parameters: dict[str, object]) -> None:
    aside = path.with_name(f".{path.name}.new")
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO {quoted(str(aside))} (FORMAT parquet)", parameters)
    aside.replace(path)
