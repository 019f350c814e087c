"""The build's SQL, evaluated by Google's own ZetaSQL and by DuckDB through sqlglot, over the same random tables.

This pins the meaning of the shared text: BigQuery gets it verbatim. The evaluator is the PyPI package `zetasql`, a
WebAssembly build that takes half a minute to compile on its first use; the test is skipped where it is not installed.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest

from tests.support.bigquery import attempt, publication
from worker.adapters.warehouse_bigquery_costs import costs_sql
from worker.adapters.warehouse_bigquery_sql import claim_script, publish_script
from worker.adapters.warehouse_duckdb import DuckDbWarehouse
from worker.features.catalogue import BLOCKS, FEATURES, ROSTER, SCHEDULE, STAGED, UPSTREAM, features_of
from worker.features.model import BuildKey, Statement
from worker.sql_files import load_ddl, load_sql

zetasql_api = pytest.importorskip("zetasql.api", reason="the ZetaSQL evaluator is not installed")
zetasql_types = pytest.importorskip("zetasql.types")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NIGHT = date(2024, 12, 15)
BUILT_AT = datetime(2024, 12, 16, 4, 30, tzinfo=UTC)
TEAMS = [f"T{number}" for number in range(8)]
DUCKDB_TYPES = {"DATE": "DATE", "INT64": "BIGINT", "FLOAT64": "DOUBLE", "STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ"}

Row = dict[str, Any]
Evaluate = Callable[[str], list[Row]]


@pytest.fixture(scope="module")
def evaluate() -> Evaluate:
    """Give a function that runs one SELECT in ZetaSQL and gives its rows."""
    language = zetasql_types.LanguageOptions.maximum_features()
    functions = zetasql_types.ZetaSQLBuiltinFunctionOptions(language_options=language)
    catalog = zetasql_api.CatalogBuilder("oracle").with_builtin_functions(functions).build()
    options = zetasql_types.AnalyzerOptions(language_options=language)

    def run(sql: str) -> list[Row]:
        as_json = "SELECT TO_JSON_STRING(t) FROM (that) AS t".replace("that", sql)
        builder = (
            zetasql_api.PreparedQuery.builder().set_sql(as_json).set_analyzer_options(options).set_catalog(catalog)
        )
        with builder.prepare() as query:
            table = query.execute().content.table_data
        return [json.loads(row.cell[0].string_value) for row in (table.row if table is not None else [])]

    return run


def random_tables(random: Random, players: int) -> dict[str, list[Row]]:
    """Tables with NULLs, duplicates, neighbouring dates, late rows and players without a team."""

    def instant() -> datetime:
        return BUILT_AT - timedelta(seconds=random.randrange(200_000))

    def number() -> float | None:
        return None if random.random() < 0.2 else round(random.uniform(-50, 120), 3)

    def near(day: date) -> date:
        return day if random.random() < 0.9 else day + timedelta(days=random.choice([-1, 1]))

    tables: dict[str, list[Row]] = {
        ROSTER: [
            {
                "snapshot_date": near(NIGHT),
                "player_id": player if random.random() < 0.9 else player - 1,
                "player_name": f"Player {player} Jokić",
                "team_abbreviation": random.choice([*TEAMS, None]),
                "processed_at": instant(),
            }
            for player in range(players)
        ],
        SCHEDULE: [
            {
                "game_date": near(NIGHT),
                "game_id": f"002240000{game}",
                "home_team_abbreviation": TEAMS[2 * game],
                "away_team_abbreviation": TEAMS[2 * game + 1],
                "processed_at": instant(),
            }
            for game in range(3)
        ],
    }
    keys = {"player_id": list(range(players)), "team_abbreviation": TEAMS}
    for block in BLOCKS:
        tables[block.table] = [
            {"analysis_date": near(NIGHT), block.key: key, "processed_at": instant()}
            | {feature.name: number() for feature in features_of(block.name)}
            for key in keys[block.key]
            for _ in range(random.choice([0, 1, 1, 1, 2]))
        ]
    for table in sorted({feature.phase3_table for feature in FEATURES}):
        name = "player_id" if "player_id" in UPSTREAM[table] else "team_abbreviation"
        tables[table] = [
            {"game_date": NIGHT - timedelta(days=random.randrange(40)), name: key, "processed_at": instant()}
            | {feature.phase3_column: number() for feature in FEATURES if feature.phase3_table == table}
            for key in keys[name]
            for _ in range(random.choice([0, 1, 2, 3]))
        ]
    return tables


def literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).upper()
        case datetime():
            return f"TIMESTAMP '{value:%Y-%m-%d %H:%M:%S}+00'"
        case date():
            return f"DATE '{value.isoformat()}'"
        case str():
            return f"'{value}'"
        case _:
            return repr(value)


def with_values(sql: str, parameters: Mapping[str, Any]) -> str:
    """Write the parameters into the text, and drop its comments; both only for the oracle."""
    code = "\n".join(line for line in sql.splitlines() if not line.strip().startswith("--"))
    values = {name: "CAST(NULL AS TIMESTAMP)" if v is None else literal(v) for name, v in parameters.items()}
    return re.sub(r"@(\w+)", lambda match: values[match[1]], code)


def with_tables(sql: str, tables: Mapping[str, list[Row]]) -> str:
    """Put each table's rows in the place of its name."""
    for table, rows in tables.items():
        columns = UPSTREAM[table]
        fields = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        tuples = ", ".join("(" + ", ".join(literal(row[name]) for name in columns) + ")" for row in rows)
        sql = sql.replace(table, f"UNNEST(ARRAY<STRUCT<{fields}>>[{tuples}])")
    return sql


