"""SQL rendered from a pipeline's definition: every statement and every CREATE, in BigQuery's dialect. Pure.

The templates repeat no part of a pipeline. Columns, sources, arrays of names and the weights of a row's score are loops
over blocks and features, so a statement cannot contradict the definition. Before rendering, every name in a definition
is a plain identifier (`schemas.pipeline`), and every expression has passed the allow-list of
`worker.pipelines.sql_checks`. Values reach a statement only as bound parameters.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, lru_cache
from itertools import pairwise
from math import lcm
from typing import TYPE_CHECKING, Any

from worker.features.quality import COMPONENTS

if TYPE_CHECKING:
    from jinja2 import Environment

    from worker.features.pipeline import Block, Column, Feature, Pipeline

WIDTH = 120
"""Width of a rendered line in characters; lists are wrapped there."""

_HEAD_INDENT = "--              "
SAMPLE_MAX = 20_000
"""Entities at most in the statistics of a build, evenly chosen by the key; a smaller roster is taken whole."""

PROFILED = (
    *("feature", "row_count", "present_count", "out_of_range_count", "value_count", "mean", "deviation", "lowest"),
    *("highest", "mode_share", "bins", "bin_edges", "compared_date", "pair_count", "correlation", "played_count"),
    *("unmoved_count", "still_count", "moved_count", "teams", "team_values"),
)
"""Columns of `_feature_profile` after date, build id and generation."""

BELIEVABLE = """NOT COALESCE(findings, '') LIKE '%"critical"%'"""
"""Condition for a row of the quality history without a critical finding; the findings are a list in JSON."""

CANARY_REASON = "canary"
"""Reason for which the row of the canary is left out."""

RENDERED_MAX = 512
"""Number of cached rendered texts; a pipeline has about forty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """Upstream tables and columns replaced by typed NULLs in a statement, and columns that are cast.

    Attributes:
        tables: Names, `dataset.table`; each counts as empty.
        columns: (table, column); each counts as NULL in every row.
        casts: (table, column) of columns with another type than the catalogue; each is read in the catalogue's type.
    """

    tables: frozenset[str] = frozenset()
    columns: frozenset[tuple[str, str]] = frozenset()
    casts: frozenset[tuple[str, str]] = frozenset()


NOTHING = Unusable()


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """Jinja templates by path: `sql/NAME.sql`, `ddl/NAME.sql`, and included parts."""

    texts: Mapping[str, str] = field(default_factory=dict)

    def names(self, folder: str) -> tuple[str, ...]:
        """Return the names of the templates in a folder, sorted."""
        inside = (path.removeprefix(f"{folder}/") for path in sorted(self.texts) if path.startswith(f"{folder}/"))
        return tuple(name.removesuffix(".sql") for name in inside)


NOWHERE = Templates()
"""No templates, for a hand-made pipeline without SQL."""


@lru_cache(maxsize=RENDERED_MAX)
def render(
    pipeline: "Pipeline",
    path: str,
    *,
    table: str = "",
    without: Unusable = NOTHING,
    rows_of: str = "",
    unset: frozenset[str] = frozenset(),
) -> str:
    """Return the text of a template for a pipeline.

    Args:
        pipeline: Source of names and columns.
        path: Path of the template.
        table: For DDL: the table to create.
        without: Tables and columns that count as empty.
        rows_of: Statement whose rows are read; empty for the rows of a build in `generations`.
        unset: Optional parameters without a value; without `old_before` the dependency rows come without further facts.
    """
    values = _Context(pipeline, table, without).values() | {"rows_of": rows_of}
    values["reads_schedule"] = "first_game_date" not in unset
    values["seen"] = "" if "as_of" in unset else " AND processed_at <= @as_of"
    values["with_facts"] = "old_before" not in unset
    values["looked_for"] = lambda read: "FALSE" if read.matches in unset else f"{read.key} = @{read.matches}"
    return _environment(pipeline.templates).get_template(path).render(values)


@cache
def _environment(templates: Templates) -> "Environment":
    # Late import: the import takes 25 ms, and most commands render no SQL.
    from jinja2 import DictLoader, Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=DictLoader(templates.texts),
        autoescape=False,  # noqa: S701 -- the output is SQL, not HTML; names and expressions are checked before
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"each": each, "commas": commas, "joined": joined, "fit": fit}
    environment.globals["head"] = head
    return environment


