"""The SQL means the same to BigQuery and, through sqlglot, to DuckDB: all of it is on the list of what may be used."""

import re
from datetime import date
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify

import worker.features
from tests.support.grid_day import DEFINITION
from worker.adapters.duckdb.dialect import TRANSPILED_MAX, Parser, to_duckdb
from worker.errors import Fatal
from worker.features.pipeline import Pipeline
from worker.features.plan import plan_probe
from worker.features.sql import Unusable, read_head
from worker.pipelines.files import read_pipeline
from worker.pipelines.shipped import DOWNSTREAM, OWN_TABLES, SHIPPED, UPSTREAM
from worker.pipelines.sql_checks import (
    DDL_ALLOWED,
    DML_ALLOWED,
    VIEW_ALLOWED,
    declared_columns,
    find_expression_faults,
    find_sql_faults,
    offences,
    placement,
    shown_columns,
    split_type,
)

PACKAGE = Path(worker.features.__file__).parents[1]
GRID = read_pipeline(DEFINITION)
KNOWN_TABLES = {*UPSTREAM, *SHIPPED.references, *OWN_TABLES, *DOWNSTREAM}
FILES = {
    **{name: SHIPPED.text(name) for name in (*SHIPPED.statements, *SHIPPED.changes)},
    **{table: SHIPPED.ddl_of(table) for table in SHIPPED.described},
}
HEADER = ("Purpose", "Parameters", "Result", "Second run")


def tables_in(text: str) -> set[str]:
    return {
        ".".join(filter(None, (table.catalog, table.db, table.name)))
        for table in sqlglot.parse_one(text, read="bigquery").find_all(exp.Table)
        if table.db
    }


@pytest.mark.parametrize("name", SHIPPED.statements)
def test_a_statement_uses_only_what_carries_over(name: str) -> None:
    assert list(offences(SHIPPED.text(name))) == []


@pytest.mark.parametrize("name", ["phase5_features", "phase5_ready"])
def test_a_statement_about_an_older_generation_uses_only_what_carries_over(name: str) -> None:
    text = SHIPPED.text(name, rows_of="published_rows")

    assert list(offences(text)) == []
    assert tables_in(text) == {SHIPPED.tables.generations}


@pytest.mark.parametrize("name", SHIPPED.changes)
def test_a_change_of_the_ledger_uses_only_what_carries_over(name: str) -> None:
    assert list(offences(SHIPPED.text(name), DML_ALLOWED)) == []


@pytest.mark.parametrize("table", [*SHIPPED.tables.stored, *SHIPPED.upstream])
def test_ddl_uses_only_what_carries_over(table: str) -> None:
    assert list(offences(SHIPPED.ddl_of(table), DDL_ALLOWED)) == []


@pytest.mark.parametrize("view", SHIPPED.tables.views)
def test_a_view_uses_only_what_carries_over(view: str) -> None:
    assert list(offences(SHIPPED.ddl_of(view), VIEW_ALLOWED)) == []


