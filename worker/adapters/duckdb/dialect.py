"""Translation between BigQuery and DuckDB: statements, types, and errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import duckdb
import sqlglot
from sqlglot import exp

from worker.errors import Fatal, PipelineError, SchemaDrift, SourceGone, Unavailable
from worker.pipelines.sql_checks import parse_statement

# The product has some fifteen statements; the rest are queries of the operator.
TRANSPILED_MAX = 256

BIGQUERY_TYPES = {
    "BIGINT": "INT64",
    "INTEGER": "INT64",
    "SMALLINT": "INT64",
    "TINYINT": "INT64",
    "UINTEGER": "INT64",
    "USMALLINT": "INT64",
    "UTINYINT": "INT64",
    "HUGEINT": "BIGNUMERIC",
    "UBIGINT": "NUMERIC",
    "DOUBLE": "FLOAT64",
    "FLOAT": "FLOAT64",
    "VARCHAR": "STRING",
    "BOOLEAN": "BOOL",
    "DATE": "DATE",
    "TIME": "TIME",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
    "TIMESTAMPTZ_NS": "TIMESTAMP",
    "TIMESTAMP": "DATETIME",
    "TIMESTAMP_S": "DATETIME",
    "TIMESTAMP_MS": "DATETIME",
    "TIMESTAMP_NS": "DATETIME",
    "BLOB": "BYTES",
}
"""DuckDB's and BigQuery's names of the types; a decimal of any width is NUMERIC."""


@lru_cache(maxsize=TRANSPILED_MAX)
def to_duckdb(sql: str) -> str:
    """Translate a statement from BigQuery to DuckDB; `@name` becomes `$name`.

    Partitioning, clustering and options of a CREATE TABLE are dropped: a DuckDB table has none.

    Raises:
        Fatal: The text is not exactly one BigQuery statement.
    """
    return render(parse_statement(sql))


class Parser:
    """Translated statements as DuckDB parsed them, kept by text; a full store begins again. Thread-safe.

    Parsing takes a fifth of the time of the long SELECT of a usual night. A parsed statement belongs to no connection,
    so the statement outlives the closing of the file.
    """

    def __init__(self) -> None:
        self._known: dict[str, duckdb.Statement] = {}

    def parse(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
        """Return a statement in BigQuery's dialect as a parsed statement of DuckDB; no database is read.

        Raises:
            Fatal: The text is not exactly one BigQuery statement.
        """
        known = self._known.get(sql)
        if known is None:
            [known] = cursor.extract_statements(to_duckdb(sql))
            if len(self._known) >= TRANSPILED_MAX:
                self._known.clear()
            self._known[sql] = known
        return known


def render(tree: exp.Expr) -> str:
    """Return a statement in DuckDB's dialect; *tree* is changed.

    Raises:
        Fatal: DuckDB has no form of the statement.
    """
    for create in tree.find_all(exp.Create):
        create.set("properties", None)
    try:
        return tree.sql(dialect="duckdb", comments=False)
    except sqlglot.errors.SqlglotError as error:
        raise Fatal(f"the statement has no form in DuckDB: {error}") from error


def to_bigquery_type(duckdb_type: str) -> str:
    """Return BigQuery's name of a DuckDB type; a type unknown to BigQuery keeps DuckDB's name."""
    if duckdb_type.endswith("[]"):
        return f"ARRAY<{to_bigquery_type(duckdb_type.removesuffix('[]'))}>"
    if duckdb_type.startswith("STRUCT("):
        fields = duckdb.dtype(duckdb_type).children
        return f"STRUCT<{', '.join(f'{name} {to_bigquery_type(str(kind))}' for name, kind in fields)}>"
    if duckdb_type.startswith("DECIMAL"):
        return "NUMERIC"
    return BIGQUERY_TYPES.get(duckdb_type, duckdb_type)


def quoted(text: str) -> str:
    """Return *text* as an SQL string literal, for places without parameters in DuckDB."""
    return "'" + text.replace("'", "''") + "'"


_PATTERNS = re.compile(r"[*?\[]")
_ESCAPED_PATTERNS = re.compile(r"\[([*?\[])\]")


def without_patterns(path: str) -> str:
    """Return a path in which DuckDB finds no pattern (`*`, `?`, `[`) but exactly the file of this name."""
    return _PATTERNS.sub(r"[\g<0>]", path)


def path_behind(escaped: str) -> Path:
    """Return the path behind the text of `without_patterns`."""
    return Path(_ESCAPED_PATTERNS.sub(r"\1", escaped))


@contextmanager
def translated_errors(doing: str) -> Iterator[None]:
    """Raise DuckDB's errors as errors of `worker.errors`; *doing* names the attempted action."""
    try:
        yield
    except duckdb.Error as error:
        raise _translate(error, doing) from error


