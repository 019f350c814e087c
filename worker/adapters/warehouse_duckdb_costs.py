"""What work costs on the embedded warehouse: no money, but the plan and the attempts on record show how much it is."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import duckdb

from worker.adapters.warehouse_duckdb_dialect import to_duckdb
from worker.features.model import Statement, StatementEstimate, StepCost


def plan_statement(cursor: duckdb.DuckDBPyConnection, statement: Statement) -> StatementEstimate:
    """Have DuckDB plan a SELECT; its rows per table are the planner's guesses."""
    cursor.execute(f"EXPLAIN (FORMAT json) {to_duckdb(statement.sql)}", dict(statement.parameters))
    [(_kind, text)] = cursor.fetchall()
    reads = tuple(sorted(scan for plan in json.loads(text) for scan in _scans(plan)))
    return StatementEstimate(name=statement.name, bytes_processed=None, usd=0.0, reads=reads)


def _scans(node: dict[str, Any]) -> Iterator[str]:
    facts = node.get("extra_info") or {}
    if "Table" in facts:
        # The database's own name in front says nothing to the reader.
        table = ".".join(str(facts["Table"]).split(".")[-2:])
        yield f"{table} (about {facts.get('Estimated Cardinality', '?')} rows)"
    for child in node.get("children", ()):
        yield from _scans(child)


def count_attempts(
    cursor: duckdb.DuckDBPyConnection, executions: str, since: datetime, until: datetime
) -> Sequence[StepCost]:
    """Count the attempts in the execution log that began in [since, until), by day and date."""
    cursor.execute(
        "SELECT CAST(started_at AS DATE) AS executed_on, analysis_date, COUNT(*) "  # noqa: S608 -- from the catalogue
        f"FROM {executions} WHERE started_at >= ? AND started_at < ? GROUP BY ALL ORDER BY 1 DESC, 2",
        [since, until],
    )
    return [
        StepCost(
            executed_on=day,
            analysis_date=analysis_date,
            step="build",
            jobs=attempts,
            bytes_processed=0,
            bytes_billed=0,
            slot_ms=0,
            usd=0.0,
        )
        for day, analysis_date, attempts in cursor.fetchall()
    ]