def catalogue(pipeline: Pipeline) -> dict[str, dict[str, dict[str, str]]]:
    """Every column of a pipeline's tables, by dataset and table."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for table, known in {**DOWNSTREAM, **pipeline.references}.items():
        dataset, name = table.split(".")
        found.setdefault(dataset, {})[name] = dict(known)
    for table in pipeline.described:
        tree = sqlglot.parse_one(pipeline.ddl_of(table), read="bigquery")
        query = tree.expression if isinstance(tree.expression, exp.Query) else None
        columns = {column.name: column.kind.sql("bigquery") for column in tree.find_all(exp.ColumnDef)}
        dataset, name = table.split(".")
        found.setdefault(dataset, {})[name] = columns if query is None else dict.fromkeys(query.named_selects, "STRING")
    return found


SCHEMAS = {SHIPPED: catalogue(SHIPPED), GRID: catalogue(GRID)}


def resolve(text: str, pipeline: Pipeline) -> None:
    tree = sqlglot.parse_one(text, read="bigquery")
    qualify(tree, schema=SCHEMAS[pipeline], dialect="bigquery", quote_identifiers=False)


@pytest.mark.parametrize("pipeline", SCHEMAS, ids=lambda pipeline: pipeline.name)
def test_every_column_of_a_statement_is_a_column_of_a_table_that_the_statement_reads(pipeline: Pipeline) -> None:
    for name in (*pipeline.statements, *pipeline.changes):
        resolve(pipeline.text(name), pipeline)


@pytest.mark.parametrize(
    ("sound", "planted"),
    [
        ("processed_at DESC", "processed_up DESC"),
        ("roster.player_id", "roster.player"),
        ("FROM roster\n", "FROM rooster\n"),
        ("tonight.opponent AS", "tonight.rival AS"),
        ("AND processed_at <= @as_of", "AND processed <= @as_of"),
    ],
)
def test_a_planted_name_is_found(sound: str, planted: str) -> None:
    text = SHIPPED.text("features")
    assert sound in text

    with pytest.raises(sqlglot.errors.SqlglotError):
        resolve(text.replace(sound, planted), SHIPPED)


def test_a_second_pipelines_sql_means_the_same_to_both_engines() -> None:
    assert find_sql_faults(GRID) == []


@pytest.mark.parametrize(
    "planted",
    [
        # Another answer without an error.
        "TIMESTAMP_DIFF(a, b, MINUTE)",
        "DATETIME_DIFF(a, b, HOUR)",
        "DATE_DIFF(a, b, WEEK)",
        "DIV(a - b, 3)",
        "a / b",
        "1 / 0",
        "CAST(a AS INT64)",
        "CAST(2.5 AS INT64)",
        "EXTRACT(DAYOFWEEK FROM a)",
        "SUBSTR('abc', 0, 2)",
        "UNIX_SECONDS(a)",
        "CAST('2.5' AS FLOAT64)",
        "3 * 0.1",
        "LEAST(a, b)",
        "a || b",
        "SAFE_CAST(a AS INT64)",
        "DATE_SUB(a, INTERVAL 1 DAY)",
        "DATE_ADD(a, INTERVAL 1 DAY)",
        "a - INTERVAL 1 DAY",
        "COUNTIF(a > b)",
        "2.5",
        "CASE WHEN a > b THEN 0.5 ELSE 1 END",
        # An error in DuckDB.
        "ARRAY_AGG(a LIMIT 1)",
        "FARM_FINGERPRINT(a)",
        "IEEE_DIVIDE(a, b)",
        "SAFE_SUBTRACT(a, b)",
        # Right today, and not proven by the oracle.
        "a[OFFSET(0)]",
        "a[b]",
        "APPROX_QUANTILES(a, 4)",
        "SOME_FUNCTION(a)",
        # Another answer tomorrow.
        "CURRENT_DATE",
        "CURRENT_DATE()",
        "CURRENT_DATE('America/New_York')",
        "CURRENT_DATETIME()",
        "CURRENT_TIME()",
        "CURRENT_TIMESTAMP()",
        "RAND()",
        "GENERATE_UUID()",
        "SESSION_USER()",
    ],
)
def test_a_planted_construct_is_found(planted: str) -> None:
    assert list(offences("SELECT c FROM t WHERE planted".replace("planted", planted))) != []
    assert list(offences("SELECT planted AS c FROM t".replace("planted", planted))) != []
    columns = dict.fromkeys("abxy", "FLOAT64")
    assert find_expression_faults(planted, columns, "FLOAT64") != []
    assert find_expression_faults(f"CAST(IF(x > 0, {planted}, y) AS FLOAT64)", columns, "FLOAT64") != []


@pytest.mark.parametrize(
    "planted",
    [
        "MERGE a.b USING a.c ON FALSE WHEN NOT MATCHED THEN INSERT ROW",
        "SELECT c FROM a.b FOR SYSTEM_TIME AS OF @as_of",
        "SELECT c FROM a.b TABLESAMPLE SYSTEM (10 PERCENT)",
        "CREATE MATERIALIZED VIEW a.c PARTITION BY d AS SELECT d FROM a.b",
        "CREATE TEMP TABLE c AS SELECT d FROM a.b",
        "DECLARE c INT64",
        "ASSERT c > 0",
        "DELETE FROM a.b WHERE TRUE",
        "BEGIN TRANSACTION",
    ],
)
def test_a_planted_statement_is_found(planted: str) -> None:
    try:
        found = list(offences(planted))
    except sqlglot.errors.ParseError:
        return
    assert found != []


@pytest.mark.parametrize(
    "planted",
    [
        "SELECT c FROM nba_raw.INFORMATION_SCHEMA.COLUMNS",
        "SELECT c FROM `region-us`.INFORMATION_SCHEMA.JOBS_BY_PROJECT",
        "SELECT c FROM nba_raw.odds_events",
        "SELECT c FROM `another-project`.nba_raw.nbac_player_list",
    ],
)
def test_a_planted_table_is_found(planted: str) -> None:
    assert not tables_in(planted) <= KNOWN_TABLES


def test_options_planted_in_ddl_are_found() -> None:
    ddl = "CREATE TABLE IF NOT EXISTS a.b (c DATE OPTIONS (description = 'x')) PARTITION BY c OPTIONS (labels = [])"

    assert list(offences(ddl, DDL_ALLOWED)) != []


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.sql")), ids=lambda file: "/".join(file.parts[-2:]))
def test_no_shipped_sql_reads_a_clock(file: Path) -> None:
    assert re.findall(r"\bCURRENT_\w+|\b(?:now|today)\s*\(", file.read_text("utf-8"), re.IGNORECASE) == []


@pytest.mark.parametrize("name", [*SHIPPED.statements, *SHIPPED.changes])
def test_a_statement_reads_only_known_tables(name: str) -> None:
    assert tables_in(SHIPPED.text(name)) <= KNOWN_TABLES


@pytest.mark.parametrize(("name", "text"), sorted(FILES.items()))
def test_a_file_is_one_statement_with_a_header(name: str, text: str) -> None:
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("-- "))

    assert len(sqlglot.parse(text, read="bigquery")) == 1
    assert [field for field in HEADER if f"{field}:" not in header] == [], name


@pytest.mark.parametrize("name", [*SHIPPED.statements, *SHIPPED.changes])
def test_a_header_names_the_parameters(name: str) -> None:
    text = SHIPPED.text(name)
    used = {parameter.name for parameter in sqlglot.parse_one(text, read="bigquery").find_all(exp.Parameter)}

    header = "\n".join(line for line in text.splitlines() if line.startswith("--"))
    listed = re.sub(r"\([^()]*\)", "", re.findall(r"-- Parameters: ((?:.|\n-- {5})*)", header)[0])
    assert {name for name in re.findall(r"\b[a-z]\w*\b", listed) if name != "none"} == used


@pytest.mark.parametrize("name", FILES)
def test_no_comment_holds_what_a_tool_takes_for_a_parameter(name: str) -> None:
    assert [line for line in FILES[name].splitlines() if "@" in line.partition("--")[2]] == []


@pytest.mark.parametrize("name", ["dependency_rows", "features", "lineage_sources"])
def test_a_parameter_without_a_value_is_not_in_the_text(name: str) -> None:
    """BigQuery's documentation says that no parameter can be NULL."""
    unset = frozenset({"as_of", "team_abbreviation", "opponent_abbreviation"})
    text = SHIPPED.text(name, unset=unset)

    assert {parameter.name for parameter in sqlglot.parse_one(text, read="bigquery").find_all(exp.Parameter)} == {
        parameter.name for parameter in sqlglot.parse_one(SHIPPED.text(name), read="bigquery").find_all(exp.Parameter)
    } - unset
    assert list(offences(text)) == []