_EXCERPT = "\n\nLINE "
_FILE_GONE = re.compile(
    r'No files found that match the pattern "(?P<bound>.+)"|Cannot open file "(?P<read>.+)": No such file'
)


# The file of a linked table is no Parquet file, or a part of the file cannot be read.
_BAD_FILE = re.compile(
    r"(?:No magic bytes|Failed to read (?:Parquet )?file|Could not read enough bytes).*\.parquet"
    r"|\.parquet.*(?:too small to be a Parquet|Permission denied)"
)
# A retry reads the same bytes again. A short Parquet file is excepted: the writer may still be at work.
_DAMAGED = re.compile(
    r"Corrupt (?:database|WAL) file|does not match stored checksum|replaying WAL|not a valid DuckDB database"
    r"|Could not read enough bytes(?!.*\.parquet)"
)
_OTHER_VERSION = re.compile(r"version number|newer version of DuckDB|older version of DuckDB")
_MEMORY = re.compile(r"Out of Memory|could not allocate block|failed to pin block")
_CURE = "move the file away and keep it, then fill a new one: mlfs load DIR, then mlfs recover (docs/deploy.md)"


def _lasting(text: str, path: str) -> Fatal | None:
    """Return the error of a database file that no retry makes readable; None for every other fault."""
    said = " ".join(text.split())
    if _OTHER_VERSION.search(text):
        return Fatal(
            f"the warehouse file {path} is of another version of DuckDB: {said}; open the file with that version "
            f"(EXPORT DATABASE), or {_CURE}"
        )
    if not _DAMAGED.search(text):
        return None
    if "WAL" in text:
        return Fatal(
            f"the log {path}.wal beside the warehouse file is damaged: {said}; move the log away, which loses the "
            f"changes since the last checkpoint, or {_CURE}"
        )
    if "not a valid" in text:
        return Fatal(f"the warehouse file {path} is not a DuckDB database; name another one, or {_CURE}")
    return Fatal(f"the warehouse file {path} is damaged: {said}; {_CURE}")


def _short_of_memory(text: str, doing: str) -> Unavailable:
    said = " ".join(text.partition("Possible solutions")[0].split())
    return Unavailable(f"{doing}: {said}; raise MLFS_DUCKDB_MEMORY_LIMIT, or lower MLFS_DUCKDB_THREADS")


def _translate(error: duckdb.Error, doing: str) -> PipelineError:
    if _MEMORY.search(str(error)):
        return _short_of_memory(str(error), doing)
    if (lasting := _lasting(str(error), "of MLFS_WAREHOUSE")) is not None:
        return lasting
    if gone := _FILE_GONE.search(str(error)):
        return SourceGone(
            f"{doing}: {_where_to_put(path_behind(gone['bound']) if gone['bound'] else Path(gone['read']))}"
        )
    if _BAD_FILE.search(str(error)):
        return SourceGone(f"{doing}: {' '.join(str(error).split())}; put a whole Parquet file in its place")
    # The excerpt shows the translated text, which is in no file; the cause of the error keeps the excerpt.
    said = str(error).partition(_EXCERPT)[0].strip()
    text = f"{doing}: {' '.join(said.split())}"
    if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
        return SchemaDrift(text)
    if isinstance(error, duckdb.FatalException):
        return Unavailable(f"{text}; the database has shut itself off, restart the process")
    # Full disk, full memory, two writers of the same row, an interrupted query: all are temporary.
    temporary = (
        duckdb.IOException,
        duckdb.OutOfMemoryException,
        duckdb.TransactionException,
        duckdb.InterruptException,
    )
    if isinstance(error, temporary):
        return Unavailable(text)
    return Fatal(text)


def _where_to_put(path: Path) -> str:
    """Return the error text for a missing linked file; a linked file is named after the table."""
    return (
        f"the file {path}, to which the table {path.stem} is linked, is gone; put the file back, or link the "
        "new folder: mlfs load DIR --link"
    )


def open_error(error: duckdb.Error, path: str) -> PipelineError:
    """Return the error of a database file that could not be opened, with the next step."""
    text = str(error).strip()
    if (lasting := _lasting(text, path)) is not None:
        return lasting
    if _MEMORY.search(text):
        return _short_of_memory(text, f"opening the warehouse file {path}")
    if isinstance(error, duckdb.ConnectionException):
        return Fatal(f"the warehouse file {path} is already open in this process with other settings: {text}")
    if "Is a directory" in text:
        return Fatal(
            f"the warehouse file {path} is a folder; name a file in the folder: MLFS_WAREHOUSE=duckdb:///path/file.duckdb"
        )
    return Unavailable(f"the warehouse file {path} cannot be opened: {text}")
