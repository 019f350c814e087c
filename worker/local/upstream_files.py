"""Parquet files that processors of a rehearsal write, one table a file, and a linked warehouse reads.

A file is written aside and moved into its place whole: a reader sees the old one or the new one. Two writers of one
file at the same time would lose the rows of one of them; a rehearsal has one.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import duckdb

from worker.adapters.warehouse_duckdb_dialect import quoted

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