def each(items: Iterable[Any], pattern: str) -> list[str]:
    """Return *pattern* for each item, with the name of the item for each `{}` and the type for `{type}`."""
    named = [(item, "") if isinstance(item, str) else (item.name, getattr(item, "type", "")) for item in items]
    return [pattern.replace("{}", name).replace("{type}", kind) for name, kind in named]


def commas(units: Sequence[str], indent: int) -> str:
    """Return *units* as a list with commas, wrapped; the first line is indented by the template."""
    return _wrapped([*(f"{unit}," for unit in units[:-1]), *units[-1:]], indent)


def joined(units: Sequence[str], operator: str, indent: int) -> str:
    """Return *units* separated by an operator, wrapped before an operator."""
    return _wrapped([*units[:1], *(f"{operator} {unit}" for unit in units[1:])], indent)


def fit(units: Sequence[str], indent: int) -> str:
    """Return *units* separated by blanks, on one line or, beyond the width, on lines indented further."""
    return _wrapped(units, indent, 2)


def _wrapped(units: Iterable[str], indent: int, further: int = 0) -> str:
    lines = [""]
    for unit in units:
        longer = f"{lines[-1]} {unit}".lstrip()
        if lines[-1] and indent + further + len(longer) > WIDTH - 1:  # a comma may follow
            lines.append(unit)
        else:
            lines[-1] = longer
    return f"\n{' ' * (indent + further)}".join(lines)


def head(label: str, text: str) -> str:
    """Return a part of the comment above a statement, with *text* wrapped at blanks."""
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=f"-- {label}:".ljust(len(_HEAD_INDENT)),
        subsequent_indent=_HEAD_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def read_head(text: str) -> Mapping[str, str]:
    """Return {label: text} of the comment above a statement."""
    parts: dict[str, str] = {}
    label = ""
    for line in text.splitlines():
        if line.startswith(_HEAD_INDENT) and label:
            parts[label] += f" {line.removeprefix('--').strip()}"
        elif line.startswith("-- "):
            label, _, first = line.removeprefix("-- ").partition(":")
            parts[label] = first.strip()
        elif line:
            break
    return parts


def source(table: str, columns: Mapping[str, str], without: Unusable = NOTHING) -> str:
    """Return the source of a FROM with the read columns of a table.

    Args:
        table: Name of the table, `dataset.table`.
        columns: Read columns as {name: BigQuery type}.
        without: Unusable tables and columns, and columns of another type.

    Returns:
        The table, or a subquery with a typed NULL for each unusable column and a cast for each column of another type.
    """
    is_gone = table in without.tables
    nulls = {name for name in columns if is_gone or (table, name) in without.columns}
    casts = {name for name in columns if (table, name) in without.casts} - nulls
    if not nulls and not casts:
        return table
    listed = [
        f"CAST(NULL AS {kind}) AS {name}"
        if name in nulls
        else f"{_cast(name, kind)} AS {name}"
        if name in casts
        else name
        for name, kind in columns.items()
    ]
    # With every column NULL the row has no date, so no statement finds the row.
    return f"(SELECT {', '.join(listed)} FROM {'(SELECT 1 AS one)' if is_gone else table})"  # noqa: S608 -- names


def _cast(name: str, kind: str) -> str:
    """Return the cast of a column to a type; a number with a fraction is no whole number and becomes NULL."""
    if kind == "INT64":
        return f"IF(SAFE_CAST({name} AS INT64) = {name}, SAFE_CAST({name} AS INT64), NULL)"
    return f"CAST({name} AS {kind})"


def not_finite(sql: str) -> str:
    """Return the condition that a FLOAT64 expression is NaN or infinite; NULL for NULL."""
    return f"IS_NAN({sql}) OR IS_INF({sql})"


def finite(sql: str) -> tuple[str, str]:
    """Return both parts of a FLOAT64 expression with NULL in place of NaN and infinity."""
    return f"IF({not_finite(sql)}, NULL,", f"{sql})"


