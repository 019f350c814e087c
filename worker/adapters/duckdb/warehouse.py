"""Warehouse on a single machine: a DuckDB file, or memory, with statements in BigQuery's dialect.

Processes use a DuckDB file in turn: `file` opens the file for a call and closes the file when no call comes. Inside a
process any thread may call: each call has a separate cursor, readers see the last commit, and changes of the ledger
take turns under a lock. Storing the rows of a build takes no turn: an append conflicts with no other statement, and a
million rows take seconds.

The rows of an attempt are stored whole or not at all, and no view shows rows without a pointer in the ledger. After a
crash behind the commit of `publish` the ledger names the rows, and a second `publish` changes no row.

Work on the embedded warehouse costs no money; the plan and the counted attempts show the amount of work.
"""

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from worker.adapters.duckdb.dialect import (
    Parser,
    quoted,
    to_bigquery_type,
    to_duckdb,
    translated_errors,
)
from worker.adapters.duckdb.file import MEMORY, WAIT_S, SharedFile
from worker.adapters.duckdb.links import linked_tables, refresh_links
from worker.adapters.duckdb.parquet import catalogue_types
from worker.errors import Fatal, PipelineError, SchemaDrift
from worker.features.arrivals import IDENTITY, Arrival, arrival_rows
from worker.features.generations import EXPORT_ENDINGS, export_ending, plan_rows
from worker.features.model import BuildKey, LedgerRow, Publication, Statement, StatementEstimate, StepCost
from worker.features.pipeline import Pipeline
from worker.features.plan import (
    plan_claim,
    plan_claims,
    plan_ledger,
    plan_publication,
    plan_storing,
    plan_usual,
)
from worker.features.records import (
    check_fence,
    explain_refusal,
    has_published,
    published_profile,
    published_row,
    read_ledger_row,
    refuse_old_tables,
)
from worker.pipelines.files import shipped_pipeline
from worker.pipelines.sql_checks import declared_columns

T = TypeVar("T")


def plan_statement(cursor: duckdb.DuckDBPyConnection, statement: Statement) -> StatementEstimate:
    """Return DuckDB's plan of a SELECT; the numbers of rows are guesses of the planner."""
    cursor.execute(f"EXPLAIN (FORMAT json) {to_duckdb(statement.sql)}", dict(statement.parameters))
    [(_kind, text)] = cursor.fetchall()
    reads = tuple(sorted(scan for plan in json.loads(text) for scan in _scans(plan)))
    return StatementEstimate(name=statement.name, bytes_processed=None, usd=0.0, reads=reads)


def _scans(node: dict[str, Any]) -> Iterator[str]:
    facts = node.get("extra_info") or {}
    if "Table" in facts:
        # Drop the name of the database in front of the table.
        table = ".".join(str(facts["Table"]).split(".")[-2:])
        yield f"{table} (about {facts.get('Estimated Cardinality', '?')} rows)"
    for child in node.get("children", ()):
        yield from _scans(child)


def count_attempts(
    cursor: duckdb.DuckDBPyConnection, executions: str, since: datetime, until: datetime
) -> Sequence[StepCost]:
    """Count the attempts in the execution log that started in [since, until), by day and analysis date."""
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


# A running build may take longer; a process that ends does not wait for the build.
CLOSE_WAIT_S = 1.0
EXPORT_FORMATS = dict(zip(EXPORT_ENDINGS, ("FORMAT parquet", "FORMAT csv, HEADER", "FORMAT json"), strict=True))


