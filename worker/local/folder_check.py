"""Check of a folder of Parquet files against the catalogue, before a build reads the tables.

A folder may hold anything: `check_folder` says which columns builds will miss, which columns are converted, which
tables are empty, unread or absent, and which analysis dates each table covers. Every check only reads the files.

Model: a table or column that a build cannot use is a warning, because a build does without; the roster alone is
indispensable, so an unusable roster is critical.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path

import duckdb

from statemachine.model import Finding, FindingSeverity
from worker.adapters.duckdb.conversions import identifier, type_shown
from worker.adapters.duckdb.dialect import translated_errors
from worker.adapters.duckdb.parquet import NO_TYPES, ColumnRead, catalogue_types, read_columns, select_from
from worker.features.pipeline import Pipeline
from worker.local.parquet_folder import tables_in

VALUE_SHOWN_MAX = 40


class FolderCheck(StrEnum):
    """Check of a folder."""

    COLUMN_MISSING = "column_missing"
    """A column that builds read is not in the file."""
    COLUMN_RETYPED = "column_retyped"
    """A column that builds read has a type with other values than the type of the catalogue."""
    COLUMN_CONVERTED = "column_converted"
    """Columns that builds read are converted to the types of the catalogue; every value fits."""
    TABLE_EMPTY = "table_empty"
    """The file of a table that builds read has no row."""
    TABLE_ABSENT = "table_absent"
    """A table that builds read has no file in the folder."""
    TABLE_UNREAD = "table_unread"
    """No build reads the tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """Facts about a file of a folder.

    Attributes:
        table: `dataset.table`, from the name of the file.
        path: The file.
        rows: Number of rows.
        columns: Columns, and how each column is read.
        dates: First date, last date and number of dates; None without a usable date column, or without dates.
    """

    table: str
    path: Path
    rows: int
    columns: tuple[ColumnRead, ...]
    dates: tuple[date, date, int] | None


def check_folder(directory: Path, pipeline: Pipeline) -> list[CheckedFile]:
    """Read the facts about each file of a folder, by name of the table.

    Raises:
        Refused: As for `worker.local.parquet_folder.load_parquet_folder`.
        SchemaDrift: A file cannot be read as Parquet. The error names the file.
    """
    types = catalogue_types(pipeline)
    dates = {table.casefold(): upstream.date for table, upstream in pipeline.upstream_tables.items()}
    files = tables_in(directory, pipeline.tables.all)
    with translated_errors(f"checking {directory}"), duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return [
            _check_file(connection, table, path, types.get(table.casefold(), NO_TYPES), dates.get(table.casefold(), ""))
            for table, path in files
        ]


def _check_file(
    cursor: duckdb.DuckDBPyConnection, table: str, path: Path, wanted: Mapping[str, str], date_column: str
) -> CheckedFile:
    columns = read_columns(cursor, path, wanted)
    dated = next((column for column in columns if column.name.casefold() == date_column.casefold()), None)
    figures = "count(*), NULL, NULL, 0"
    if dated is not None and dated.type == "DATE":
        name = identifier(dated.name)
        figures = f"count(*), min({name}), max({name}), count(DISTINCT {name})"
    [(rows, first, last, count)] = cursor.execute(
        f"SELECT {figures} FROM ({select_from(path, columns)})"  # noqa: S608 -- quoted
    ).fetchall()
    dates = None if first is None else (first, last, int(count))
    return CheckedFile(table=table, path=path, rows=int(rows), columns=columns, dates=dates)