def test_what_counts_as_empty_carries_over() -> None:
    gone = Unusable(
        tables=frozenset(table.name for table in SHIPPED.phase3_tables),
        columns=frozenset((block.table, SHIPPED.features_of(block.name)[0].name) for block in SHIPPED.blocks),
    )

    for name in ("features", "build_stats", "dependency_rows", "lineage_sources"):
        assert list(offences(SHIPPED.text(name, gone))) == []
    assert list(offences(plan_probe(date(2024, 12, 15), SHIPPED, without=gone).sql)) == []
    counted = {f"{feature.name}_left_empty" for feature in SHIPPED.features}
    assert counted <= {select.alias for select in sqlglot.parse_one(SHIPPED.text("build_stats", gone)).selects}


DDL = "CREATE TABLE a.b (c DATE NOT NULL, d ARRAY<STRUCT<e INT64, f STRING>>) PARTITION BY c CLUSTER BY d, c"
VIEW = "CREATE OR REPLACE VIEW a.v AS SELECT made.c, made.d > 0 AS positive, made.d AS g FROM a.b AS made"


def test_ddl_is_read_into_columns_and_placement() -> None:
    assert {name: (column.type, column.required) for name, column in declared_columns(DDL).items()} == {
        "c": ("DATE", True),
        "d": ("ARRAY<STRUCT<e INT64, f STRING>>", False),
    }
    assert declared_columns(DDL, "duckdb")["d"].type == "STRUCT(e BIGINT, f TEXT)[]"
    assert placement(DDL) == ("c", ("d", "c"))
    assert dict(shown_columns(VIEW)) == {"c": "c", "positive": "", "g": "d"}
    assert (dict(shown_columns(DDL)), dict(declared_columns(VIEW))) == ({}, {})