class _Context:
    """Values and functions of a pipeline for templates."""

    def __init__(self, pipeline: "Pipeline", table: str, without: Unusable) -> None:
        self._pipeline = pipeline
        self._table = table
        self._without = without

    def values(self) -> dict[str, Any]:
        pipeline = self._pipeline
        names: dict[str, Any] = {name: getattr(pipeline, name) for name in _SEEN}
        functions: tuple[Callable[..., Any], ...] = (
            pipeline.features_of,
            pipeline.features_from,
            pipeline.block_of,
            pipeline.needs_game,
            self.source,
            self.left_empty,
            pipeline.columns_of_witness,
            self.is_text,
            self.stored,
            self.shown,
            finite,
            self.looked_up,
            self.cell,
            self.parts_of_a_block,
            self.parts_not_from_phase4,
            self.parts_wanted,
            self.cells_wanted,
            self.score_line,
            self.count_beyond,
            canary_value,
        )
        return {
            **names,
            **{function.__name__: function for function in functions},
            "components": COMPONENTS,
            "profiled": PROFILED,
            "believable": BELIEVABLE,
            "sample_max": SAMPLE_MAX,
            "edges_max": pipeline.edges_max,
            "roster": pipeline.upstream_tables[pipeline.entity.roster],
            "upstream_table": pipeline.upstream_tables.get(self._table),
            "upstream_columns": self.upstream_columns(),
            "table": self._table,
            "canary_reason": CANARY_REASON,
            "copy_score": _decimal(100 - pipeline.quality.penalty_line[-1][1]),
        }

    def source(self, table: str) -> str:
        """Return the source of a FROM: the table, or a subquery with typed NULLs and casts for unusable columns."""
        return source(table, self._pipeline.readable[table], self._without)

    def left_empty(self) -> list["Feature"]:
        """Return the features with an unusable Phase 3 source, whose cells without a Phase 4 value are counted."""
        gone = self._without
        return [
            feature
            for feature in self._pipeline.features
            if feature.phase3_table in gone.tables
            or any((feature.phase3_table, name) in gone.columns for name in feature.phase3.columns)
        ]

    def looked_up(self, matches: str) -> str:
        """Return the expression for the key of a table that is joined by an identity column."""
        schedule = self._pipeline.schedule
        return "tonight.opponent" if schedule is not None and matches == schedule.opponent else f"roster.{matches}"

    def is_text(self, column: str) -> bool:
        """Return whether an identity column is text, so that an empty name means no name."""
        return any(known.name == column and known.type == "STRING" for known in self._pipeline.identity)

    def stored(self, column: "Feature | Column", indent: int, table: str = "") -> str:
        """Return a column of a stored row for a SELECT list.

        A feature has NULL in place of NaN and infinity: older releases stored both.
        """
        name = f"{table}.{column.name}" if table else column.name
        if column.type != "FLOAT64" or all(feature.name != column.name for feature in self._pipeline.features):
            return name
        return fit((*finite(name), f"AS {column.name}"), indent)

    def shown(self, indent: int, table: str = "") -> str:
        """Return all published columns of a stored row for a SELECT list, as `stored` returns each."""
        columns = [self.stored(column, indent, table) for column in self._pipeline.output_columns]
        return f",\n{' ' * indent}".join(columns)

    def cell(self, feature: "Feature") -> str:
        """Return the expression of a cell: Phase 4, else Phase 3, else NULL; NULL if the block does not apply."""
        table, block = self._pipeline.upstream_tables[feature.phase3_table], self._pipeline.block_of(feature)
        both = f"COALESCE(phase4_{feature.name}, from_{table.short}.{feature.name})"
        # Without an opponent neither phase has a row; a Phase 3 table with another join key may have a row.
        return both if table.matches == block.matches else self._if_it_applies(block, both, "NULL")

    def parts_of_a_block(self) -> int:
        """Return the number of parts that divides every block evenly: twelfths for blocks of 3, 4 and 12 cells."""
        return lcm(*(len(self._pipeline.features_of(block.name)) for block in self._pipeline.blocks))

    def parts_not_from_phase4(self) -> list[str]:
        """Return the terms of a row's sum of parts not from Phase 4: a term for each block."""
        return [
            _if_there(block, self._if_it_applies(block, self._parts_not_from_phase4(block), "0"))
            for block in self._pipeline.blocks
        ]

    def _parts_not_from_phase4(self, block: "Block") -> str:
        cells = len(self._pipeline.features_of(block.name))
        weight = self.parts_of_a_block() // cells
        parts = f"({cells} - {block.name}_phase4_cells)"
        return parts if weight == 1 else f"{weight} * {parts}"

    def parts_wanted(self) -> list[str]:
        """Return the terms of the number of parts of a row's blocks; an optional block counts if its table has rows."""
        parts, blocks = str(self.parts_of_a_block()), self._pipeline.blocks
        required = {block.name: self.parts_of_a_block() for block in blocks if block.required}
        optional = [_if_there(block, self._if_it_applies(block, parts, "0")) for block in blocks if not block.required]
        return [self._total(required), *optional]

    def cells_wanted(self) -> str:
        """Return the number of cells of a row's blocks together."""
        return self._total({block.name: len(self._pipeline.features_of(block.name)) for block in self._pipeline.blocks})

    def _total(self, of_block: Mapping[str, int]) -> str:
        """Return a sum over the blocks that apply to the row."""
        everywhere = (block.name for block in self._pipeline.blocks if not self._pipeline.needs_game(block))
        always = sum(of_block.get(name, 0) for name in everywhere)
        most, schedule = sum(of_block.values()), self._pipeline.schedule
        return str(most) if schedule is None or most == always else f"IF({schedule.plays}, {most}, {always})"

    def _if_it_applies(self, block: "Block", then: str, otherwise: str) -> str:
        schedule = self._pipeline.schedule
        if schedule is None or not self._pipeline.needs_game(block):
            return then
        return f"IF({schedule.plays}, {then}, {otherwise})"

    def score_line(self) -> list[tuple[str, str, str]]:
        """Return the row's score as a line of straight pieces: (fallback rate up to which, intercept, slope)."""
        pieces = []
        for (left, low), (right, high) in pairwise(self._pipeline.quality.penalty_line):
            slope = (high - low) / (right - left)
            pieces.append((_decimal(right), _decimal(100 - low + slope * left), _decimal(slope)))
        return pieces

    def count_beyond(self, value: str, feature: "Feature", indent: int) -> str:
        """Return the count of the values outside the feature's range; NaN and infinity are no values."""
        low, high = feature.range or (0, 0)
        outside = f"({value} < {number(low)} OR {value} > {number(high)}), 1, NULL))"
        if feature.type != "FLOAT64":
            return f"COUNT(IF({outside}"
        return fit((f"COUNT(IF(NOT ({not_finite(value)})", f"AND {outside}"), indent)

    def upstream_columns(self) -> dict[str, str]:
        """Return the columns of the upstream table to create: listed columns, then unlisted columns of the build."""
        listed = self._pipeline.upstream_tables.get(self._table)
        read = self._pipeline.upstream.get(self._table, {})
        if listed is None:
            return {}
        # A build may read a listed column of whole numbers as a float.
        first = {name: listed.columns.get(name, kind) for name, kind in {**listed.columns, **read}.items()}
        return {name: kind for name, kind in first.items() if name != "processed_at"} | {"processed_at": "TIMESTAMP"}


