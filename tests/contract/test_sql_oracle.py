"""Every shipped statement, evaluated by Google's own ZetaSQL and by DuckDB through sqlglot over the same random tables.

This pins the meaning of the shared text, which BigQuery gets verbatim: same columns, same types, same rows, cell by
cell. A new template is covered by lying in its folder; only a parameter of a new name needs its values here. ZetaSQL
reads the views as it evaluates their SELECT itself, DuckDB by their DDL.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlglot
from sqlglot import exp

from tests.support.random_tables import STORED, TEAMS, build_id, declared, instants, random_rows, shuffled
from tests.support.zetasql_oracle import Answer, Oracle, Table
from worker.adapters.bigquery.costs import costs_sql
from worker.adapters.duckdb.dialect import to_bigquery_type, to_duckdb
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.features.model import BuildKey, Statement
from worker.features.pipeline import LEFT_OUT, Pipeline
from worker.features.plan import plan_storing
from worker.features.profile_reading import catalogue_arrays
from worker.features.sql import Unusable
from worker.pipelines.shipped import DOWNSTREAM, GENERATIONS_TABLE, LEDGER_TABLE, SHIPPED, UPSTREAM
from worker.pipelines.sql_checks import EXPRESSION_ALLOWED, find_expression_faults, with_finite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # the first run on a machine compiles the evaluator

NEW_YORK = ZoneInfo("America/New_York")
BUILT_AT = datetime(2024, 12, 16, 4, 30, tzinfo=UTC)
DUCKDB_TYPES = {
    "ARRAY<STRING>": "VARCHAR[]",
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
    "FLOAT64": "DOUBLE",
    "INT64": "BIGINT",
    "STRING": "VARCHAR",
    "TIMESTAMP": "TIMESTAMPTZ",
}
WIDER = {"INT64": {"INT64", "BIGNUMERIC"}}
"""DuckDB sums whole numbers in 128 bits. Only an answer may be wider, never a row that is stored."""

STORING = ("features", "yesterday")
"""The statements whose rows are stored as they are."""

DRY_RUNS = {f"{name} of {rows}": (name, rows) for name in ("build_stats", "left_out", "profile") for rows in STORING}
"""The renderings that count the rows of a build as they are selected."""

NIGHTS = {
    "an ordinary night": (date(2024, 12, 15), 40),
    "a night without a single row": (date(2024, 12, 18), 0),
}
if os.environ.get("EVERY_NIGHT"):
    # No statement reads a zone; the instants of these nights are given in an hour that New York has twice, or lacks.
    NIGHTS |= {
        "the night the clock goes back": (date(2024, 11, 2), 40),
        "the night the clock goes forward": (date(2025, 3, 8), 60),
    }
RUNS = 4 if os.environ.get("EVERY_NIGHT") else 2
"""Sets of parameters that a statement is run with; `parameters_of` describes the four."""

ARRAYS = catalogue_arrays(SHIPPED)
ARRAY_TYPES = dict.fromkeys(("low", "high", "step", "edges"), "FLOAT64")


def parameters_of(night: date) -> Mapping[str, tuple[str, Sequence[Any]]]:
    """Every parameter that a statement may take: its type, and its value in each run.

    The runs: as at night; seen from an instant given in New York's time, with the shortest lookback; seen from an
    instant at which rows were written, with a week's; forced past Phase 4. Two of them ignore one or two tables.
    """
    hours_later, on_the_instant = instants(night)[7], instants(night)[10]
    return {
        "analysis_date": ("DATE", [night] * RUNS),
        "lookback_start": ("DATE", [night - timedelta(days=days) for days in (30, 1, 7, 30)]),
        "previous_date": ("DATE", [night - timedelta(days=1)] * RUNS),
        "earliest_date": ("DATE", [night - timedelta(days=days) for days in (2, 1, 3, 2)]),
        "first_game_date": ("DATE", [night - timedelta(days=days) for days in (366, 1, 366, 0)]),
        "last_game_date": ("DATE", [night + timedelta(days=days) for days in (366, 0, 366, 1)]),
        "first_date": ("DATE", [night - timedelta(days=days) for days in (0, 1, 7, 30)]),
        "last_date": ("DATE", [night + timedelta(days=days) for days in (0, 1, 0, 1)]),
        "player_id": ("INT64", [1, 2, 3, 4]),
        "team_abbreviation": ("STRING", [TEAMS[0], TEAMS[1], None, TEAMS[2]]),
        "opponent_abbreviation": ("STRING", [TEAMS[1], None, TEAMS[2], TEAMS[0]]),
        "quality_score_min": ("FLOAT64", [0.0, 75.0, 87.5, 100.0]),
        "request_id": ("STRING", ["a", "a,b", "it's", "nobody's"]),
        "as_of": ("TIMESTAMP", [None, hours_later.astimezone(NEW_YORK), on_the_instant, None]),
        "use_composite": ("BOOL", [True, True, False, False]),
        "use_player_shot": ("BOOL", [True, False, True, False]),
        "use_daily_cache": ("BOOL", [True, True, True, False]),
        "use_team_defense": ("BOOL", [True, False, True, False]),
        "build_generation": ("INT64", [1, 2, 3, 4]),
        "build_id": ("STRING", [build_id(night, run) for run in range(1, RUNS + 1)]),
        "built_at": ("TIMESTAMP", [BUILT_AT] * RUNS),
        "old_before": ("TIMESTAMP", [BUILT_AT, hours_later, on_the_instant, BUILT_AT]),
        "ahead_after": ("TIMESTAMP", [hours_later, BUILT_AT, on_the_instant, BUILT_AT]),
        "before_build": ("STRING", [build_id(night, run) for run in range(1, RUNS + 1)]),
        "after_build": ("STRING", [build_id(night, run % RUNS + 1) for run in range(1, RUNS + 1)]),
        "largest_max": ("INT64", [1, 3, 100, 0]),
        "processed_before": ("TIMESTAMP", [BUILT_AT, hours_later, on_the_instant, BUILT_AT + timedelta(days=9)]),
        "nights": ("INT64", [14, 1, 2, 0]),
        "rows_start": ("DATE", [night - timedelta(days=days) for days in (10, 1, 3, 10)]),
        **{name: (f"ARRAY<{ARRAY_TYPES.get(name, 'INT64')}>", [values] * RUNS) for name, values in ARRAYS.items()},
        "superseded_before": ("TIMESTAMP", [BUILT_AT, hours_later, on_the_instant, BUILT_AT + timedelta(days=9)]),
    }


@cache
def text_of(name: str, pipeline: Pipeline = SHIPPED) -> str:
    """The text of a statement, of its rendering for a dry run, or of the SELECT of a view."""
    if name in pipeline.tables.views:
        return pipeline.ddl_of(name).partition(f"VIEW {name} AS\n")[2]
    statement, rows_of = DRY_RUNS.get(name, (name, ""))
    return pipeline.text(statement, rows_of=rows_of)


@cache
def tree_of(name: str, pipeline: Pipeline = SHIPPED) -> exp.Expression:
    return sqlglot.parse_one(text_of(name, pipeline), read="bigquery")


def tables_in(name: str, pipeline: Pipeline = SHIPPED) -> set[str]:
    return {f"{table.db}.{table.name}" for table in tree_of(name, pipeline).find_all(exp.Table) if table.db}


class Night:
    """The same tables in both engines, and every statement answered by both, once per run."""

    def __init__(self, oracle: Oracle, night: date, rows_max: int) -> None:
        random = Random(night.toordinal())  # noqa: S311 -- a test's own dice
        self.oracle = oracle
        self.parameters = parameters_of(night)
        self._theirs: dict[str, list[Answer]] = {}
        self.tables = {
            table: Table(declared(table)[0], random_rows(random, table, night, rows_max))
            for table in (*UPSTREAM, *SHIPPED.references, *STORED, *DOWNSTREAM)
        }
        self.warehouse = DuckDbWarehouse(":memory:")
        self.warehouse.ensure_tables()
        with self.warehouse.writing("filling the tables") as cursor:
            for table, content in self.tables.items():
                if table not in STORED:
                    columns = ", ".join(f"{name} {DUCKDB_TYPES[kind]}" for name, kind in content.columns.items())
                    cursor.execute(f"CREATE OR REPLACE TABLE {table} ({columns})")
                marks = ", ".join("?" for _ in content.columns)
                for row in shuffled(random, content.rows):
                    cursor.execute(f"INSERT INTO {table} VALUES ({marks})", list(row.values()))  # noqa: S608 -- our own names

    def theirs(self, name: str) -> list[Answer]:
        """What ZetaSQL says of a statement or a view; a view has the same answer in every run."""
        if name not in self._theirs:
            types, values = self.given(name)
            read = {table: self.table_of(table) for table in tables_in(name)}
            self._theirs[name] = self.oracle.answer(text_of(name), read, types, values)
        return self._theirs[name]

    def table_of(self, name: str) -> Table:
        """A table as ZetaSQL reads it; of a view, what ZetaSQL makes of its SELECT."""
        if name not in SHIPPED.tables.views:
            return self.tables[name]
        shown = self.theirs(name)[0]
        return Table(shown.columns, shown.rows)

    def ours(self, name: str) -> list[Answer]:
        """What the embedded warehouse says, asked as the product asks it."""
        statements = [self.statement(name, run) for run in range(RUNS)]
        return [Answer(self._types(statement), self.warehouse.query(statement)) for statement in statements]

    def given(self, name: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """The types of the parameters that a statement takes, and their values in each run."""
        used = sorted({parameter.name for parameter in tree_of(name).find_all(exp.Parameter)})
        unknown = [parameter for parameter in used if parameter not in self.parameters]
        assert not unknown, f"{name} takes {unknown}: give their values in parameters_of"
        types = {parameter: self.parameters[parameter][0] for parameter in used}
        return types, [{parameter: self.parameters[parameter][1][run] for parameter in used} for run in range(RUNS)]

    def statement(self, name: str, run: int) -> Statement:
        _types, values = self.given(name)
        sql = f"SELECT * FROM {name}" if name in SHIPPED.tables.views else text_of(name)  # noqa: S608 -- our own names
        return Statement(name=name, sql=sql, parameters=values[run])

    def stored(self, select: Statement) -> list[Mapping[str, Any]]:
        """The rows that the embedded warehouse stores for a build; taken out again."""
        build = select.parameters["build_id"]
        everything = f"SELECT * FROM {GENERATIONS_TABLE} WHERE build_id = @build_id"  # noqa: S608 -- our own names
        before = Statement(name="before", sql=everything, parameters={"build_id": build})
        assert not self.warehouse.query(before)
        self.warehouse.stage(
            BuildKey(analysis_date=select.parameters["analysis_date"], generation=9, attempt=1), select
        )
        rows = self.warehouse.query(before)
        with self.warehouse.writing("taking the rows out") as cursor:
            cursor.execute(f"DELETE FROM {GENERATIONS_TABLE} WHERE build_id = ?", [build])  # noqa: S608 -- our own names
        return list(rows)

    def _types(self, statement: Statement) -> dict[str, str]:
        """The types of an answer, as DuckDB names them before they become Python values."""
        with self.warehouse.writing("reading the types") as cursor:
            described = f"DESCRIBE {to_duckdb(statement.sql)}"
            found = cursor.execute(described, dict(statement.parameters)).fetchall()
        return {column: to_bigquery_type(kind) for column, kind, *_ in found}


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture(scope="module", params=NIGHTS)
def night(request: pytest.FixtureRequest, oracle: Oracle) -> Iterator[Night]:
    made = Night(oracle, *NIGHTS[request.param])
    yield made
    made.warehouse.close()


def spelled(answer: Answer) -> list[str]:
    """The rows with the Python type of each cell, so that 1, 1.0, True and Decimal(1) all differ; instants in UTC.

    Not the sign of a zero: the two are equal in SQL, and DuckDB keeps the sign or not as its plan happens to be. Nor
    the last digits of a number: a sum depends on the order of its rows.
    """

    def cell(value: object) -> str:
        match value:
            case datetime():
                value = value.astimezone(UTC)
            case float():
                value = float(f"{value or 0.0:.14g}")
        return f"{type(value).__name__} {value!r}"

    return [json.dumps({name: cell(value) for name, value in row.items()}) for row in answer.rows]


@pytest.mark.parametrize("name", [*SHIPPED.statements, *DRY_RUNS, *SHIPPED.tables.views])
def test_both_engines_give_the_same_columns_types_and_cells(night: Night, name: str) -> None:
    order = tree_of(name).args.get("order")
    keys = [] if order is None else [ordered.this.name for ordered in order.expressions]
    wider = {} if name in STORING else WIDER

    for ours, theirs in zip(night.ours(name), night.theirs(name), strict=True):
        assert list(ours.columns) == list(theirs.columns)
        for column, kind in ours.columns.items():
            assert kind in wider.get(theirs.columns[column], {theirs.columns[column]}), column
        assert Counter(spelled(ours)) == Counter(spelled(theirs))
        # Rows that share the key of the order may stand either way.
        assert [[row[key] for key in keys] for row in ours.rows] == [[row[key] for key in keys] for row in theirs.rows]


def test_the_nights_reach_every_branch(night: Night) -> None:
    """Fixtures that never mix, miss or leave anybody out would agree about nothing."""
    rows = [row for build in night.theirs("features") for row in build.rows]
    sources = {"data_source", *(f"{block.name}_source" for block in SHIPPED.blocks)}
    found = {row[column] for row in rows for column in sources}

    assert not rows or {row["opponent_source"] for row in rows} >= {"schedule", None}
    assert not rows or found == {"phase4", "phase3", "mixed", "missing", None}
    assert not rows or {row["left_out_reason"] is None for row in rows} == {True, False}
    assert not rows or {row["has_game"] for row in rows} == {True, False}


def test_the_nights_hold_builds_that_are_published_twice_once_and_never(night: Night) -> None:
    made = night.tables[GENERATIONS_TABLE].rows
    pointers = Counter(
        (row["analysis_date"], row["build_id"]) for row in night.tables[LEDGER_TABLE].rows if row["generation"] > 0
    )
    shares = {(pointers[row["analysis_date"], row["build_id"]], row[LEFT_OUT] is None) for row in made}

    if made:
        assert {(times > 0, kept) for times, kept in shares} == {(x, y) for x in (True, False) for y in (True, False)}
        assert max(times for times, _kept in shares) > 1
        assert all(answer.rows for view in SHIPPED.tables.views for answer in night.theirs(view))
        assert all(build.rows for build in night.theirs("yesterday"))


@pytest.mark.parametrize("night", ["an ordinary night"], indirect=True)
@pytest.mark.parametrize("name", STORING)
@pytest.mark.parametrize("run", range(2))
def test_both_engines_store_the_rows_of_a_build_once(night: Night, name: str, run: int) -> None:
    """ZetaSQL evaluates no INSERT with such a SELECT: it resolves the INSERT, and evaluates what it selects.

    The SELECT itself is compared on every night and in every run above.
    """
    select = night.statement(name, run)
    new = replace(select, parameters={**select.parameters, "build_id": "a build that is not there"})
    read = {table: night.table_of(table) for table in tables_in(name) | {GENERATIONS_TABLE}}
    types, _values = night.given(name)
    storing = plan_storing(select, SHIPPED).sql
    _insert, start, rest = storing.partition("SELECT ")
    assert night.oracle.analyze(storing, read, types) is not None

    theirs, repeated = night.oracle.answer(start + rest, read, types, [new.parameters, select.parameters])
    assert Counter(spelled(Answer({}, night.stored(new)))) == Counter(spelled(theirs))
    assert len(theirs.rows) == len(night.theirs(name)[run].rows)
    assert not night.tables[GENERATIONS_TABLE].rows or repeated.rows == []


EXPRESSIONS = (
    "pace * 2 - usage_rate",
    "-pace + CAST(2.5 AS FLOAT64)",
    "SAFE_DIVIDE(points_projection, assists_projection)",
    "SAFE_DIVIDE(player_id, player_id - 3)",
    "IF(pace > usage_rate AND NOT steal_rate IS NULL, pace, NULL)",
    "CASE WHEN pace BETWEEN 0 AND 1 THEN player_id WHEN player_id IN (1, 2, 3) THEN 7 ELSE usage_rate END",
    "CASE player_id WHEN 4 THEN pace ELSE 0 END",
    "COALESCE(pace, usage_rate, player_id)",
    "IF((pace < 1) = TRUE OR pace <= usage_rate, 1, 0)",
    "IF(analysis_date >= DATE '2024-12-15' OR pace <> usage_rate, (pace + 1) * (usage_rate - 1), 0)",
)
"""Expressions of a feature, in which everything stands that `worker.pipelines.sql_checks` lets stand there."""


def test_both_engines_give_an_expression_of_a_feature_the_same_value(night: Night) -> None:
    table, columns = (
        "nba_precompute.player_composite_factors",
        SHIPPED.upstream["nba_precompute.player_composite_factors"],
    )
    assert [find_expression_faults(text, columns, "FLOAT64") for text in EXPRESSIONS] == [[]] * len(EXPRESSIONS)
    held = {type(node).__name__ for text in EXPRESSIONS for node in sqlglot.parse_one(text, read="bigquery").walk()}
    assert held >= EXPRESSION_ALLOWED
    listed = ", ".join(
        f"CAST({with_finite(text, columns)} AS FLOAT64) AS value_{n}" for n, text in enumerate(EXPRESSIONS)
    )
    sql = f"SELECT player_id, {listed} FROM {table}"  # noqa: S608 -- of this file
    ours = Answer({}, night.warehouse.query(Statement(name="expressions", sql=sql)))

    [theirs] = night.oracle.answer(sql, {table: night.tables[table]}, {}, [{}])
    assert Counter(spelled(ours)) == Counter(spelled(theirs))


COMPOSITE, CACHE = (next(b.table for b in SHIPPED.blocks if b.name == name) for name in ("composite", "daily_cache"))


@pytest.mark.parametrize("night", ["an ordinary night"], indirect=True)
@pytest.mark.parametrize(
    ("without", "switches"),
    [
        (Unusable(tables=frozenset({COMPOSITE})), {"use_composite": False}),
        (Unusable(columns=frozenset((CACHE, one.name) for one in SHIPPED.features_of("daily_cache"))), {}),
        (Unusable(tables=frozenset(table.name for table in SHIPPED.phase3_tables)), {}),
        (Unusable(tables=frozenset({SHIPPED.entity.roster})), {}),
        (Unusable(tables=frozenset(SHIPPED.references)), {}),
        (Unusable(columns=frozenset((COMPOSITE, name) for name in ("has_game", "opponent_abbreviation"))), {}),
        (Unusable(casts=frozenset((COMPOSITE, name) for name in ("player_id", "pace", "processed_at"))), {}),
    ],
)
def test_what_is_unusable_counts_as_empty_in_both_engines(
    night: Night, without: Unusable, switches: Mapping[str, bool]
) -> None:
    text = SHIPPED.text("features", without)
    asked = night.statement("features", 0)
    ours = night.warehouse.query(replace(asked, sql=text))
    types = {name: kind for name, (kind, _values) in night.parameters.items() if name in asked.parameters}
    known = (*SHIPPED.upstream, *SHIPPED.references)
    tables = {name: night.tables[name] for name in known if name not in without.tables}
    [theirs] = night.oracle.answer(text, tables, types, [dict(asked.parameters)])

    read = {f"{table.db}.{table.name}" for table in sqlglot.parse_one(text, read="bigquery").find_all(exp.Table)}
    assert without.tables.isdisjoint(read)
    assert Counter(spelled(Answer({}, ours))) == Counter(spelled(theirs))
    if switches:
        blind = night.warehouse.query(replace(asked, parameters={**asked.parameters, **switches}))
        assert Counter(spelled(Answer({}, blind))) == Counter(spelled(theirs))
    gone = {column for table, column in without.columns}
    assert {
        name for row in ours for name in gone if row[name] is not None and name not in row["phase3_features"]
    } == set()


@pytest.mark.parametrize("table", SHIPPED.described)
def test_the_ddl_parses(oracle: Oracle, table: str) -> None:
    assert oracle.parse(SHIPPED.ddl_of(table)) is not None


def test_what_only_bigquery_gets_parses(oracle: Oracle) -> None:
    assert oracle.parse_script(costs_sql("us-central1")) is not None