def folder_findings(
    files: Sequence[CheckedFile], pipeline: Pipeline, kept: Mapping[str, Mapping[str, str]]
) -> list[Finding]:
    """Return the findings about a folder, the most severe first. Pure.

    Args:
        files: Facts about the files.
        pipeline: Pipeline of the tables that builds read.
        kept: {`dataset.table`: columns} in the warehouse of tables that the folder lacks.
    """
    read = {table.casefold() for table in pipeline.upstream}
    found: list[Finding] = []
    for table in pipeline.upstream:
        file = next((file for file in files if file.table.casefold() == table.casefold()), None)
        found += (
            [_absent(table, pipeline, is_kept=bool(kept.get(table)))] if file is None else _findings_of(file, pipeline)
        )
    unread = sorted(file.table for file in files if file.table.casefold() not in read)
    if unread:
        found.append(
            Finding(
                check=FolderCheck.TABLE_UNREAD,
                severity=FindingSeverity.NOTE,
                subject=f"{len(unread)} {'table' if len(unread) == 1 else 'tables'}",
                observed=f"no build reads {', '.join(unread)}",
                expected="tables of the catalogue",
                next_step="nothing to do; if a name is misspelt, the tables that builds read are in: mlfs sql features",
            )
        )
    order = (FindingSeverity.CRITICAL, FindingSeverity.WARNING, FindingSeverity.NOTE)
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _absent(table: str, pipeline: Pipeline, *, is_kept: bool) -> Finding:
    severity = FindingSeverity.NOTE if is_kept else FindingSeverity.WARNING
    needs = "no build is possible" if table == pipeline.entity.roster else "builds do without"
    return Finding(
        check=FolderCheck.TABLE_ABSENT,
        severity=severity,
        subject=table,
        observed=f"no file in the folder; {'the warehouse keeps the table of before' if is_kept else needs}",
        expected=f"{table}.parquet",
        next_step="nothing to do if the table is loaded from another folder; else write the file, and load again",
    )


def _findings_of(file: CheckedFile, pipeline: Pipeline) -> Iterator[Finding]:
    """Yield the findings about a file of a table that builds read."""
    table = next(table for table in pipeline.upstream if table.casefold() == file.table.casefold())
    wanted = pipeline.upstream[table]
    severity = FindingSeverity.CRITICAL if table == pipeline.entity.roster else FindingSeverity.WARNING
    read = {name.casefold() for name in wanted}
    present = {column.name.casefold(): column for column in file.columns}
    # A column that the catalogue describes is no new name of another column.
    known = read | {name.casefold() for name in pipeline.upstream_tables[table].columns}
    spare = [column.name for name, column in present.items() if name not in known]
    for name, kind in wanted.items():
        column = present.get(name.casefold())
        if column is None:
            yield _missing(file, name, kind, severity, spare)
        elif column.misfit is not None:
            yield _retyped(file, column, column.misfit, severity)
    converted = [column for column in file.columns if column.is_converted and column.name.casefold() in read]
    if converted and file.rows:
        yield Finding(
            check=FolderCheck.COLUMN_CONVERTED,
            severity=FindingSeverity.NOTE,
            subject=file.table,
            observed=f"converted: {', '.join(_conversion(column) for column in converted)}",
            expected="the types of the catalogue",
            next_step="nothing to do: every value fits",
        )
    if not file.rows:
        yield Finding(
            check=FolderCheck.TABLE_EMPTY,
            severity=severity,
            subject=file.table,
            observed="0 rows",
            expected="rows",
            next_step=f"write the rows into {file.path.name}, and load again",
        )


def _conversion(column: ColumnRead) -> str:
    return f"{column.name} from {type_shown(column.found)} to {column.wanted}"


def _missing(file: CheckedFile, name: str, kind: str, severity: FindingSeverity, spare: list[str]) -> Finding:
    near = get_close_matches(name, spare, n=1)
    advice = f"rename {near[0]} to {name}" if near else f"write {name}"
    return Finding(
        check=FolderCheck.COLUMN_MISSING,
        severity=severity,
        subject=f"{file.table}.{name}",
        observed=f"no such column{f'; {near[0]} is there' if near else ''}",
        expected=f"{name} {kind}",
        next_step=f"{advice} in {file.path.name}, and load again",
    )


def _retyped(file: CheckedFile, column: ColumnRead, misfit: str, severity: FindingSeverity) -> Finding:
    value = f"{misfit[:VALUE_SHOWN_MAX]}…" if len(misfit) > VALUE_SHOWN_MAX else misfit or "''"
    return Finding(
        check=FolderCheck.COLUMN_RETYPED,
        severity=severity,
        subject=f"{file.table}.{column.name}",
        observed=f"{type_shown(column.found)}, first value that is no {column.wanted}: {value}",
        expected=column.wanted,
        next_step=f"write {column.name} as {column.wanted} in {file.path.name}, and load again",
    )