def test_a_type_is_split_into_array_element_and_fields() -> None:
    is_array, element, fields = split_type("ARRAY<STRUCT<e INT64, f STRING>>")

    assert (is_array, element) == (True, "STRUCT<e INT64, f STRING>")
    assert [(field.name, field.type) for field in fields] == [("e", "INT64"), ("f", "STRING")]
    assert split_type("FLOAT64") == (False, "FLOAT64", ())


def test_the_comment_above_a_statement_is_read_by_label_with_its_wrapped_lines() -> None:
    text = "-- Purpose:     one\n--              two: three\n-- Result:      four.\nSELECT 1 -- Result: five\n"

    assert dict(read_head(text)) == {"Purpose": "one two: three", "Result": "four."}


@pytest.mark.parametrize("text", ["SELECT 1 AS c; DROP TABLE a.b", "SELECT 1 AS c; SELECT 2 AS c", "", "-- nothing"])
def test_the_embedded_warehouse_is_never_told_more_or_less_than_one_statement(text: str) -> None:
    with pytest.raises(Fatal, match="statements, not one"):
        to_duckdb(text)

    assert "SELECT 1 AS c" == to_duckdb("SELECT 1 AS c;\n-- the end\n")


def test_a_parsed_statement_outlives_the_connection_that_parsed_it() -> None:
    parser = Parser()
    with duckdb.connect() as closed:
        parsed = parser.parse(closed, "SELECT @number AS number")

    with duckdb.connect() as connection:
        assert parser.parse(connection, "SELECT @number AS number") is parsed
        answers = [connection.execute(parsed, {"number": value}).fetchall() for value in (3, "three")]
    assert answers == [[(3,)], [("three",)]]


def test_the_store_of_parsed_statements_is_bounded() -> None:
    parser = Parser()
    with duckdb.connect() as connection:
        parsed = parser.parse(connection, "SELECT 0 AS c")
        for number in range(1, TRANSPILED_MAX):
            parser.parse(connection, f"SELECT {number} AS c")
        assert parser.parse(connection, "SELECT 0 AS c") is parsed

        parser.parse(connection, "SELECT 'one more' AS c")
        assert parser.parse(connection, "SELECT 0 AS c") is not parsed
