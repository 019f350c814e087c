"""Reads the statements of a pipeline against its catalogue: tables, columns, parameters and what each gives.

A statement that names what nobody declared would fail at night, at the first build; here it fails at the start.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import Scope, traverse_scope

from statemachine.model import BuildMode, State
from worker.features.model import BuildKey, BuildRequest, BuildStats, Publication
from worker.features.pipeline import LEFT_OUT, STAGED, Pipeline
from worker.features.quality import score
from worker.features.records import dependency_row, execution_row, ledger_row, quality_row, replay_row

_BUILT = {"build_generation", "build_id", "built_at", "analysis_date", "previous_date"}
PARAMETERS: Mapping[str, frozenset[str]] = {
    "dependency_rows": frozenset({"analysis_date", "as_of"}),
    "features": frozenset(_BUILT | {"lookback_start", "as_of"}),
    "build_stats": frozenset(),
    "left_out": frozenset(),
    "retractions": frozenset({"first_date", "last_date"}),
    "yesterday": frozenset(_BUILT | {"earliest_date"}),
}
"""What each statement of a build is given; `features` also a switch per block. Those of reports have their own."""

_WRITING = (exp.DDL, exp.DML, exp.Drop, exp.Alter, exp.TruncateTable, exp.Command, exp.Into, exp.Lock)
"""What makes a SELECT more than that, wherever it stands inside: `WITH a AS (DELETE ...)`, `SELECT ... INTO`."""

_AN_INSTANT = datetime(2000, 1, 1, tzinfo=UTC)


def find_sql_faults(pipeline: Pipeline) -> list[str]:
    """Give one sentence fragment per fault, each naming its file; empty where every statement fits."""
    faults = []
    for name, text in pipeline.sql.items():
        tree, wrong = _one_statement(text)
        if tree is None:
            faults.append(f"sql/{name}.sql {wrong}")
        elif not _only_reads(tree):
            # Not to be read further: what it gives or takes says nothing about a statement that must not run.
            faults.append(f"sql/{name}.sql is not a SELECT that only reads; nothing but the product writes")
        elif name in PARAMETERS:
            faults += [f"sql/{name}.sql {fault}" for fault in _statement_faults(pipeline, name, tree)]
    for table in pipeline.tables.all:
        name = table.partition(".")[2]
        tree, wrong = _one_statement(pipeline.ddl[name])
        found = [wrong] if tree is None else _ddl_faults(pipeline, table, tree)
        faults += [f"ddl/{name}.sql {fault}" for fault in found]
    return faults


def _one_statement(text: str) -> tuple[exp.Expr | None, str]:
    """Read a file; give its statement, or None and what is wrong."""
    try:
        # A comment behind the last semicolon is read as a statement of its own.
        trees = [one for one in sqlglot.parse(text, read="bigquery") if one and not isinstance(one, exp.Semicolon)]
    except sqlglot.errors.SqlglotError as exc:
        return None, f"is not one BigQuery statement: {_first_line(exc)}"
    if len(trees) != 1:
        return None, f"is not one BigQuery statement but {len(trees)}"
    return trees[0], ""


def _only_reads(tree: exp.Expr) -> bool:
    return isinstance(tree, exp.Query) and tree.find(*_WRITING) is None


def given_columns(pipeline: Pipeline) -> Mapping[str, tuple[str, ...]]:
    """Name the columns that each statement of a build has to give, by the statement."""
    published = tuple(column.name for column in pipeline.output_columns)
    cells = tuple(f"{block.name}_phase{phase}_cells" for block in pipeline.blocks for phase in (4, 3))
    applies = tuple(f"{block.name}_{pipeline.entity.plural}" for block in pipeline.blocks)
    staged = (*published, LEFT_OUT, *cells)
    return {
        "dependency_rows": ("processor", "row_count"),
        "features": staged,
        "yesterday": staged,
        "build_stats": ("row_count", "left_out_count", *applies, *cells, "required_nulls", "newest_source_date"),
        "left_out": (pipeline.entity.key, pipeline.entity.label, "reason"),
        "retractions": (
            "analysis_date",
            "requested_at",
            "requested_by",
            "reason",
            "request_id",
            "processor",
            "run",
            "run_completed_at",
        ),
    }


def _statement_faults(pipeline: Pipeline, name: str, tree: exp.Expr) -> Iterator[str]:
    wanted, gives = given_columns(pipeline)[name], _gives(tree)
    if missing := [column for column in wanted if column not in gives]:
        yield f"does not give {', '.join(missing)}"
    if name in {"features", "yesterday"} and (unknown := [column for column in gives if column not in wanted]):
        yield f"gives {', '.join(unknown)}, which the catalogue does not have"
    named = {parameter.name for parameter in tree.find_all(exp.Parameter)}
    switches = {f"use_{block.name}" for block in pipeline.blocks} if name == "features" else set()
    if unknown := sorted(named - PARAMETERS[name] - switches):
        yield f"takes {', '.join(f'@{one}' for one in unknown)}, which no build gives it"
    if name == "dependency_rows":
        yield from _processor_faults(pipeline, tree)
    yield from _source_faults(pipeline, tree)


def _processor_faults(pipeline: Pipeline, tree: exp.Expr) -> Iterator[str]:
    counted = [alias.this.name for alias in tree.find_all(exp.Alias) if alias.alias == "processor"]
    if unknown := [one for one in counted if one not in pipeline.processors]:
        yield f"counts for {', '.join(unknown)}, which is no processor"
    if missing := [one for one in pipeline.processors if one not in counted]:
        yield f"does not count for {', '.join(missing)}"


def _source_faults(pipeline: Pipeline, tree: exp.Expr) -> Iterator[str]:
    """Find tables and columns that are read and that nobody declared."""
    known = {**pipeline.upstream, pipeline.tables.published: _published(pipeline)}
    others = {STAGED, *pipeline.tables.all}
    for table in sorted({name for node in tree.find_all(exp.Table) if (name := _full_name(node))}):
        if table not in known and table not in others:
            yield f"reads {table}, which is neither under reads nor a table of a block or feature"
    unknown = {name for scope in traverse_scope(tree) for name in _undeclared(scope, known)}
    if unknown:
        yield f"reads {', '.join(sorted(unknown))}, which the catalogue does not have"


def _undeclared(scope: Scope, known: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Find the columns of one SELECT that none of its sources has, as far as its sources are known."""
    sources = {alias: _columns_of(source, known) for alias, (_, source) in scope.selected_sources.items()}
    # In ORDER BY or QUALIFY an unqualified name may stand for something that the SELECT itself makes.
    selects = scope.expression.selects if isinstance(scope.expression, exp.Select) else []
    made = {one.alias for one in selects if isinstance(one, exp.Alias)}
    for column in scope.columns:
        # A subquery's columns are listed here too; unqualified ones are that subquery's own business.
        alone = len(sources) == 1 and column.parent_select is scope.expression and column.name not in made
        if not column.table and not alone:
            continue
        alias = column.table or next(iter(sources))
        name, columns = sources.get(alias, ("", None))
        if columns is not None and column.name not in columns:
            yield f"{name or alias}.{column.name}"


