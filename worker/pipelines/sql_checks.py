"""Reader of all SQL and DDL, with sqlglot: one statement, the columns that DDL declares, and the constructs to refuse.

BigQuery gets each statement verbatim, DuckDB gets the transpiled text. Some constructs change their meaning on the way
without an error: TIMESTAMP_DIFF counts boundaries instead of whole units, DIV loses the parentheses of the arguments,
x / 0 gives infinity, CAST(2.5 AS INT64) gives 2 instead of 3, EXTRACT(DAYOFWEEK) counts from 0, a literal 2.5 is a
decimal. Therefore the check holds a list of allowed constructs: a construct without a comparison is refused.
`tests/contract/test_sql_oracle.py` compares the allowed constructs with Google's evaluator.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType

import sqlglot
from sqlglot import exp

from worker.errors import Fatal
from worker.features.pipeline import Column, Pipeline
from worker.features.sql import finite
from worker.pipelines.expression_types import MixedTypesError, type_of

_VALUES = {"Column", "Identifier", "Literal", "Boolean", "Null", "Paren", "DataType"}
_OPERATORS = {"And", "Or", "Not", "Is", "EQ", "NEQ", "GT", "GTE", "LT", "LTE", "Between", "In", "Add", "Sub", "Mul"}
EXPRESSION_ALLOWED = frozenset(_VALUES | _OPERATORS | {"Neg", "If", "Case", "Coalesce", "SafeDivide", "Cast"})
"""Constructs allowed in a feature's expression: functions of a row, with equal results for NULLs."""

ALLOWED = EXPRESSION_ALLOWED - {"Neg"} | {
    *("Select", "From", "Where", "Join", "Union", "With", "CTE", "Table", "TableAlias", "Star", "Subquery"),
    *("Order", "Ordered", "Limit", "Group", "Having", "Qualify", "Window", "RowNumber"),
    *("Alias", "Parameter", "Var", "Greatest", "Round", "Array", "Concat", "Split", "Trim", "Count", "Sum", "Max"),
    *("Distinct", "Unnest", "Min", "Mod", "Like", "Bracket", "IsNan", "IsInf"),
}
"""Constructs allowed in a statement. GREATEST and CONCAT get no NULL argument, because the engines differ there.

MIN and MAX get no NaN, MOD no negative number and an array no index beyond the end, for the same reason; a LIKE pattern
has no backslash.
"""

DDL_ALLOWED = frozenset(
    {
        *("Create", "Schema", "Table", "Identifier", "Column", "ColumnDef", "DataType"),
        *("ColumnConstraint", "NotNullColumnConstraint", "Properties", "PartitionedByProperty", "ClusterProperty"),
    }
)

VIEW_ALLOWED = ALLOWED | {"Create"}
"""Constructs allowed in a view."""

DML_ALLOWED = ALLOWED | {
    *("Delete", "Merge", "Whens", "When", "Insert", "Update", "Tuple", "Exists", "ArrayConcat", "Struct", "PropertyEQ"),
}
"""Constructs allowed in a statement that changes the ledger, or deletes rows."""

DDL_KEPT = 128
"""CREATE statements whose columns are kept; a pipeline has about twenty."""

_MARKS = ("--", "#", "/*", ";", "\\")
_ADVICE = "which BigQuery and DuckDB may understand differently; docs/pipelines.md lists what may stand there"


def find_sql_faults(pipeline: Pipeline) -> list[str]:
    """Return a sentence fragment for each fault of the statements and tables rendered for a pipeline."""
    faults = []
    for name in pipeline.statements:
        faults += [f"the statement {name} holds {fault}" for fault in offences(pipeline.text(name), ALLOWED)]
    for name in pipeline.changes:
        faults += [f"the statement {name} holds {fault}" for fault in offences(pipeline.text(name), DML_ALLOWED)]
    for table in (*pipeline.tables.all, *pipeline.upstream):
        allowed = VIEW_ALLOWED if table in pipeline.tables.views else DDL_ALLOWED
        faults += [f"the table {table} holds {fault}" for fault in offences(pipeline.ddl_of(table), allowed)]
    return faults


