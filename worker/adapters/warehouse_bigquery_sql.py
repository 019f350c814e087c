"""What BigQuery is sent: typed parameters, the row inserts, and the two scripts that guard a date.

Both scripts are one transaction without an exception handler: BigQuery rolls an open transaction back when a script
ends by an error, and the error keeps its own text. Each first puts the date's ledger row in place and then updates it,
so that every transaction changes a row that exists: two transactions that change rows of one table never both commit.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from types import MappingProxyType
from typing import Any

from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter

from worker.errors import Fatal
from worker.features.model import BuildKey, Publication
from worker.features.pipeline import Pipeline
from worker.features.records import claimed_ledger_row, dependency_row, execution_row, ledger_row, quality_row

FENCED = "mlfs: the ledger refuses this attempt"
"""What a script raises when the ledger row says no; the adapter then reads the row to say why."""

Parameter = ScalarQueryParameter | ArrayQueryParameter

DIGEST_CHARS = 10
_COLUMN = re.compile(r"^  (\w+) ([A-Z0-9]+(?:<[A-Z0-9]+>)?)(?: NOT NULL)?,?$", re.MULTILINE)

# Nothing is committed, and nobody has claimed: where every date starts.
_UNCLAIMED = MappingProxyType({"claimed_generation": 0, "claimed_attempt": 0, "claimed_by": ""})

_MAY_WRITE = (
    "analysis_date = @analysis_date AND generation < @generation AND (claimed_generation < @generation"
    " OR (claimed_generation = @generation AND claimed_attempt < @attempt)"
    " OR (claimed_generation = @generation AND claimed_attempt = @attempt AND claimed_by = @claimant))"
)
"""Which ledger row an attempt may write: not committed, and claimed by nobody newer and nobody else."""


@dataclass(frozen=True, slots=True)
class Script:
    """SQL text with its typed parameters."""

    sql: str
    parameters: Sequence[Parameter]


@cache
def declared_columns(pipeline: Pipeline, table: str) -> Mapping[str, str]:
    """Give the columns of one of the product's own tables, `dataset.table`, as its DDL declares them: {name: type}."""
    return MappingProxyType(dict(_COLUMN.findall(pipeline.ddl_of(table))))


def bind(parameters: Mapping[str, Any], null_types: Mapping[str, str]) -> list[Parameter]:
    """Give values their BigQuery types.

    Raises:
        Fatal: A value has no BigQuery type, or is None without an entry in *null_types*.
    """
    bound: list[Parameter] = []
    for name, value in parameters.items():
        if isinstance(value, list | tuple):
            bound.append(ArrayQueryParameter(name, _type_of(name, value[0] if value else ""), list(value)))
        else:
            bound.append(
                ScalarQueryParameter(name, null_types[name] if name in null_types else _type_of(name, value), value)
            )
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
    raise Fatal(f"parameter {name} is {value!r}, which has no BigQuery type; name one in null_types")


def digest(*parts: object) -> str:
    """Give a short hash of what a job does: two jobs share an id only if they do the very same."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:DIGEST_CHARS]


def insert_row(pipeline: Pipeline, table: str, row: Mapping[str, Any]) -> Script:
    """Write one row into one of the product's own tables."""
    return Script(_insert(table, row, prefix="") + ";", _row_parameters(pipeline, table, row, prefix=""))


def claim_script(pipeline: Pipeline, key: BuildKey, at: datetime, claimant: str) -> Script:
    """Raise the claim of the date's ledger row, which is made where there is none."""
    ledger = pipeline.tables.ledger
    unclaimed = claimed_ledger_row(key, at, claimant, pipeline.blocks) | _UNCLAIMED
    statements = [
        "BEGIN TRANSACTION",
        _insert_if_absent(ledger, unclaimed),
        f"UPDATE {ledger} SET claimed_generation = @generation, claimed_attempt = @attempt,"  # noqa: S608 -- from the catalogue
        f" claimed_by = @claimant WHERE {_MAY_WRITE}",
        _stop_if_fenced(),
        "COMMIT TRANSACTION",
    ]
    parameters = [
        *_token(key, claimant),
        *_row_parameters(pipeline, ledger, unclaimed, "new_", skip=("analysis_date",)),
    ]
    return Script(_joined(statements), parameters)


