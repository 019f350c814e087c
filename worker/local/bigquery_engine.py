"""One project of the BigQuery peer: DuckDB behind BigQuery's dialect, scripts and transactions.

A transaction reads one snapshot and commits whole. Two that change rows of the same table never both commit: the one
that comes second is aborted, whatever rows it changed, as BigQuery does by table.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
from sqlglot import exp

from worker.adapters.warehouse_duckdb_dialect import parse, render
from worker.adapters.warehouse_duckdb_parquet import replace_table
from worker.errors import Fatal
from worker.local.bigquery_wire import WireError, aborted, engine_error

JOBS_TABLE = "peer_information_schema.jobs"
_JOBS_VIEW = re.compile(r"INFORMATION_SCHEMA\.JOBS(_BY_PROJECT|_BY_USER)?$", re.IGNORECASE)
_JOBS_DDL = """
    CREATE SCHEMA peer_information_schema;
    CREATE TABLE peer_information_schema.jobs (
      creation_time TIMESTAMPTZ, job_id VARCHAR, parent_job_id VARCHAR, user_email VARCHAR, job_type VARCHAR,
      statement_type VARCHAR, state VARCHAR, total_bytes_processed BIGINT, total_bytes_billed BIGINT,
      total_slot_ms BIGINT, labels STRUCT("key" VARCHAR, "value" VARCHAR)[]
    )
"""
_RAISE = re.compile(r"IF\s+@@row_count\s*!=\s*(\d+)\s+THEN\s+RAISE\s+USING\s+MESSAGE\s*=\s*'([^']*)'$", re.IGNORECASE)
_PARTITION_NAMES = ("analysis_date", "game_date", "snapshot_date")
TRANSLATED_MAX = 512


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement or script gave: rows of a SELECT, or the number of rows that DML changed."""

    kind: str
    schema: Sequence[Any] = ()
    rows: Sequence[Sequence[Any]] = ()
    changed: int | None = None


@dataclass(frozen=True, slots=True)
class Translated:
    """A statement in DuckDB's dialect, and what the engine must know of it."""

    kind: str
    sql: str
    parameters: frozenset[str]
    target: str
    partition: str
    clusters: tuple[str, ...]


@dataclass(slots=True)
class _Transaction:
    started: int
    changed: set[str] = field(default_factory=set)


class Engine:
    """The tables of one project, in memory."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(
            ":memory:",
            config={"autoinstall_known_extensions": False, "python_enable_replacements": False, "threads": 2},
        )
        self._connection.execute("SET GLOBAL TimeZone = 'UTC'")
        self._connection.execute("SET GLOBAL ieee_floating_point_ops = false")
        self._connection.execute(_JOBS_DDL)
        self.partitions: dict[str, str] = {}
        self.clusters: dict[str, tuple[str, ...]] = {}
        self._lock = threading.Lock()
        self._commits = 0
        self._changed_at: dict[str, int] = {}

    def close(self) -> None:
        """Forget everything."""
        self._connection.close()

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a cursor of its own: for the peer's catalogue, and for tests that fill tables."""
        with closing(self._connection.cursor()) as cursor:
            yield cursor

    def load(self, directory: Path) -> None:
        """Fill tables from a folder of `<dataset>.<table>.parquet`, partitioned by their date column."""
        with self.cursor() as cursor:
            for path in sorted(directory.glob("*.*.parquet")):
                table = path.name.removesuffix(".parquet")
                replace_table(cursor, table, path)
                self.declare_partition(table)

    def declare_partition(self, table: str) -> None:
        """Note by which date column a table that no DDL made is partitioned."""
        with self.cursor() as cursor:
            names = [column[0] for column in cursor.execute(f"SELECT * FROM {table} LIMIT 0").description or ()]  # noqa: S608 -- the caller's own table
        self.partitions[table] = next((name for name in _PARTITION_NAMES if name in names), "")

    def run(self, sql: str, parameters: Mapping[str, Any], destination: str | None = None) -> Answer:
        """Run a statement, or a script of several; give what its last SELECT or DML gave.

        Args:
            sql: BigQuery's dialect.
            parameters: By name.
            destination: `dataset.table` that a SELECT's rows replace.

        Raises:
            WireError: In BigQuery's words; an open transaction is rolled back.
        """
        statements = split_script(sql)
        with self.cursor() as cursor:
            try:
                if len(statements) == 1:
                    return self._single(cursor, statements[0], parameters, destination)
                return self._script(cursor, statements, parameters)
            except duckdb.Error as error:
                raise engine_error(error) from error

    def explain(self, sql: str, parameters: Mapping[str, Any]) -> str:
        """Check one statement against the tables, without running it; give DuckDB's plan.

        Raises:
            WireError: In BigQuery's words.
        """
        translated = translate(split_script(sql)[0])
        with self.cursor() as cursor:
            try:
                bound = {name: parameters[name] for name in translated.parameters}
                cursor.execute(f"EXPLAIN {translated.sql}", bound)
                return "\n".join(str(line[-1]) for line in cursor.fetchall())
            except duckdb.Error as error:
                raise engine_error(error) from error

    def _single(
        self, cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any], destination: str | None
    ) -> Answer:
        translated = translate(sql)
        if destination is not None:
            return _execute(cursor, translated, parameters, f"CREATE OR REPLACE TABLE {destination} AS ")
        answer = _execute(cursor, translated, parameters)
        if translated.kind == "CREATE_TABLE":
            self.partitions[translated.target] = translated.partition
            self.clusters[translated.target] = translated.clusters
        return answer

    def _script(
        self, cursor: duckdb.DuckDBPyConnection, statements: Sequence[str], parameters: Mapping[str, Any]
    ) -> Answer:
        """Run the statements in turn. Leaving by an error closes the cursor, which rolls back."""
        transaction: _Transaction | None = None
        answer = Answer("SCRIPT")
        for statement in statements:
            word = " ".join(statement.upper().split()[:2])
            if word == "BEGIN TRANSACTION":
                transaction = _Transaction(started=self._commits)
                cursor.execute("BEGIN TRANSACTION")
            elif word == "COMMIT TRANSACTION":
                self._commit(cursor, transaction or _Transaction(started=self._commits))
                transaction = None
            elif word == "ROLLBACK TRANSACTION":
                cursor.execute("ROLLBACK")
                transaction = None
            elif word.startswith("IF "):
                _check_row_count(statement, answer.changed)
            else:
                translated = translate(statement)
                answer = _execute(cursor, translated, parameters)
                if transaction is not None and translated.kind in {"UPDATE", "DELETE"} and answer.changed:
                    transaction.changed.add(translated.target)
        return Answer("SCRIPT", answer.schema, answer.rows)

    def _commit(self, cursor: duckdb.DuckDBPyConnection, transaction: _Transaction) -> None:
        with self._lock:
            late = [table for table in transaction.changed if self._changed_at.get(table, 0) > transaction.started]
            if late:
                raise aborted(late[0])
            cursor.execute("COMMIT")
            self._commits += 1
            self._changed_at.update(dict.fromkeys(transaction.changed, self._commits))