def find_expression_faults(text: str, columns: Mapping[str, str], wanted: str) -> list[str]:
    """Return a sentence fragment for each fault of a feature's expression; empty for an allowed expression.

    Args:
        text: The expression.
        columns: Readable columns with their BigQuery types.
        wanted: The feature's type.
    """
    if found := [mark for mark in _MARKS if mark in text]:
        return [f"holds {found[0]}, which may not stand in an expression: {text}"]
    try:
        tree = sqlglot.parse_one(f"SELECT {text}", read="bigquery")
    except sqlglot.errors.SqlglotError as exc:
        return [f"is no BigQuery expression: {text} ({str(exc).partition(chr(10))[0]})"]
    if not isinstance(tree, exp.Select) or len(tree.expressions) != 1 or _has_clauses(tree):
        return [f"is not one expression: {text}"]
    if found := [f"holds {fault}" for fault in _offences(tree.expressions[0], EXPRESSION_ALLOWED)]:
        return found
    read = [column.sql(dialect="bigquery") for column in tree.find_all(exp.Column)]
    if unknown := [name for name in dict.fromkeys(read) if name not in columns]:
        return [f"reads {', '.join(unknown)}, which the columns of its upstream part do not list: {text}"]
    try:
        kind = type_of(tree.expressions[0], columns)
    except MixedTypesError as exc:
        return [f"holds {exc}"]
    fits = kind in {wanted, None} or (wanted, kind) == ("FLOAT64", "INT64")
    return [] if fits else [f"is {kind}, and the feature is {wanted}: {text}"]


def columns_of(text: str) -> tuple[str, ...]:
    """Return the columns read by a sound expression, each once."""
    tree = sqlglot.parse_one(f"SELECT {text}", read="bigquery")
    return tuple(dict.fromkeys(column.name for column in tree.find_all(exp.Column)))


