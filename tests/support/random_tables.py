"""Random contents for every table that a shipped statement reads: few keys and few instants, so that everything meets.

Rows come from the declared columns alone, so a new table needs nothing here. NULLs stand wherever a column may hold
one, keys repeat, instants lie on both sides of midnight in New York and of the hour that the autumn clock repeats.
Ledger, generations and quality history name the same few builds, some ledger rows stand there twice.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from math import inf, nan
from random import Random
from typing import Any

import sqlglot
from sqlglot import exp

from tests.support.zetasql_oracle import element_of, fields_of
from worker.features.pipeline import LEFT_OUT, Pipeline
from worker.pipelines.shipped import DOWNSTREAM, GENERATIONS_TABLE, LEDGER_TABLE, SCHEDULE, SHIPPED

PLAYERS = range(1, 19)
TEAMS = ("ATL", "BOS", "CHI", "DAL", "DEN", "LAL")
NEVER_NULL = {"snapshot_date", "analysis_date", "game_date", "processed_at", "player_id"}
TEAM_KEYS = NEVER_NULL | {"team_abbreviation", "game_id"}
# Which edges of a lookback of 1, 7 and 30 days a Phase 3 row may lie on; 0 and -1 are after its end.
GAME_AGES = (-1, 0, 1, 1, 1, 2, 6, 7, 8, 29, 30, 31)
SOURCES = ("phase4", "phase3", "mixed", "missing")
BUILDS = range(1, 5)
"""The builds of a night; the last is in no ledger row."""

STORED = SHIPPED.tables.stored
FEATURES = {feature.name for feature in SHIPPED.features}
NULL_SHARE = 0.15
NO_NUMBER_SHARE = 0.1
"""How many values of upstream, and of features that an older release stored, are NaN or infinite."""

KEPT_SHARE = 0.7
"""How many rows of a build are not left out."""

SIZES = {GENERATIONS_TABLE: 3.0, LEDGER_TABLE: 0.6}
"""How many rows some tables have beside the others."""

Row = dict[str, Any]


def build_id(night: date, number: int) -> str:
    """The name of one of the builds that the night's own tables share."""
    return f"{night}-g{number}-a1"


def declared(table: str, pipeline: Pipeline = SHIPPED) -> tuple[Mapping[str, str], frozenset[str]]:
    """The columns of a table with their BigQuery types, and which of them may not be NULL."""
    if table not in pipeline.tables.stored:
        return {**pipeline.upstream, **pipeline.references, **DOWNSTREAM}[table], frozenset(NEVER_NULL)
    tree = sqlglot.parse_one(pipeline.ddl_of(table), read="bigquery")
    columns = [part for part in tree.this.expressions if isinstance(part, exp.ColumnDef)]
    required = frozenset(column.name for column in columns if column.find(exp.NotNullColumnConstraint))
    return {column.name: column.kind.sql(dialect="bigquery") for column in columns}, required


def instants(night: date) -> tuple[datetime, ...]:
    """The night's instants, an hour apart but for two: that hour's half, and one microsecond after it."""
    midnight = datetime(night.year, night.month, night.day, tzinfo=UTC) + timedelta(days=1)
    whole = tuple(midnight + timedelta(hours=hour) for hour in range(-2, 8))
    return (*whole, midnight + timedelta(minutes=30), midnight + timedelta(minutes=30, microseconds=1))


