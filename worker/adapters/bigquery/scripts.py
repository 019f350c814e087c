"""What BigQuery is sent: typed parameters, and the statements that append a row.

The documentation says that a query parameter cannot be NULL, so a column without a value is left out of an INSERT.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter

from worker.errors import Fatal
from worker.features.pipeline import Pipeline

Parameter = ScalarQueryParameter | ArrayQueryParameter

DIGEST_CHARS = 10


@dataclass(frozen=True, slots=True)
class Script:
    """SQL text with its typed parameters."""

    sql: str
    parameters: Sequence[Parameter]


def bind(parameters: Mapping[str, Any]) -> list[Parameter]:
    """Give values their BigQuery types.

    Raises:
        Fatal: A value has no BigQuery type. None has none: no parameter can be NULL.
    """
    bound: list[Parameter] = []
    for name, value in parameters.items():
        if isinstance(value, list | tuple):
            bound.append(ArrayQueryParameter(name, _type_of(name, value[0] if value else ""), list(value)))
        else:
            bound.append(ScalarQueryParameter(name, _type_of(name, value), value))
    return bound


def _type_of(name: str, value: object) -> str:
    # A bool is an int and a datetime a date: the narrower one comes first.
    for kind, named in (
        (bool, "BOOL"),
        (int, "INT64"),
        (float, "FLOAT64"),
        (str, "STRING"),
        (datetime, "TIMESTAMP"),
        (date, "DATE"),
    ):
        if isinstance(value, kind):
            return named
    raise Fatal(f"parameter {name} is {value!r}, which has no BigQuery type")


def digest(*parts: object) -> str:
    """Give a short hash of what a job does: two jobs share an id only if they do the very same."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:DIGEST_CHARS]


def insert_row(pipeline: Pipeline, table: str, row: Mapping[str, Any]) -> Script:
    """Write one row into one of the product's own tables; a column that is left out becomes NULL."""
    held = {name: value for name, value in row.items() if value is not None}
    marks = ", ".join(f"@{name}" for name in held)
    sql = f"INSERT INTO {table} ({', '.join(held)}) VALUES ({marks})"  # noqa: S608 -- keys from records.py
    return Script(sql, _row_parameters(pipeline, table, held))


def insert_once(pipeline: Pipeline, table: str, row: Mapping[str, Any]) -> Script:
    """Write one row about a build into one of the product's own tables, unless the build has a row there."""
    held = {name: value for name, value in row.items() if value is not None}
    marks = ", ".join(f"@{name}" for name in held)
    sql = (
        f"INSERT INTO {table} ({', '.join(held)}) SELECT {marks} FROM (SELECT 1) WHERE NOT EXISTS ("  # noqa: S608 -- keys from records.py
        f"SELECT 1 FROM {table} WHERE analysis_date = @analysis_date AND build_id = @build_id)"
    )
    return Script(sql, _row_parameters(pipeline, table, held))


def _row_parameters(pipeline: Pipeline, table: str, row: Mapping[str, Any]) -> list[Parameter]:
    """Bind a row's values, each as the type of its column."""
    # sqlglot takes a tenth of a second to import, and a process that only reads needs no sqlglot.
    from worker.pipelines.sql_checks import declared_columns  # noqa: PLC0415

    columns = declared_columns(pipeline.ddl_of(table))
    return [ScalarQueryParameter(name, columns[name].type, value) for name, value in row.items()]
