"""Claim and publication over random ledgers: Google's ZetaSQL, DuckDB and the rule in Python leave the same rows.

A ledger may hold two rows of one date, each with a claim and a publication of its own. The evaluator runs no MERGE, so
the two branches of the claim are given to it as the UPDATE and the INSERT that they are.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from tests.support.random_tables import declared
from tests.support.zetasql_oracle import Oracle, Table
from worker.adapters.duckdb.dialect import to_duckdb
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.pipelines.shipped import GENERATIONS_TABLE, LEDGER_TABLE, SHIPPED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # the first run on a machine compiles the evaluator

NIGHT = date(2024, 12, 15)
AT = datetime(2024, 12, 16, 4, 30, tzinfo=UTC)
CASES = 150
TYPES = {
    "analysis_date": "DATE",
    "generation": "INT64",
    "attempt": "INT64",
    "claimant": "STRING",
    "claimed_at": "TIMESTAMP",
    "build_id": "STRING",
    "committed_at": "TIMESTAMP",
    "row_count": "INT64",
}
MADE_COLUMNS = {"analysis_date": "DATE", "build_id": "STRING", "left_out_reason": "STRING"}
"""The columns of `generations` that a publication reads."""

Row = Mapping[str, Any]
Rows = Sequence[Row]


class Undone(Exception):
    """Rolls a transaction back."""


def build_id(generation: int, attempt: int) -> str:
    return f"g{generation}-a{attempt}"


def ledger_row(random: Random, night: date) -> Row:
    """A row that claims and publications may have left: nothing published is newer than the claim."""
    claimed = random.randint(1, 3)
    generation = random.randint(0, claimed)
    at = AT - timedelta(minutes=generation)
    published = {"generation": generation, "build_id": build_id(generation, 1), "committed_at": at}
    return {
        "analysis_date": night,
        "claimed_generation": claimed,
        "claimed_attempt": random.randint(1, 2),
        "claimed_by": random.choice("ab"),
        "claimed_at": AT - timedelta(hours=1),
        "generation": generation,
        "build_id": published["build_id"] if generation else None,
        "committed_at": at if generation else None,
        "publications": [published] * (generation > 0),
    }


def case_of(random: Random) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """A ledger, the rows of some builds, and the parameters of an attempt; half of them name a claim that is there."""
    ledger = [ledger_row(random, NIGHT) for _ in range(random.choice((0, 1, 1, 2)))]
    ledger += [dict(row) for row in ledger if random.random() < 0.3]
    asked = {"generation": random.randint(1, 4), "attempt": random.randint(1, 2), "claimant": random.choice("ab")}
    if ledger and random.random() < 0.5:
        known = random.choice(ledger)
        held = {"generation": "claimed_generation", "attempt": "claimed_attempt", "claimant": "claimed_by"}
        asked = {name: known[column] for name, column in held.items()}
    asked["build_id"] = build_id(asked["generation"], asked["attempt"])
    names = (asked["build_id"], asked["build_id"], build_id(random.randint(1, 3), 1))
    made = [
        {
            "analysis_date": night,
            "build_id": random.choice(names),
            "left_out_reason": random.choice((None, None, "lost")),
        }
        for night in (NIGHT, NIGHT, NIGHT, NIGHT + timedelta(days=1))
    ]
    found = count_kept(made, asked["build_id"])
    asked |= {"row_count": found if random.random() < 0.8 else found + 1}
    asked |= {"analysis_date": NIGHT, "claimed_at": AT, "committed_at": AT + timedelta(seconds=1)}
    return [*ledger, ledger_row(random, NIGHT + timedelta(days=1))], made, asked


def count_kept(made: Rows, build: str) -> int:
    return sum((row["analysis_date"], row["build_id"], row["left_out_reason"]) == (NIGHT, build, None) for row in made)


def claim_of(row: Row) -> tuple[int, int]:
    return row["claimed_generation"], row["claimed_attempt"]


def claimed(ledger: Rows, _made: Rows, asked: Row) -> list[Row]:
    """The ledger after a claim, by the rule."""
    claim = {
        "claimed_generation": asked["generation"],
        "claimed_attempt": asked["attempt"],
        "claimed_by": asked["claimant"],
        "claimed_at": asked["claimed_at"],
    }
    if not any(row["analysis_date"] == NIGHT for row in ledger):
        nothing = {"generation": 0, "build_id": None, "committed_at": None, "publications": []}
        return [*ledger, {"analysis_date": NIGHT, **claim, **nothing}]
    token = (asked["generation"], asked["attempt"])
    return [
        {**row, **claim}
        if row["analysis_date"] == NIGHT and row["generation"] < token[0] and claim_of(row) < token
        else row
        for row in ledger
    ]


def published(ledger: Rows, made: Rows, asked: Row) -> list[Row]:
    """The ledger after a publication, by the rule."""
    token = (asked["generation"], asked["attempt"])
    of_the_date = [row for row in ledger if row["analysis_date"] == NIGHT]
    newer = any(row["generation"] >= token[0] or claim_of(row) > token for row in of_the_date)
    if newer or count_kept(made, asked["build_id"]) != asked["row_count"]:
        return list(ledger)
    entry = {name: asked[name] for name in ("generation", "build_id", "committed_at")}
    return [
        {**row, **entry, "publications": [*row["publications"], entry]}
        if row["analysis_date"] == NIGHT and (claim_of(row), row["claimed_by"]) == (token, asked["claimant"])
        else row
        for row in ledger
    ]


def branches_of_the_claim() -> tuple[str, str]:
    """The claim's two branches, as an UPDATE and an INSERT."""
    tree = sqlglot.parse_one(SHIPPED.text("claim"), read="bigquery")
    matched, otherwise = tree.args["whens"].expressions
    on, condition = (part.sql(dialect="bigquery") for part in (tree.args["on"], matched.args["condition"]))
    changes = ", ".join(change.sql(dialect="bigquery") for change in matched.args["then"].expressions)
    insert = otherwise.args["then"]
    assert isinstance(insert, exp.Insert)
    columns, values = insert.this.sql(dialect="bigquery"), insert.expression.sql(dialect="bigquery")
    return (
        f"UPDATE {LEDGER_TABLE} AS ledger SET {changes} WHERE {on} AND ({condition})",  # noqa: S608 -- the shipped text
        f"INSERT INTO {LEDGER_TABLE} {columns} VALUES {values}",  # noqa: S608 -- the shipped text
    )