def publish_script(pipeline: Pipeline, publication: Publication, staged: str) -> Script:
    """Check the ledger, replace everything of the date, commit.

    Args:
        pipeline: Whose tables.
        publication: What is published.
        staged: The attempt's staging table, quoted.
    """
    request, tables, blocks = publication.request, pipeline.tables, pipeline.blocks
    key = request.key
    committed = ledger_row(publication, blocks)
    unclaimed = claimed_ledger_row(key, publication.committed_at, request.claimant, blocks) | _UNCLAIMED
    executed = execution_row(
        request,
        state=publication.report.earned_state,
        completed_at=publication.committed_at,
        stats=publication.stats,
        report=publication.report,
    )
    quality, dependency = quality_row(publication), dependency_row(publication, blocks)
    statements = [
        "BEGIN TRANSACTION",
        _insert_if_absent(tables.ledger, unclaimed),
        _update_ledger(tables.ledger, committed),
        _stop_if_fenced(),
        _delete_date(tables.published),
        _copy_staged(pipeline, staged),
        _delete_date(tables.quality),
        _insert(tables.quality, quality, "quality_"),
        _delete_date(tables.dependency),
        _insert(tables.dependency, dependency, "dependency_"),
        _insert(tables.execution, executed, "execution_"),
        "COMMIT TRANSACTION",
    ]
    only_date = ("analysis_date",)
    parameters = [
        *_token(key, request.claimant),
        *_row_parameters(pipeline, tables.ledger, unclaimed, "new_", skip=only_date),
        *_row_parameters(pipeline, tables.ledger, committed, "ledger_", skip=only_date),
        *_row_parameters(pipeline, tables.quality, quality, "quality_", skip=only_date),
        *_row_parameters(pipeline, tables.dependency, dependency, "dependency_", skip=only_date),
        *_row_parameters(pipeline, tables.execution, executed, "execution_", skip=only_date),
    ]
    return Script(_joined(statements), parameters)


def _joined(statements: Sequence[str]) -> str:
    return ";\n".join(statements) + ";"


def _token(key: BuildKey, claimant: str) -> list[Parameter]:
    return bind(
        {
            "analysis_date": key.analysis_date,
            "generation": key.generation,
            "attempt": key.attempt,
            "claimant": claimant,
        },
        {},
    )


def _row_parameters(
    pipeline: Pipeline, table: str, row: Mapping[str, Any], prefix: str, skip: Sequence[str] = ()
) -> list[Parameter]:
    """Bind a row's values under prefixed names, each as the type of its column."""
    types = declared_columns(pipeline, table)
    return [ScalarQueryParameter(prefix + name, types[name], value) for name, value in row.items() if name not in skip]


def _marks(row: Mapping[str, Any], prefix: str) -> str:
    """List the parameters of a row; a prefixed row shares the script's one date, which is what prunes partitions."""
    return ", ".join("@analysis_date" if name == "analysis_date" else f"@{prefix}{name}" for name in row)


def _insert(table: str, row: Mapping[str, Any], prefix: str) -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({_marks(row, prefix)})"  # noqa: S608 -- keys from records.py


def _insert_if_absent(ledger: str, row: Mapping[str, Any]) -> str:
    return (
        f"INSERT INTO {ledger} ({', '.join(row)}) SELECT {_marks(row, 'new_')} FROM (SELECT 1)"  # noqa: S608 -- keys from records.py
        f" WHERE NOT EXISTS (SELECT 1 FROM {ledger} WHERE analysis_date = @analysis_date)"
    )


def _update_ledger(ledger: str, row: Mapping[str, Any]) -> str:
    changes = ", ".join(f"{name} = @ledger_{name}" for name in row if name != "analysis_date")
    return f"UPDATE {ledger} SET {changes} WHERE {_MAY_WRITE}"  # noqa: S608 -- keys from records.py


def _stop_if_fenced() -> str:
    return f"IF @@row_count != 1 THEN RAISE USING MESSAGE = '{FENCED}'; END IF"


def _delete_date(table: str) -> str:
    return f"DELETE FROM {table} WHERE analysis_date = @analysis_date"  # noqa: S608 -- from the catalogue


def _copy_staged(pipeline: Pipeline, staged: str) -> str:
    columns = ", ".join(column.name for column in pipeline.output_columns)
    published = pipeline.tables.published
    return f"INSERT INTO {published} ({columns}) SELECT {columns} FROM {staged} WHERE left_out_reason IS NULL"  # noqa: S608 -- from the catalogue