def split_script(sql: str) -> list[str]:
    """Divide a script at its semicolons, outside text literals and comments; `END IF` closes the IF before it."""
    code = "\n".join(line for line in sql.splitlines() if not line.lstrip().startswith("--"))
    parts = re.findall(r"(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^;'\"])+", code)
    statements = [part.strip() for part in parts]
    return [one for one in statements if one and one.upper() != "END IF"]


def _check_row_count(statement: str, changed: int | None) -> None:
    found = _RAISE.match(" ".join(statement.split()))
    if found is None:
        raise WireError("invalidQuery", f"this peer does not know the script statement: {statement}")
    if changed != int(found[1]):
        raise WireError("invalidQuery", f"{found[2]} at [1:1]")


@lru_cache(maxsize=TRANSLATED_MAX)
def translate(sql: str) -> Translated:
    """Say a statement in DuckDB's words.

    Raises:
        WireError: It is not BigQuery SQL, or nothing that DuckDB could do.
    """
    tree = read_sql(sql)
    try:
        for table in tree.find_all(exp.Table):
            _rename(table)
        partition, clusters = _layout(tree)
        target = tree.find(exp.Table) if isinstance(tree, exp.Insert | exp.Update | exp.Delete | exp.Create) else None
        return Translated(
            kind=_kind(tree),
            parameters=frozenset(parameter.name for parameter in tree.find_all(exp.Parameter)),
            target=f"{target.db}.{target.name}" if target is not None else "",
            partition=partition,
            clusters=clusters,
            sql=render(tree),
        )
    except Fatal as error:
        raise WireError("invalidQuery", f"Syntax error: {error}") from error


def read_sql(sql: str) -> exp.Expr:
    """Read one statement.

    Raises:
        WireError: It is not BigQuery SQL.
    """
    try:
        return parse(sql)
    except Fatal as error:
        raise WireError("invalidQuery", f"Syntax error: {error}") from error


def _rename(table: exp.Table) -> None:
    """Drop the project: one engine holds one. The jobs view becomes the peer's own table."""
    if _JOBS_VIEW.search(".".join(part.name for part in table.parts)):
        dataset, name = JOBS_TABLE.split(".")
        alias = table.args.get("alias")
        table.replace(exp.table_(name, db=dataset, alias=alias.name if alias else None))
        return
    table.set("catalog", None)


def _layout(tree: exp.Expr) -> tuple[str, tuple[str, ...]]:
    partition = tree.find(exp.PartitionedByProperty)
    cluster = tree.find(exp.ClusterProperty)
    by = partition.find(exp.Identifier) if partition is not None else None
    clusters = tuple(one.name for one in cluster.find_all(exp.Identifier)) if cluster is not None else ()
    return (by.name if by is not None else ""), clusters


def _kind(tree: exp.Expr) -> str:
    kinds = {
        exp.Insert: "INSERT",
        exp.Update: "UPDATE",
        exp.Delete: "DELETE",
        exp.Create: "CREATE_TABLE",
        exp.Alter: "ALTER_TABLE",
        exp.Query: "SELECT",
    }
    for type_, name in kinds.items():
        if isinstance(tree, type_):
            return name
    raise WireError("invalidQuery", f"this peer does not run: {tree.sql(dialect='bigquery')}")


def _execute(
    cursor: duckdb.DuckDBPyConnection, translated: Translated, parameters: Mapping[str, Any], prefix: str = ""
) -> Answer:
    missing = translated.parameters - parameters.keys()
    if missing:
        raise WireError("invalidQuery", f"Query parameter '{min(missing)}' not found")
    cursor.execute(prefix + translated.sql, {name: parameters[name] for name in translated.parameters})
    rows = cursor.fetchall()
    if translated.kind == "SELECT" and not prefix:
        return Answer(translated.kind, cursor.description or (), rows)
    if translated.kind in {"INSERT", "UPDATE", "DELETE"}:
        return Answer(translated.kind, changed=int(rows[0][0]) if rows else 0)
    return Answer(translated.kind)
