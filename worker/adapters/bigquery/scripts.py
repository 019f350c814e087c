"""Typed parameters for BigQuery, and the statements that append a row.

BigQuery documents that a query parameter cannot be NULL, so an INSERT leaves out every column without a value.
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
    """Return query parameters with BigQuery types.

    Raises:
        Fatal: A value has no BigQuery type. None has no type, because no parameter can be NULL.
    """
    bound: list[Parameter] = []
    for name, value in parameters.items():
        if isinstance(value, list | tuple):
            bound.append(ArrayQueryParameter(name, _type_of(name, value[0] if value else ""), list(value)))
        else:
            bound.append(ScalarQueryParameter(name, _type_of(name, value), value))
    return bound


def _type_of(name: str, value: object) -> str:
    # In Python a bool is an int and a datetime is a date, so the narrower type comes first.
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
    """Return a short hash of the content of a job: two jobs share an id only if the content is the same."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:DIGEST_CHARS]


def insert_row(pipeline: Pipeline, table: str, row: Mapping[str, Any]) -> Script:
    """Return the INSERT of a row into a table of the product; a column without a value becomes NULL."""
    held = {name: value for name, value in row.items() if value is not None}
    marks = ", ".join(f"@{name}" for name in held)
    sql = f"INSERT INTO {table} ({', '.join(held)}) VALUES ({marks})"  # noqa: S608 -- keys from records.py
    return Script(sql, _row_parameters(pipeline, table, held))


def insert_once(pipeline: Pipeline, table: str, row: Mapping[str, Any]) -> Script:
    """Return the INSERT of a row about a build into a table of the product, unless the build has a row there."""
    held = {name: value for name, value in row.items() if value is not None}
    marks = ", ".join(f"@{name}" for name in held)
    sql = (
        f"INSERT INTO {table} ({', '.join(held)}) SELECT {marks} FROM (SELECT 1) WHERE NOT EXISTS ("  # noqa: S608 -- keys from records.py
        f"SELECT 1 FROM {table} WHERE analysis_date = @analysis_date AND build_id = @build_id)"
    )
    return Script(sql, _row_parameters(pipeline, table, held))


def _row_parameters(pipeline: Pipeline, table: str, row: Mapping[str, Any]) -> list[Parameter]:
    """Return the values of a row as parameters with the types of the columns."""
    # sqlglot takes a tenth of a second to import, and a process that only reads needs no sqlglot.
    from worker.pipelines.sql_checks import declared_columns  # noqa: PLC0415

    columns = declared_columns(pipeline.ddl_of(table))
    return [ScalarQueryParameter(name, columns[name].type, value) for name, value in row.items()]