def warehouse_of(tables: Mapping[str, list[Row]]) -> DuckDbWarehouse:
    warehouse = DuckDbWarehouse(":memory:")
    warehouse.ensure_tables()
    with warehouse.writing("filling the tables") as cursor:
        for table, rows in tables.items():
            columns = UPSTREAM[table]
            declared = ", ".join(f"{name} {DUCKDB_TYPES[kind]}" for name, kind in columns.items())
            cursor.execute(f"CREATE TABLE {table} ({declared})")
            for row in rows:
                marks = ", ".join("?" for _ in columns)
                cursor.execute(f"INSERT INTO {table} VALUES ({marks})", [row[name] for name in columns])  # noqa: S608
    return warehouse


def comparable(rows: list[Mapping[str, Any]]) -> list[str]:
    """Rows in one order and one spelling: JSON writes instants as text and large whole numbers too."""

    def spelled(value: object) -> object:
        match value:
            case datetime():
                return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            case date():
                return value.isoformat()
            case bool() | None | list():
                return value
            case int() | float():
                return float(value)
            case str() if re.fullmatch(r"-?\d+", value):
                return float(value)
            case _:
                return value

    return sorted(json.dumps({name: spelled(value) for name, value in row.items()}) for row in rows)


@pytest.mark.parametrize("seed", range(6))
def test_both_engines_give_the_same_rows(evaluate: Evaluate, seed: int) -> None:
    """Seed 0 is the night without a single row."""
    random = Random(seed)  # noqa: S311 -- a test's own dice
    tables = random_tables(random, players=25 if seed else 0)
    counting = {"analysis_date": NIGHT, "as_of": random.choice([None, BUILT_AT - timedelta(hours=6)])}
    building = counting | {
        "lookback_start": NIGHT - timedelta(days=30),
        "previous_date": NIGHT - timedelta(days=1),
        "use_phase4": random.random() < 0.75,
        "build_generation": 3,
        "build_id": "2024-12-15-g3-a1",
        "built_at": BUILT_AT,
    }
    sql, key = load_sql(), BuildKey(analysis_date=NIGHT, generation=3, attempt=1)
    warehouse = warehouse_of(tables)
    warehouse.stage(key, Statement(name="features", sql=sql["features"], parameters=building))

    def ours(name: str, text: str) -> list[str]:
        return comparable(list(warehouse.query_staged(key, Statement(name=name, sql=text))))

    features = with_tables(with_values(sql["features"], building), tables)
    counted = warehouse.query(Statement(name="dependency_rows", sql=sql["dependency_rows"], parameters=counting))

    assert ours("features", "SELECT * FROM mlfs_staging.this_build") == comparable(evaluate(features))
    for name in ("build_stats", "left_out"):
        theirs = evaluate(with_values(sql[name], {}).replace(STAGED, f"({features})"))
        assert ours(name, sql[name]) == comparable(theirs)
    assert comparable(list(counted)) == comparable(
        evaluate(with_tables(with_values(sql["dependency_rows"], counting), tables))
    )
    warehouse.close()


SCRIPTS = {
    "claim": claim_script(attempt(), BUILT_AT, "worker-a/1").sql,
    "publish": publish_script(publication(attempt()), "`a-project.mlfs_staging.build_20241215_g1_a1`").sql,
    "costs": costs_sql("us-central1"),
}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_what_only_bigquery_gets_parses(name: str) -> None:
    assert zetasql_api.Parser.parse_script_static(SCRIPTS[name]) is not None


@pytest.mark.parametrize("name", sorted(load_ddl()))
def test_the_ddl_parses(name: str) -> None:
    assert zetasql_api.Parser.parse_statement_static(load_ddl()[name]) is not None