def with_finite(text: str, columns: Mapping[str, str]) -> str:
    """Return a sound expression with NULL in place of each NaN and infinity of the FLOAT64 columns read."""

    def clean(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and columns.get(node.name) == "FLOAT64":
            return sqlglot.parse_one(" ".join(finite(node.sql(dialect="bigquery"))), read="bigquery")
        return node

    select = sqlglot.parse_one(f"SELECT {text}", read="bigquery")
    return str(select.expressions[0].transform(clean).sql(dialect="bigquery"))


def offences(text: str, allowed: frozenset[str] = ALLOWED) -> Iterator[str]:
    """Yield each construct of a statement that is not *allowed*, as text."""
    try:
        tree = parse_statement(text)
    except Fatal as exc:
        yield str(exc)
        return
    yield from _offences(tree, allowed)


def parse_statement(text: str) -> exp.Expr:
    """Return the tree of one statement in BigQuery's dialect.

    Raises:
        Fatal: The text is not exactly one BigQuery statement.
    """
    try:
        # sqlglot returns a comment behind the last semicolon as a further statement.
        trees = [tree for tree in sqlglot.parse(text, read="bigquery") if tree and not isinstance(tree, exp.Semicolon)]
    except sqlglot.errors.SqlglotError as error:
        raise Fatal(f"text that is not BigQuery SQL: {str(error).partition(chr(10))[0]}") from error
    if len(trees) != 1:
        raise Fatal(f"{len(trees)} statements, not one: {text[:80]!r}")
    return trees[0]


@lru_cache(maxsize=DDL_KEPT)
def declared_columns(create_table: str, dialect: str = "bigquery") -> Mapping[str, Column]:
    """Return {name: column} of a CREATE TABLE in BigQuery's dialect, with the types in *dialect*; empty for a view."""
    return MappingProxyType({part.name: _column(part, dialect) for part in _schema(parse_statement(create_table))})


@lru_cache(maxsize=DDL_KEPT)
def shown_columns(create_view: str) -> Mapping[str, str]:
    """Return {name: column of the table below} of a CREATE VIEW; "" for a computed column. Empty for a table."""
    select = parse_statement(create_view).args.get("expression")
    parts = select.selects if isinstance(select, exp.Query) else []
    return MappingProxyType(
        {part.alias_or_name: part.unalias().name if isinstance(part.unalias(), exp.Column) else "" for part in parts}
    )


def placement(create_table: str) -> tuple[str, tuple[str, ...]]:
    """Return the partition column of a CREATE TABLE, and the columns of the clustering."""
    tree = parse_statement(create_table)
    partition, cluster = tree.find(exp.PartitionedByProperty), tree.find(exp.ClusterProperty)
    if partition is None or cluster is None:
        raise ValueError(f"a table without partition or clustering: {create_table[:80]!r}")
    return partition.this.name, tuple(column.name for column in cluster.expressions)


def split_type(kind: str) -> tuple[bool, str, tuple[Column, ...]]:
    """Return whether a BigQuery type is an array, the type of an element, and the fields of a STRUCT."""
    tree = exp.DataType.build(kind, dialect="bigquery")
    is_array = tree.this is exp.DataType.Type.ARRAY
    element = tree.expressions[0] if is_array else tree
    fields = element.expressions if element.this is exp.DataType.Type.STRUCT else []
    return is_array, element.sql(dialect="bigquery"), tuple(_column(part, "bigquery") for part in fields)


def _schema(tree: exp.Expr) -> Iterator[exp.ColumnDef]:
    if isinstance(tree.this, exp.Schema):
        yield from (part for part in tree.this.expressions if isinstance(part, exp.ColumnDef))


def _column(part: exp.ColumnDef, dialect: str) -> Column:
    required = any(isinstance(constraint.kind, exp.NotNullColumnConstraint) for constraint in part.constraints)
    return Column(name=part.name, type=part.args["kind"].sql(dialect=dialect), required=required)


def _offences(tree: exp.Expr, allowed: frozenset[str]) -> Iterator[str]:
    """Yield the outermost refused parts; parts inside a refused part are not reported."""
    for node in tree.walk(prune=lambda one: _refusal(one, allowed) is not None):
        if (said := _refusal(node, allowed)) is not None:
            yield f"{said}, {_ADVICE}"


def _refusal(node: exp.Expr, allowed: frozenset[str]) -> str | None:
    name = type(node).__name__
    if name not in allowed:
        return f"{node.sql(dialect='bigquery')} ({name})"
    if isinstance(node, exp.Cast) and not _is_exact(node):
        return f"{node.sql(dialect='bigquery')}: a cast that may round"
    if isinstance(node, exp.Bracket) and node.args.get("offset") != 1:
        return f"{node.sql(dialect='bigquery')}: an index other than ORDINAL"
    if _is_decimal(node) and not _is_to_float(node.parent):
        said = node.sql(dialect="bigquery")
        return f"{said}: a decimal outside CAST({said} AS FLOAT64)"
    return None


def _has_clauses(tree: exp.Select) -> bool:
    return any(value for name, value in tree.args.items() if name not in {"expressions", "kind"})


def _is_exact(cast: exp.Cast) -> bool:
    """Return whether a cast cannot round: to FLOAT64, of NULL, or a literal read by sqlglot as a cast."""
    kind = cast.to.sql(dialect="bigquery")
    if kind == "FLOAT64":
        # For a cast of a text to a number, the engines accept different spellings.
        return not (isinstance(cast.this, exp.Literal) and cast.this.is_string)
    is_date = kind == "DATE" and isinstance(cast.this, exp.Literal) and _is_day(cast.this.name)
    is_empty_array = kind == "ARRAY<STRING>" and isinstance(cast.this, exp.Array) and not cast.this.expressions
    return is_date or is_empty_array or isinstance(cast.this, exp.Null)


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_decimal(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and node.is_number and not node.name.isdigit()


def _is_to_float(node: exp.Expr | None) -> bool:
    return isinstance(node, exp.Cast) and node.to.sql(dialect="bigquery") == "FLOAT64"
