"""One project of the BigQuery peer: DuckDB behind BigQuery's dialect, scripts, variables and transactions.

A transaction reads one snapshot and commits whole. Two transactions that change rows of the same table never both
commit: the second is aborted at the statement that changes the table, whatever rows it changes, as BigQuery does by
table. A single statement is a transaction of its own, and changes only the partition that its `WHERE` names.

`pace` makes each statement last as long as the same kind of statement was recorded to last against Google's service.
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

from tests.support.bigquery_peer.wire import WireError, aborted, engine_error
from worker.adapters.duckdb.dialect import render
from worker.adapters.duckdb.parquet import replace_table
from worker.errors import Fatal
from worker.pipelines.sql_checks import parse_statement

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
_NAMES_A_TARGET = exp.Insert | exp.Update | exp.Merge | exp.Delete | exp.Create | exp.Drop
_DECLARE = re.compile(r"DECLARE\s+(\w+)\s+\w+$", re.IGNORECASE)
_SET = re.compile(r"SET\s+(\w+)\s*=\s*(.+)$", re.IGNORECASE | re.DOTALL)
_PARTITION_NAMES = ("analysis_date", "game_date", "snapshot_date")
TRANSLATED_MAX = 512
# Seconds that one statement of a kind was recorded to last on Google's service, whatever the (small) number of rows.
# A MERGE of one row counts as an UPDATE.
RECORDED_S = {"INSERT": 2.1, "UPDATE": 2.5, "MERGE": 2.5, "DELETE": 2.7, "SELECT": 0.85}
SCRIPT_WORDS = ("BEGIN ", "COMMIT ", "ROLLBACK ", "DECLARE ", "SET ")
"""How the statements of a script begin that are no SQL about tables."""
CHANGES = ("INSERT", "UPDATE", "MERGE", "DELETE")


@dataclass(frozen=True, slots=True)
class StatementResult:
    """What a statement or script gave: rows of a SELECT, or the number of rows that DML changed."""

    kind: str
    schema: Sequence[Any] = ()
    rows: Sequence[Sequence[Any]] = ()
    changed: int | None = None


@dataclass(frozen=True, slots=True)
class Translated:
    """A statement in DuckDB's dialect, and what the engine must know of it.

    Attributes:
        changed_partition: Parameter whose value is the only partition that a DML statement changes; empty for all.
    """

    kind: str
    sql: str
    parameters: frozenset[str]
    target: str
    partition: str
    clusters: tuple[str, ...]
    changed_partition: str = ""


_Part = tuple[str, str]
"""A table and one of its partitions; an empty one stands for all."""


@dataclass(slots=True, eq=False)
class _Transaction:
    """A transaction, what the transaction has changed, and how many had committed before its start."""

    started: int
    alone: bool = False
    """Whether the transaction is a single statement."""
    changed: set[_Part] = field(default_factory=set)


class PeerEngine:
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
        self._changed_at: dict[_Part, int] = {}
        self._changing: dict[_Part, _Transaction] = {}
        self._pace = 0.0
        self._by_table = False

    def pace(self, factor: float) -> None:
        """Let each statement last *factor* times its recorded seconds; 0, as at the start, adds nothing."""
        self._pace = factor

    def conflict_by_table(self) -> None:
        """Let any two changes of one table conflict, whichever partitions they are about."""
        self._by_table = True

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

    def run(self, sql: str, parameters: Mapping[str, Any]) -> StatementResult:
        """Run a statement, or a script of several; give what its last statement gave.

        Whether BigQuery answers with the rows of a SELECT that other statements follow is not known; here it does not.

        Args:
            sql: BigQuery's dialect.
            parameters: By name.

        Raises:
            WireError: In BigQuery's words; an open transaction is rolled back.
        """
        statements = split_script(sql)
        with self.cursor() as cursor:
            try:
                if len(statements) == 1:
                    return self._single(cursor, statements[0], parameters)
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

    def _single(self, cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any]) -> StatementResult:
        translated = translate(sql)
        with self._transaction(alone=True) as transaction:
            answer = self._change(cursor, translated, parameters, transaction)
            self._keep(transaction)
        if translated.kind == "CREATE_TABLE":
            self.partitions[translated.target] = translated.partition
            self.clusters[translated.target] = translated.clusters
        if translated.kind == "CREATE_VIEW":
            # A condition on a column of a view prunes the tables below it, where that column partitions these.
            self.declare_partition(translated.target)
        return answer

    def _script(
        self, cursor: duckdb.DuckDBPyConnection, statements: Sequence[str], parameters: Mapping[str, Any]
    ) -> StatementResult:
        """Run the statements in turn. Leaving by an error closes the cursor, which rolls back."""
        answer = StatementResult("SCRIPT")
        variables: dict[str, Any] = {}
        with self._transaction() as transaction:
            for statement in statements:
                word = " ".join(statement.upper().split()[:2])
                values = {**parameters, **variables}
                answer = StatementResult("SCRIPT")
                if (declared := _DECLARE.match(statement)) is not None:
                    variables[declared[1]] = None
                elif (given := _SET.match(statement)) is not None and given[1] in variables:
                    selected = translate(f"SELECT {_as_parameters(given[2], variables)} AS given")
                    [[variables[given[1]]]] = self._change(cursor, selected, values, transaction).rows
                elif word == "BEGIN TRANSACTION":
                    transaction.started = self._commits
                    cursor.execute("BEGIN TRANSACTION")
                elif word == "COMMIT TRANSACTION":
                    cursor.execute("COMMIT")
                    self._keep(transaction)
                elif word == "ROLLBACK TRANSACTION":
                    cursor.execute("ROLLBACK")
                else:
                    translated = translate(_as_parameters(statement, variables))
                    answer = self._change(cursor, translated, values, transaction)
        return StatementResult("SCRIPT", answer.schema, answer.rows)

    @contextmanager
    def _transaction(self, *, alone: bool = False) -> Iterator[_Transaction]:
        """Open a transaction, which gives up its tables at the end, committed or not."""
        transaction = _Transaction(started=self._commits, alone=alone)
        try:
            yield transaction
        finally:
            with self._lock:
                self._changing = {table: who for table, who in self._changing.items() if who is not transaction}

    def _keep(self, transaction: _Transaction) -> None:
        """Note that the changes of *transaction* are committed."""
        with self._lock:
            self._commits += 1
            self._changed_at.update(dict.fromkeys(transaction.changed, self._commits))

    def _change(
        self,
        cursor: duckdb.DuckDBPyConnection,
        translated: Translated,
        parameters: Mapping[str, Any],
        transaction: _Transaction,
    ) -> StatementResult:
        """Run a statement of *transaction*.

        Raises:
            WireError: Another transaction is changing the statement's table, or has changed it since the start.
        """
        if translated.kind not in {"UPDATE", "MERGE", "DELETE"}:
            return self._execute(cursor, translated, parameters)
        named = translated.changed_partition if transaction.alone and not self._by_table else ""
        part = (translated.target, str(parameters.get(named, "")))
        with self._lock:
            held = [other for other, who in self._changing.items() if who is not transaction]
            late = [other for other, commit in self._changed_at.items() if commit > transaction.started]
            if any(_overlap(part, other) for other in (*held, *late)):
                raise aborted(translated.target)
            self._changing[part] = transaction
        answer = self._execute(cursor, translated, parameters)
        if answer.changed:
            transaction.changed.add(part)
        return answer

    def _execute(
        self, cursor: duckdb.DuckDBPyConnection, translated: Translated, parameters: Mapping[str, Any]
    ) -> StatementResult:
        if self._pace:
            threading.Event().wait(self._pace * RECORDED_S.get(translated.kind, 0.0))
        return _execute(cursor, translated, parameters)


def _overlap(part: _Part, other: _Part) -> bool:
    """Return whether two changes may touch the same row."""
    same_table = part[0] == other[0]
    return same_table and (part[1] == other[1] or not part[1] or not other[1])


def split_script(sql: str) -> list[str]:
    """Divide a script at its semicolons, outside text literals and comments."""
    code = "\n".join(line for line in sql.splitlines() if not line.lstrip().startswith("--"))
    parts = re.findall(r"(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^;'\"])+", code)
    return [statement for part in parts if (statement := part.strip())]


def _as_parameters(statement: str, variables: Mapping[str, Any]) -> str:
    """Write a script's variables as parameters of the same names."""
    for name in variables:
        statement = re.sub(rf"(?<![@.\w]){name}\b", f"@{name}", statement)
    return statement


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
        target = tree.find(exp.Table) if isinstance(tree, _NAMES_A_TARGET) else None
        return Translated(
            kind=_kind(tree),
            parameters=frozenset(parameter.name for parameter in tree.find_all(exp.Parameter)),
            target=f"{target.db}.{target.name}" if target is not None else "",
            partition=partition,
            clusters=clusters,
            changed_partition=_changed_partition(tree),
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
        return parse_statement(sql)
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


def _changed_partition(tree: exp.Expr) -> str:
    """Return the parameter that WHERE, or ON of a MERGE, compares the partition column with; empty for none."""
    where, on = tree.args.get("where"), tree.args.get("on")
    condition = on if isinstance(tree, exp.Merge) else where.this if where is not None else None
    for equal in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        if not isinstance(equal, exp.EQ):
            continue
        column, value = equal.left, equal.right
        if isinstance(column, exp.Column) and column.name in _PARTITION_NAMES and isinstance(value, exp.Parameter):
            return value.name
    return ""


def _kind(tree: exp.Expr) -> str:
    kinds = {
        exp.Insert: "INSERT",
        exp.Update: "UPDATE",
        exp.Merge: "MERGE",
        exp.Delete: "DELETE",
        exp.Create: f"CREATE_{tree.args.get('kind')}",
        exp.Drop: f"DROP_{tree.args.get('kind')}",
        exp.Alter: "ALTER_TABLE",
        exp.Query: "SELECT",
    }
    for type_, name in kinds.items():
        if isinstance(tree, type_):
            return name
    raise WireError("invalidQuery", f"this peer does not run: {tree.sql(dialect='bigquery')}")


def _execute(
    cursor: duckdb.DuckDBPyConnection, translated: Translated, parameters: Mapping[str, Any]
) -> StatementResult:
    missing = translated.parameters - parameters.keys()
    if missing:
        raise WireError("invalidQuery", f"Query parameter '{min(missing)}' not found")
    cursor.execute(translated.sql, {name: parameters[name] for name in translated.parameters})
    rows = cursor.fetchall()
    if translated.kind == "SELECT":
        return StatementResult(translated.kind, cursor.description or (), rows)
    if translated.kind in CHANGES:
        return StatementResult(translated.kind, changed=int(rows[0][0]) if rows else 0)
    return StatementResult(translated.kind)