_SEEN = (
    *("entity", "identity", "listed", "blocks", "features", "required_fields", "schedule", "tables", "optional"),
    *("phase3_tables", "lookups", "judged_features", "team_columns", "output_columns", "generation_columns"),
    *("upstream", "upstream_tables", "references", "witnesses", "team_witnesses"),
)
"""Attributes of a pipeline with the same names in templates."""


def canary_value(column: "Column") -> str:
    """Return the value of a column in the row of the canary: NULL wherever the table allows NULL."""
    given = {
        "analysis_date": "@analysis_date",
        "build_generation": "@build_generation",
        "build_id": "@build_id",
        "processed_at": "@built_at",
        "left_out_reason": f"'{CANARY_REASON}'",
    }
    if column.name in given:
        return given[column.name]
    if column.type == "ARRAY<STRING>":
        return "ARRAY<STRING>[]"
    if not column.required:
        return f"CAST(NULL AS {column.type})"
    empty = {
        "BOOL": "FALSE",
        "DATE": "@analysis_date",
        "FLOAT64": "CAST(0 AS FLOAT64)",
        "STRING": f"'{CANARY_REASON}'",
        "TIMESTAMP": "@built_at",
    }
    return empty.get(column.type, "0")


def _if_there(block: "Block", term: str) -> str:
    """Return a term of a sum over blocks that is 0 for an optional block without rows in its Phase 4 table."""
    return term if block.required else f"IF({block.name}_there, {term}, 0)"


def number(value: float) -> str:
    """Return a number of a definition for SQL, with the same value in both engines; a negative one as a difference."""
    text = _decimal(Fraction(repr(abs(value))))
    return f"(0 - {text})" if value < 0 else text


def _decimal(number: Fraction | int) -> str:
    """Return a number for SQL; a decimal gets a cast, because DuckDB reads 0.1 as a decimal and BigQuery as a float."""
    exact = Fraction(number)
    return str(exact.numerator) if exact.denominator == 1 else f"CAST({float(exact)!r} AS FLOAT64)"