def types_in(sql: str) -> dict[str, str]:
    return {name: kind for name, kind in TYPES.items() if f"@{name}" in sql}


def by_zetasql(oracle: Oracle, sql: str, ledger: Rows, made: Rows, asked: Row) -> list[Row]:
    """The rows that a statement writes, as they are afterwards."""
    tables = {LEDGER_TABLE: Table(declared(LEDGER_TABLE)[0], ledger), GENERATIONS_TABLE: Table(MADE_COLUMNS, made)}
    read = {name: table for name, table in tables.items() if name in sql}
    return oracle.change(sql, read, types_in(sql), asked)


def by_duckdb(warehouse: DuckDbWarehouse, sql: str, ledger: Rows, made: Rows, asked: Row) -> list[Row]:
    """The whole ledger after a statement."""
    with suppress(Undone), warehouse.writing("changing a ledger") as cursor:
        for table, rows in ((LEDGER_TABLE, ledger), (GENERATIONS_TABLE, made)):
            for row in rows:
                marks = ", ".join("?" for _ in row)
                cursor.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))  # noqa: S608 -- our own names
        cursor.execute(to_duckdb(sql), {name: asked[name] for name in types_in(sql)})
        cursor.execute(f"SELECT * FROM {LEDGER_TABLE}")  # noqa: S608 -- our own names
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        raise Undone
    return found


def spelled(rows: Rows) -> Counter[str]:
    """The rows in any order, instants in UTC."""

    def cell(value: object) -> object:
        match value:
            case datetime():
                return value.astimezone(UTC)
            case list():
                return [cell(element) for element in value]
            case dict():
                return {name: cell(field) for name, field in value.items()}
        return value

    return Counter(repr({name: cell(value) for name, value in row.items()}) for row in rows)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture(scope="module")
def warehouse() -> Iterator[DuckDbWarehouse]:
    opened = DuckDbWarehouse(":memory:")
    opened.ensure_tables()
    with opened.writing("relaxing a table") as cursor:
        columns = ", ".join(f"{name} {kind}" for name, kind in MADE_COLUMNS.items())
        cursor.execute(to_duckdb(f"CREATE OR REPLACE TABLE {GENERATIONS_TABLE} ({columns})"))
    yield opened
    opened.close()


RULES: Mapping[str, Callable[[Rows, Rows, Row], list[Row]]] = {"claim": claimed, "publish": published}


def test_every_statement_that_changes_the_ledger_has_its_rule() -> None:
    changes = {name for name in SHIPPED.changes if f"Changes:     {LEDGER_TABLE}." in SHIPPED.text(name)}

    assert set(RULES) == changes


@pytest.mark.parametrize("name", RULES)
def test_both_engines_resolve_a_change_of_the_ledger(oracle: Oracle, name: str) -> None:
    tables = {LEDGER_TABLE: Table(declared(LEDGER_TABLE)[0], []), GENERATIONS_TABLE: Table(MADE_COLUMNS, [])}
    sql = SHIPPED.text(name)

    assert oracle.analyze(sql, tables, types_in(sql)) is not None


@pytest.mark.parametrize("seed", range(CASES))
def test_a_claim_leaves_the_ledger_that_the_rule_demands(oracle: Oracle, warehouse: DuckDbWarehouse, seed: int) -> None:
    ledger, made, asked = case_of(Random(seed))  # noqa: S311 -- a test's own dice
    wanted = spelled(claimed(ledger, made, asked))
    matched, otherwise = branches_of_the_claim()
    branch = matched if len(ledger) > 1 else otherwise

    assert spelled(by_duckdb(warehouse, SHIPPED.text("claim"), ledger, made, asked)) == wanted
    assert spelled(by_zetasql(oracle, branch, ledger, made, asked)) == wanted - spelled(ledger)


@pytest.mark.parametrize("seed", range(CASES))
def test_a_publication_leaves_the_ledger_that_the_rule_demands(
    oracle: Oracle, warehouse: DuckDbWarehouse, seed: int
) -> None:
    ledger, made, asked = case_of(Random(seed))  # noqa: S311 -- a test's own dice
    wanted = spelled(published(ledger, made, asked))

    assert spelled(by_duckdb(warehouse, SHIPPED.text("publish"), ledger, made, asked)) == wanted
    assert spelled(by_zetasql(oracle, SHIPPED.text("publish"), ledger, made, asked)) == wanted - spelled(ledger)


def test_the_cases_claim_and_publish_in_part_of_the_ledgers() -> None:
    cases = [case_of(Random(seed)) for seed in range(CASES)]  # noqa: S311 -- a test's own dice
    for rule in RULES.values():
        changed = Counter(sum((spelled(rule(*case)) - spelled(case[0])).values()) for case in cases)
        assert {0, 1, 2} <= set(changed)
        assert min(changed[0], changed[1]) > CASES // 10
