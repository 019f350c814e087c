"""BigQuery type of an expression, and errors for parts with types that BigQuery does not mix.

DuckDB casts without an error where BigQuery raises an error: a text beside a number, a truth value as a number. Such an
expression would pass on DuckDB and fail in the first build on BigQuery.
"""

from collections.abc import Mapping, Sequence

from sqlglot import exp

NUMBERS = frozenset({"INT64", "FLOAT64"})
_ARITHMETIC = exp.Add | exp.Sub | exp.Mul | exp.Neg
_COMPARISONS = exp.EQ | exp.NEQ | exp.GT | exp.GTE | exp.LT | exp.LTE | exp.Between | exp.In


class MixedTypesError(ValueError):
    """Parts of an expression have types that BigQuery does not mix; the message names the part."""


def type_of(node: exp.Expr, columns: Mapping[str, str]) -> str | None:
    """Return the type of an expression; None for a bare NULL.

    Args:
        node: An expression allowed by `worker.pipelines.sql_checks`.
        columns: The type of each column in the expression.

    Raises:
        MixedTypesError: BigQuery would not evaluate the expression.
    """
    if isinstance(node, exp.Column):
        return columns[node.name]
    if isinstance(node, exp.Literal):
        return "STRING" if node.is_string else "INT64" if node.name.isdigit() else "FLOAT64"
    if isinstance(node, exp.Null):
        return None
    if isinstance(node, exp.Cast):
        return _type_of_cast(node, columns)
    if isinstance(node, exp.If | exp.Case):
        return _type_of_choice(node, columns)
    parts = [type_of(part, columns) for part in node.iter_expressions()]
    if isinstance(node, exp.Paren):
        return parts[0]
    if isinstance(node, _ARITHMETIC | exp.SafeDivide):
        kind = _common(node, [*parts, "INT64"])
        return "FLOAT64" if isinstance(node, exp.SafeDivide) else kind
    if isinstance(node, exp.Coalesce):
        return _common(node, parts)
    # All other expressions have a truth value: comparisons, tests for NULL, and operators on truth values.
    is_test = isinstance(node, exp.Is) and isinstance(node.expression, exp.Null)
    _common(node, parts if is_test or isinstance(node, _COMPARISONS) else [*parts, "BOOL"])
    return "BOOL"


def _type_of_cast(node: exp.Cast, columns: Mapping[str, str]) -> str:
    kind = node.to.sql(dialect="bigquery")
    given = type_of(node.this, columns)
    if kind == "FLOAT64" and given not in {*NUMBERS, None}:
        raise MixedTypesError(f"{node.sql(dialect='bigquery')}: a cast of {given}, which is no number")
    return kind


def _type_of_choice(node: exp.If | exp.Case, columns: Mapping[str, str]) -> str | None:
    if isinstance(node, exp.If) and node.args.get("false") is None:
        raise MixedTypesError(f"{node.sql(dialect='bigquery')}: IF takes three arguments")
    if isinstance(node, exp.If):
        conditions, results = [node.this], [node.args["true"], node.args.get("false")]
    else:
        branches = node.args["ifs"]
        conditions = [branch.this for branch in branches]
        results = [*(branch.args["true"] for branch in branches), node.args.get("default")]
    compared = [type_of(one, columns) for one in conditions]
    subject = node.this if isinstance(node, exp.Case) else None
    _common(node, [*compared, "BOOL" if subject is None else type_of(subject, columns)])
    return _common(node, [type_of(one, columns) for one in results if one is not None])


def _common(node: exp.Expr, kinds: Sequence[str | None]) -> str | None:
    """Return the common type of all parts."""
    known = {kind for kind in kinds if kind is not None}
    if len(known) > 1 and not known <= NUMBERS:
        raise MixedTypesError(f"{node.sql(dialect='bigquery')}, which mixes {' and '.join(sorted(known))}")
    return "FLOAT64" if len(known) > 1 else next(iter(known), None)