def random_rows(random: Random, table: str, night: date, rows_max: int) -> list[Row]:
    """Rows of one table; none where *rows_max* is 0.

    Some rows are there twice, others in two versions. Two versions of the same instant are not: which of them counts
    is left open (`test_build_small` says what holds then).
    """
    columns, required = declared(table)
    most = round(rows_max * SIZES.get(table, 1))
    rows = [_row(random, table, columns, required, night) for _ in range(random.randint(most // 2, most))]
    versions = [_corrected(random, columns, required, row, night) for row in random.sample(rows, len(rows) // 4)]
    if table == GENERATIONS_TABLE:
        # A build has one row of each player, and `diff` leaves it open which of several it would show.
        return list({(row["analysis_date"], row["build_id"], row["player_id"]): row for row in rows}.values())
    # No other statement chooses among rows of the product's own tables.
    kept = [*versions, *rows] if table in STORED else list({_version(row): row for row in (*versions, *rows)}.values())
    twice = random.sample(kept, len(kept) // (2 if table == LEDGER_TABLE else 6))
    return [*kept, *(dict(row) for row in twice)]


def _version(row: Row) -> tuple[object, ...]:
    """The cells that tell one row from another: its keys and its instant."""
    keys = NEVER_NULL if "player_id" in row else TEAM_KEYS
    return tuple(value for name, value in row.items() if name in keys)


def _corrected(random: Random, columns: Mapping[str, str], required: frozenset[str], row: Row, night: date) -> Row:
    """The same key once more, processed at another time, with some other numbers."""
    changed = {
        name: _number(random) if name in required or random.random() < 0.5 else None
        for name, kind in columns.items()
        if kind == "FLOAT64" and random.random() < 0.5
    }
    return row | changed | ({"processed_at": random.choice(instants(night))} if "processed_at" in columns else {})


def _row(random: Random, table: str, columns: Mapping[str, str], required: frozenset[str], night: date) -> Row:
    return {
        name: _value(random, table, name, kind, night)
        if name in required or random.random() >= (KEPT_SHARE if name == LEFT_OUT else NULL_SHARE)
        else None
        for name, kind in columns.items()
    }


def _value(random: Random, table: str, name: str, kind: str, night: date) -> object:
    if name == "game_date" and table != SCHEDULE:
        return night - timedelta(days=random.choice(GAME_AGES))
    if name == "game_id":
        return random.choice(("", "0022400001", "0022400002", "0022400003", f"{random.randrange(10**10):010}"))
    if name == "player_id":
        return random.choice(PLAYERS)
    if name == "build_id":
        return build_id(night, random.choice(BUILDS[:-1] if table == LEDGER_TABLE else BUILDS))
    if name == "analysis_date" and table in STORED:
        return night + timedelta(days=random.choice((0, 0, -1, -1, 1)))
    if name == "findings":
        return random.choice(("[]", '[{"severity":"warning"}]', '[{"severity":"critical"}]'))
    if kind == "FLOAT64" and (name in FEATURES or table not in STORED) and random.random() < NO_NUMBER_SHARE:
        return random.choice((nan, inf, -inf))
    if name.endswith("abbreviation"):
        return random.choice(TEAMS)
    if name.endswith("_source"):
        return random.choice(SOURCES)
    return _value_of(random, kind, night)


def _value_of(random: Random, kind: str, night: date) -> object:
    if element := element_of(kind):
        return _elements(random, element, night)
    match kind:
        case "DATE":
            return night + timedelta(days=random.choice((0,) * 8 + (-1, 1)))
        case "TIMESTAMP":
            return random.choice(instants(night))
        case "INT64":
            return random.randrange(4)
        case "FLOAT64":
            return _number(random)
        case "BOOL":
            return random.random() < 0.5
        case "STRING":
            return random.choice(("", "a", "Jokić", "it's", "a,b"))
    raise AssertionError(f"no random value of type {kind}")


def _elements(random: Random, kind: str, night: date) -> list[object]:
    if kind == "STRING":
        return list(random.sample(("pace", "usage_rate", "block_rate"), random.randrange(4)))
    fields = fields_of(kind)
    return [
        {name: _value(random, "", name, inner, night) for name, inner in fields.items()}
        if fields
        else _value_of(random, kind, night)
        for _ in range(random.randrange(4))
    ]


def _number(random: Random) -> float:
    return random.choice((0.0, -0.0, 100.0, round(random.uniform(-50, 120), 3), random.uniform(0, 1)))


def shuffled(random: Random, rows: Sequence[Row]) -> list[Row]:
    """The same rows in another order: no answer may hang on it."""
    return random.sample(rows, len(rows))