def _columns_of(source: exp.Expr | Scope, known: Mapping[str, Collection[str]]) -> tuple[str, Collection[str] | None]:
    """Give a source's name and its columns; None where they are not known."""
    if isinstance(source, exp.Table):
        return _full_name(source), known.get(_full_name(source))
    gives = _gives(source.expression) if isinstance(source, Scope) else ["*"]
    return "", None if "*" in gives else gives


def _published(pipeline: Pipeline) -> Mapping[str, str]:
    return {column.name: column.type for column in pipeline.output_columns}


def _gives(tree: exp.Expr) -> list[str]:
    return list(tree.named_selects) if isinstance(tree, exp.Query) else []


def _full_name(table: exp.Table) -> str:
    return f"{table.db}.{table.name}" if table.db else ""


def _ddl_faults(pipeline: Pipeline, table: str, tree: exp.Expr) -> Iterator[str]:
    made = [_full_name(node) for node in tree.find_all(exp.Table)]
    if not isinstance(tree, exp.Create) or made[:1] != [table]:
        yield f"does not create {table}"
        return
    declared = {column.name: column.args["kind"].sql(dialect="bigquery") for column in tree.find_all(exp.ColumnDef)}
    written = _columns_written(pipeline)[table]
    if missing := [name for name in written if name not in declared]:
        yield f"lacks {', '.join(missing)}, which a build writes"
    if table == pipeline.tables.published:
        for name, kind in _published(pipeline).items():
            if name in declared and declared[name] != kind:
                yield f"declares {name} as {declared[name]}, not {kind}"


def _columns_written(pipeline: Pipeline) -> Mapping[str, tuple[str, ...]]:
    """Name the columns of the product's tables by writing a row of an empty build for each."""
    request = BuildRequest(
        key=BuildKey(analysis_date=date.min, generation=1, attempt=1),
        mode=BuildMode.NORMAL,
        trigger="",
        phase3_lookback_days=1,
        as_of=None,
        started_at=_AN_INSTANT,
        claimant="",
    )
    stats = BuildStats(
        analysis_date=date.min,
        row_count=0,
        dependency_rows=dict.fromkeys(pipeline.processors, 0),
        blocks={},
        required_nulls=0,
        newest_source_date=None,
        left_out_count=0,
        left_out=(),
    )
    report = score(stats, BuildMode.NORMAL, pipeline.quality)
    publication = Publication(request=request, stats=stats, report=report, committed_at=_AN_INSTANT)
    tables = pipeline.tables
    return {
        tables.published: tuple(_published(pipeline)),
        tables.quality: tuple(quality_row(publication)),
        tables.dependency: tuple(dependency_row(publication, pipeline.blocks)),
        tables.execution: tuple(execution_row(request, state=State.FAILED, completed_at=_AN_INSTANT)),
        tables.ledger: tuple(ledger_row(publication, pipeline.blocks)),
        tables.replay: tuple(_audit_row()),
    }


def _audit_row() -> Mapping[str, Any]:
    return replay_row(
        date.min,
        requested_at=_AN_INSTANT,
        requested_by="",
        reason="",
        mode="",
        previous_state=None,
        previous_generation=0,
        decision="",
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
