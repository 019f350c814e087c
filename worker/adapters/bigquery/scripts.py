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


def insert_all_once(pipeline: Pipeline, table: str, rows: Sequence[Mapping[str, Any]]) -> Script:
    """Return the INSERT of rows about a build, unless the build has a row there.

    Args:
        pipeline: Pipeline of the table.
        table: Table of the product.
        rows: Rows of one build with the same columns, one or more.
    """
    made, parameters = _made_rows(pipeline, table, rows)
    names, first = ", ".join(rows[0]), rows[0]
    parameters += _row_parameters(pipeline, table, {name: first[name] for name in ("analysis_date", "build_id")})
    sql = (
        f"INSERT INTO {table} ({names}) SELECT {names} FROM ({made}) AS made "  # noqa: S608 -- keys from records.py
        f"WHERE NOT EXISTS (SELECT 1 FROM {table} AS stored "
        "WHERE stored.analysis_date = @analysis_date AND stored.build_id = @build_id)"
    )
    return Script(sql, parameters)


def insert_absent(pipeline: Pipeline, table: str, rows: Sequence[Mapping[str, Any]], identity: Sequence[str]) -> Script:
    """Return the INSERT of the rows that the table lacks, compared by the columns of *identity*.

    Args:
        pipeline: Pipeline of the table.
        table: Table of the product, partitioned by `analysis_date`.
        rows: Rows with the same columns, one or more, no two equal in *identity*.
        identity: Columns that name a row.
    """
    made, parameters = _made_rows(pipeline, table, rows)
    days = [row["analysis_date"] for row in rows]
    parameters += bind({"first_date": min(days), "last_date": max(days)})
    names, same = ", ".join(rows[0]), " AND ".join(f"stored.{name} = made.{name}" for name in identity)
    sql = (
        f"INSERT INTO {table} ({names}) SELECT {names} FROM ({made}) AS made "  # noqa: S608 -- keys from arrivals.py
        f"WHERE NOT EXISTS (SELECT 1 FROM {table} AS stored "
        f"WHERE stored.analysis_date BETWEEN @first_date AND @last_date AND {same})"
    )
    return Script(sql, parameters)


def _made_rows(pipeline: Pipeline, table: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[Parameter]]:
    """Return a SELECT of *rows* with a parameter for each value, and the parameters."""
    from worker.pipelines.sql_checks import declared_columns  # noqa: PLC0415 -- as in _row_parameters

    columns, names = declared_columns(pipeline.ddl_of(table)), list(rows[0])
    parameters: list[Parameter] = []
    selects = []
    for number, row in enumerate(rows):
        cells = []
        for name in names:
            kind, value = columns[name].type, row[name]
            if value is None:
                cells.append(f"CAST(NULL AS {kind}) AS {name}")
                continue
            parameter = f"{name}_{number}"
            cells.append(f"@{parameter} AS {name}")
            parameters.append(_parameter(parameter, kind, value))
        selects.append(f"SELECT {', '.join(cells)}")
    return " UNION ALL ".join(selects), parameters


def _parameter(name: str, kind: str, value: Any) -> Parameter:  # noqa: ANN401 - a value of any type
    if isinstance(value, list | tuple):
        return ArrayQueryParameter(name, kind.removeprefix("ARRAY<").removesuffix(">"), list(value))
    return ScalarQueryParameter(name, kind, value)


def _row_parameters(pipeline: Pipeline, table: str, row: Mapping[str, Any]) -> list[Parameter]:
    """Return the values of a row as parameters with the types of the columns."""
    # sqlglot takes a tenth of a second to import, and a process that only reads needs no sqlglot.
    from worker.pipelines.sql_checks import declared_columns  # noqa: PLC0415

    columns = declared_columns(pipeline.ddl_of(table))
    return [ScalarQueryParameter(name, columns[name].type, value) for name, value in row.items()]
