"""What a statement would read, in BigQuery's terms: the columns it names, over the partitions it does not prune.

A column costs its data size: 8 bytes for numbers, dates and instants, 1 for a BOOL, 2 and the UTF-8 length for a text.
A table is read whole unless the SELECT around it compares the partition column with parameters or literals. Counted
over the tables as they are now, so the number is a bound that running the statement now would reach and not exceed.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import duckdb
from sqlglot import exp

from tests.support.bigquery_peer.engine import JOBS_TABLE, SCRIPT_WORDS, PeerEngine, read_sql, split_script
from tests.support.bigquery_peer.wire import engine_error
from worker.adapters.duckdb.dialect import render

# BigQuery bills each table that a query reads with ten megabytes at least.
BILLED_MIN_PER_TABLE = 10 * 1024 * 1024
PLANNED_MAX = 512
FIXED_SIZES = {"BOOLEAN": 1}
NUMBER_SIZE = 8

_COMPARISONS = (exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In)


def estimate(engine: PeerEngine, sql: str, parameters: Mapping[str, Any]) -> tuple[int, int]:
    """Give (bytes processed, bytes billed) of a statement's or a script's SELECTs.

    Raises:
        WireError: A table that it reads does not exist.
    """
    total, tables = 0, set()
    for table, names, node in _reads(sql):
        tables.add(table)
        pruning = pruning_conditions(node, engine.partitions.get(table, ""))
        with engine.cursor() as cursor:
            try:
                total += _read_size(cursor, table, names, pruning, parameters)
            except duckdb.Error as error:
                raise engine_error(error) from error
    return total, max(total, BILLED_MIN_PER_TABLE * len(tables)) if tables else 0


def tables_read(sql: str) -> list[str]:
    """List the tables that a statement reads, `dataset.table`."""
    return sorted({table for table, _, _ in _reads(sql)})


def columns_read(sql: str) -> dict[str, frozenset[str]]:
    """List the columns that a statement reads, by table; `*` for all of them."""
    found: dict[str, frozenset[str]] = {}
    for table, names, _ in _reads(sql):
        found[table] = found.get(table, frozenset()) | names
    return found


@lru_cache(maxsize=PLANNED_MAX)
def _reads(sql: str) -> list[tuple[str, frozenset[str], exp.Table]]:
    """List each table that the statement reads, with the names used there and the SELECT around it."""
    reads: list[tuple[str, frozenset[str], exp.Table]] = []
    for statement in split_script(sql):
        if not statement.upper().startswith(SCRIPT_WORDS):
            reads += _find_reads(read_sql(statement))
    return reads


def _find_reads(tree: exp.Expr) -> Iterator[tuple[str, frozenset[str], exp.Table]]:
    for table in tree.find_all(exp.Table):
        select = table.find_ancestor(exp.Select)
        if table.find_ancestor(exp.Create) is not None:
            continue
        if select is None or not table.db or "INFORMATION_SCHEMA" in table.sql() or table.db in JOBS_TABLE:
            continue
        starred = any(isinstance(one, exp.Star) for one in select.expressions)
        names = frozenset("*") if starred else frozenset(column.name for column in select.find_all(exp.Column))
        yield f"{table.db}.{table.name}", names, table


def pruning_conditions(table: exp.Table, partition: str) -> list[exp.Expr]:
    """Find the conditions around a table, in WHERE or ON, that decide which of its partitions are read or changed."""
    around = table.find_ancestor(exp.Select, exp.Update, exp.Delete, exp.Merge)
    if around is None or not partition:
        return []
    where = around.args.get("where")
    sources = [
        where.this if where is not None else None,
        around.args.get("on"),
        *(one.args.get("on") for one in around.args.get("joins") or ()),
    ]
    conjuncts = (part for one in sources if one is not None for part in _conjuncts(one))
    return [_unqualified(one) for one in conjuncts if _is_pruning(one, partition, table.alias_or_name)]


def _conjuncts(condition: exp.Expr) -> Iterator[exp.Expr]:
    yield from condition.flatten() if isinstance(condition, exp.And) else [condition]


def _is_pruning(condition: exp.Expr, partition: str, table: str) -> bool:
    """Tell whether a condition compares the table's bare partition column with nothing but parameters and literals."""
    columns = list(condition.find_all(exp.Column))
    is_bare = any(isinstance(side, exp.Column) for side in (condition.this, condition.args.get("expression")))
    if not isinstance(condition, _COMPARISONS) or not is_bare or len(columns) != 1:
        return False
    return columns[0].name == partition and columns[0].table in {"", table}


def _unqualified(condition: exp.Expr) -> exp.Expr:
    copied = condition.copy()
    for column in copied.find_all(exp.Column):
        column.set("table", None)
    return copied


def _read_size(
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    names: frozenset[str],
    pruning: list[exp.Expr],
    parameters: Mapping[str, Any],
) -> int:
    described = cursor.execute(f"DESCRIBE {table}").fetchall()
    sizes = [_size(name, kind) for name, kind, *_ in described if "*" in names or name in names]
    bound = {used.name for one in pruning for used in one.find_all(exp.Parameter)}
    where = "".join(f" AND {render(one)}" for one in pruning)
    sql = f"SELECT COALESCE(SUM({' + '.join(sizes) or 0}), 0) FROM {table} WHERE TRUE{where}"  # noqa: S608 -- from the catalogue
    found = cursor.execute(sql, {name: parameters.get(name) for name in bound}).fetchone()
    return int(found[0]) if found else 0


def _size(name: str, kind: str) -> str:
    if kind == "VARCHAR":
        return f"COALESCE(2 + strlen({name}), 0)"
    if kind.startswith("STRUCT"):
        return f"COALESCE({NUMBER_SIZE} * len({name}), 0)"
    if kind == "VARCHAR[]":
        return f"COALESCE(list_sum(list_transform({name}, lambda x: 2 + strlen(x))), 0)"
    return f"IF({name} IS NULL, 0, {FIXED_SIZES.get(kind, NUMBER_SIZE)})"