class DuckDbWarehouse:
    """`Warehouse` port on a DuckDB database. `close` closes the file for good."""

    def __init__(
        self,
        path: str,
        *,
        memory_limit: str = "2GB",
        threads: int = 2,
        wait_s: float = WAIT_S,
        pipeline: Pipeline | None = None,
    ) -> None:
        """Open or create the database.

        Args:
            path: A file, or `:memory:`.
            memory_limit: Maximal memory of DuckDB, with a unit. Beyond the limit a file spills into a folder beside the
                file, and `:memory:` fails.
            threads: Threads per query, 1 or more.
            wait_s: Seconds for which a call waits for a file opened by another process.
            pipeline: Pipeline of the tables; the shipped pipeline by default.

        Raises:
            Unavailable: Another process keeps the file open for *wait_s*, or the file cannot be read now. Each method
                raises this error, too.
            Fatal: The file is not a database.
        """
        self.pipeline = pipeline or shipped_pipeline()
        self._tables = self.pipeline.tables
        self._wanted = catalogue_types(self.pipeline)
        self._write_lock = threading.Lock()
        self._parser = Parser()
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "threads": threads,
            # No query relies on the order; a build of a million rows takes three quarters of the time without order.
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,  # no download by the warehouse
            "python_enable_replacements": False,  # else a Python variable could replace a missing table
            # A linked file is replaced while the database is open.
            "enable_external_file_cache": False,
            "parquet_metadata_cache": False,
        }
        if path == MEMORY:
            config["temp_directory"] = ""  # else DuckDB would spill into the working directory
        else:
            # DuckDB takes the words before a colon at the start of a relative path for an extension.
            path = str(Path(path).absolute())
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._file = SharedFile(path, config, wait_s=wait_s)
        with self._reading("opening the warehouse"):
            pass  # a faulty file raises here

    def ensure_tables(self) -> None:
        """Create schemas, tables and views in a transaction; add columns that an older release lacked.

        Raises:
            Fatal: The warehouse belongs to a release that stored published rows in a table.
        """
        with self.writing("creating the tables") as cursor:
            for dataset in self.pipeline.datasets:
                cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {dataset}")
            refuse_old_tables(self._tables, {name for name in self._tables.views if _is_table(cursor, name)})
            for table in self._tables.stored:
                ddl = self.pipeline.ddl_of(table)
                cursor.execute(to_duckdb(ddl))
                present = {name for name, *_ in cursor.execute(f"DESCRIBE {table}").fetchall()}
                for column in declared_columns(ddl, "duckdb").values():
                    if column.name not in present:
                        cursor.execute(f"ALTER TABLE {table} ADD COLUMN {column.name} {column.type}")
            for view in self._tables.views:
                cursor.execute(to_duckdb(self.pipeline.ddl_of(view)))

    def prepare_builds(self) -> None:
        """Translate and parse the statements of a build; the first translation in a process takes 0.2 s."""
        # Beside the file, which another process may have open.
        with translated_errors("preparing the builds"), closing(duckdb.connect(MEMORY)) as connection:
            for statement in plan_usual(self.pipeline):
                self._parser.parse(connection, statement.sql)

    def columns(self, table: str) -> Mapping[str, str]:
        """Return the columns of a table from DuckDB's catalogue, with BigQuery types."""
        return self.columns_of([table])[table]

    def columns_of(self, tables: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        """Return the columns of several tables: of a linked table the columns in the file as the file is now.

        A linked table whose file is gone or cannot be read has no columns; a query of the table raises the reason.
        """
        with self._reading(f"reading the columns of {', '.join(tables)}") as cursor:
            found = cursor.execute(
                "SELECT schema_name || '.' || table_name, column_name, data_type FROM duckdb_columns() "
                "WHERE database_name = current_database() ORDER BY column_index"
            ).fetchall()
            links = linked_tables(cursor, self._wanted, tables)
        names = {table.casefold(): table for table in tables}
        columns: dict[str, dict[str, str]] = {table: {} for table in tables}
        for table, column, kind in found:
            if table.casefold() in names:
                columns[names[table.casefold()]][column] = to_bigquery_type(kind)
        columns |= {names[link.table.casefold()]: dict(link.columns) for link in links}
        if any(link.is_stale for link in links):
            self._refresh_links()
        return columns

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        """Translate and run a statement."""
        return self._read_upstream(f"running {statement.name}", lambda cursor: self._rows(cursor, statement))

    def query_all(self, statements: Sequence[Statement]) -> Sequence[Sequence[Mapping[str, Any]] | PipelineError]:
        """Translate and run statements side by side: DuckDB plans a statement with one thread."""

        def answer(statement: Statement) -> Sequence[Mapping[str, Any]] | PipelineError:
            try:
                return self.query(statement)
            except PipelineError as exc:
                return exc

        with ThreadPoolExecutor(max(1, len(statements))) as threads:
            return list(threads.map(answer, statements))

    def stage(self, key: BuildKey, select: Statement) -> None:
        """Store the rows of an attempt in a transaction."""
        storing = plan_storing(select, self.pipeline)
        self._read_upstream(f"staging {key.build_id}", lambda cursor: self._run(cursor, storing))

    def claim(self, key: BuildKey, at: datetime, claimant: str) -> None:
        """Run the statement of a claim; if no row changed, raise the reason shown by the ledger."""
        with self.writing(f"claiming {key.build_id}") as cursor:
            if not self._changed(cursor, plan_claim(key, at, claimant, self.pipeline)):
                check_fence(self._claims(cursor, key.analysis_date), key, claimant, "build")

    def claimed_token(self, analysis_date: date) -> tuple[int, int]:
        """Read the newest claim of an analysis date."""
        with self._reading("reading the ledger") as cursor:
            claims = self._claims(cursor, analysis_date)
        return (claims[0]["claimed_generation"], claims[0]["claimed_attempt"]) if claims else (0, 0)

    def publish(self, publication: Publication) -> None:
        """Append to quality history and feature profile and change the pointer of the ledger, in a transaction."""
        key, claimant = publication.request.key, publication.request.claimant
        with self.writing(f"publishing {key.build_id}") as cursor:
            if has_published(self._claims(cursor, key.analysis_date), key, claimant):
                return
            _insert_row(cursor, self._tables.history, published_row(publication, self.pipeline.blocks))
            _insert_rows(cursor, self._tables.profile, published_profile(publication))
            if not self._changed(cursor, plan_publication(publication, self.pipeline)):
                explain_refusal(self._claims(cursor, key.analysis_date), publication, self._tables.generations)

    def read_ledger(self, analysis_date: date) -> LedgerRow | None:
        """Read the published generation of an analysis date."""
        rows = self._read_ledger(analysis_date, analysis_date)
        return rows[0] if rows else None

    def read_ledger_since(self, first: date) -> Sequence[LedgerRow]:
        """Read the published generations from *first* on."""
        return self._read_ledger(first, date.max)

    def log_execution(self, row: Mapping[str, Any]) -> None:
        """Append to the execution log."""
        with self.writing("logging the execution") as cursor:
            _insert_row(cursor, self._tables.execution, row)

    def log_history(self, row: Mapping[str, Any]) -> None:
        """Append to the quality history."""
        with self.writing("logging what the rows are worth") as cursor:
            _insert_row(cursor, self._tables.history, row)

    def log_replay(self, row: Mapping[str, Any]) -> None:
        """Append to the replay audit."""
        with self.writing("logging the replay") as cursor:
            _insert_row(cursor, self._tables.replay, row)

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """Append the absent arrivals in a transaction, in turn with other writers."""
        with self.writing("recording the arrivals") as cursor:
            _insert_rows(cursor, self._tables.arrivals, arrival_rows(arrivals), identity=IDENTITY)

    def estimate(self, statement: Statement) -> StatementEstimate:
        """Return DuckDB's plan of a statement; the embedded warehouse bills no bytes."""
        return self._read_upstream(f"planning {statement.name}", lambda cursor: plan_statement(cursor, statement))

    def costs(self, since: datetime, until: datetime) -> Sequence[StepCost]:
        """Count the attempts in the execution log; the embedded warehouse bills no bytes."""
        with self._reading("reading the execution log") as cursor:
            return count_attempts(cursor, self._tables.execution, since, until)

    def delete_rows(self, change: Statement) -> int:
        """Delete rows in a transaction, in turn with other writers."""
        with self.writing(f"running {change.name}") as cursor:
            return self._changed(cursor, change)

    def export_features(self, analysis_date: date, build_id: str, path: str) -> int:
        """Write the rows of a build into a file; CSV shows arrays as `[a, b]`."""
        ending = export_ending(path)
        rows = plan_rows(analysis_date, build_id, self.pipeline)
        with self._reading(f"writing {path}") as cursor:
            cursor.execute(
                f"COPY ({to_duckdb(rows.sql)}) TO {quoted(path)} ({EXPORT_FORMATS[ending]})", dict(rows.parameters)
            )
            written = cursor.fetchone()
        return int(written[0]) if written else 0

    def close(self) -> None:
        """Wait a second for running calls, then close the file for good.

        A call that runs longer goes on, and closes the file at the end of the call or of the process.
        """
        self._file.close(CLOSE_WAIT_S)

    @contextmanager
    def writing(self, doing: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """Return a cursor in a transaction that commits at the end of the block and rolls back on any error.

        Writers of a process take turns, so two threads never meet in DuckDB's conflict detection.
        """
        # The file first: a thread that waits for another process must not make other writers wait longer.
        with self._reading(doing) as cursor, self._write_lock:
            cursor.execute("BEGIN TRANSACTION")
            try:
                yield cursor
            except BaseException:
                # The first error says more than an error of the rollback; the closed cursor rolls back anyway.
                with suppress(duckdb.Error):
                    cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    @contextmanager
    def held_open(self) -> Iterator[None]:
        """Keep the file open during the block: other processes wait, and what DuckDB keeps in memory stays."""
        with self._reading("holding the warehouse open"):
            yield

    @contextmanager
    def _reading(self, doing: str) -> Iterator[duckdb.DuckDBPyConnection]:
        with translated_errors(doing), self._file.cursor() as cursor:
            yield cursor

    def _claims(self, cursor: duckdb.DuckDBPyConnection, analysis_date: date) -> list[dict[str, Any]]:
        return self._rows(cursor, plan_claims(analysis_date, self.pipeline))

    def _read_ledger(self, first: date, last: date) -> list[LedgerRow]:
        rows = self.query(plan_ledger(first, last, self.pipeline))
        return [read_ledger_row(row, self.pipeline.blocks) for row in rows]

    def _run(self, cursor: duckdb.DuckDBPyConnection, statement: Statement) -> duckdb.DuckDBPyConnection:
        return cursor.execute(self._parser.parse(cursor, statement.sql), dict(statement.parameters))

    def _rows(self, cursor: duckdb.DuckDBPyConnection, statement: Statement) -> list[dict[str, Any]]:
        self._run(cursor, statement)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _changed(self, cursor: duckdb.DuckDBPyConnection, change: Statement) -> int:
        """Run a statement that changes rows; return the number of changed rows."""
        counted = self._run(cursor, change).fetchone()
        return int(counted[0]) if counted else 0

    def _read_upstream(self, doing: str, read: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Run a statement; after an error that a replaced linked file explains, run the statement once more."""
        try:
            with self._reading(doing) as cursor:
                return read(cursor)
        except (SchemaDrift, Fatal):
            if not self._refresh_links():
                raise
        with self._reading(doing) as cursor:
            return read(cursor)

    def _refresh_links(self) -> int:
        """Adapt the views of linked tables to the files as the files are now; return the number of new views."""
        with self.writing("reading the linked files") as cursor:
            return refresh_links(cursor, self._wanted)


def _is_table(cursor: duckdb.DuckDBPyConnection, name: str) -> bool:
    dataset, table = name.split(".")
    found = cursor.execute(
        "SELECT COUNT(*) FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = ? "
        "AND table_name = ?",
        [dataset, table],
    ).fetchone()
    return bool(found and found[0])


def _insert_row(cursor: duckdb.DuckDBPyConnection, table: str, row: Mapping[str, Any]) -> None:
    names, marks = ", ".join(row), ", ".join("?" for _ in row)
    cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))  # noqa: S608 -- keys from records.py


def _insert_rows(
    cursor: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Mapping[str, Any]], identity: Sequence[str] = ()
) -> None:
    """Insert rows with the same columns in one statement, with one parameter for each column.

    With *identity* a row is left out if the table holds a row with the same values in these columns.
    """
    if not rows:
        return
    names, marks = ", ".join(rows[0]), ", ".join(f"UNNEST(?) AS {name}" for name in rows[0])
    columns = [[row[name] for row in rows] for name in rows[0]]
    same = " AND ".join(f"stored.{name} = made.{name}" for name in identity)
    absent = f" WHERE NOT EXISTS (SELECT 1 FROM {table} AS stored WHERE {same})" if identity else ""  # noqa: S608 -- as below
    insert = f"INSERT INTO {table} ({names}) SELECT {names} FROM (SELECT {marks}) AS made{absent}"  # noqa: S608 -- keys from records.py
    cursor.execute(insert, columns)
