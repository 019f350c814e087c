"""Export of rows into a Parquet, CSV or JSON-lines file, written by DuckDB.

The embedded warehouse uses the same writer, so files from both warehouses have the same form. A crash leaves a
temporary folder, and no file or an incomplete file.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb

from worker.adapters.duckdb.dialect import quoted
from worker.adapters.duckdb.dialect import translated_errors as duckdb_errors
from worker.adapters.duckdb.warehouse import EXPORT_FORMATS
from worker.features.generations import export_ending
from worker.features.pipeline import Column

DUCKDB_TYPES = {
    "DATE": "DATE",
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "STRING": "VARCHAR",
    "BOOL": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMPTZ",
    "ARRAY<STRING>": "VARCHAR[]",
}


def write_file(path: str, output: Sequence[Column], read: Callable[[], Iterable[Mapping[str, Any]]]) -> int:
    """Write rows of the published table to a file; return the number of rows.

    Args:
        path: Ends in .parquet, .csv or .jsonl.
        output: The columns, in the order of the file.
        read: Returns the rows, in the order of the file; called only for a valid path.

    Raises:
        Refused: The path has another ending.
        Unavailable: The file cannot be written.
    """
    ending = export_ending(path)
    with tempfile.TemporaryDirectory(prefix="mlfs-export-") as folder:
        pages = Path(folder) / "rows.jsonl"
        with pages.open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row, default=_as_text, ensure_ascii=False) + "\n" for row in read())
        with duckdb_errors(f"writing {path}"), duckdb.connect(":memory:") as connection:
            connection.execute("SET TimeZone = 'UTC'")
            columns = ", ".join(f"{c.name}: {quoted(DUCKDB_TYPES[c.type])}" for c in output)
            source = f"read_json({quoted(str(pages))}, format = 'newline_delimited', columns = {{{columns}}})"
            connection.execute(f"COPY (SELECT * FROM {source}) TO {quoted(path)} ({EXPORT_FORMATS[ending]})")  # noqa: S608 -- quoted
            written = connection.fetchone()
    return int(written[0]) if written else 0


def _as_text(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)
