"""What the shipped definition says, and what is rendered and written from it."""

from collections.abc import Iterable
from datetime import date

import pytest
import sqlglot
from sqlglot import exp

from statemachine.model import State
from tests.support.generation_rows import COMMITTED_AT, publication_of
from worker.features.model import BuildKey, UpstreamFault
from worker.features.records import execution_row, published_row, read_ledger_row
from worker.features.usable import find_drift
from worker.pipelines.shipped import (
    BLOCKS,
    EXECUTION_TABLE,
    FEATURES,
    OUTPUT_COLUMNS,
    PLAYER_GAMES,
    REQUIRED_FIELDS,
    ROSTER,
    SCHEDULE,
    SHIPPED,
    TEAM_DEFENSE,
    TEAM_OFFENSE,
    UPSTREAM,
    features_of,
)

KEYS = {
    ROSTER: "player_id",
    SCHEDULE: "home_team_abbreviation",
    PLAYER_GAMES: "player_id",
    TEAM_OFFENSE: "team_abbreviation",
    TEAM_DEFENSE: "team_abbreviation",
}
PUBLICATION = publication_of(BuildKey(analysis_date=date(2024, 12, 15), generation=2, attempt=1))


def parsed(text: str) -> exp.Expression:
    return sqlglot.parse_one(text, read="bigquery")


def declared(table: str) -> dict[str, str]:
    """The columns of a rendered table as {name: BigQuery type}."""
    tree = parsed(SHIPPED.ddl_of(table))
    return {column.name: column.kind.sql(dialect="bigquery") for column in tree.this.find_all(exp.ColumnDef)}


def test_five_fields_are_required() -> None:
    assert set(REQUIRED_FIELDS) == {
        "points_projection",
        "rebounds_projection",
        "assists_projection",
        "offensive_rating",
        "defensive_rating",
    }


def test_every_feature_is_published_and_belongs_to_a_block() -> None:
    names = [column.name for column in OUTPUT_COLUMNS]

    assert len(names) == len(set(names))
    assert {feature for block in BLOCKS for feature in features_of(block.name)} == set(FEATURES)
    assert {feature.name for feature in FEATURES} <= set(names)


def texts_of(statement: str, column: str) -> set[str]:
    """The texts that a statement can give a column."""
    chosen = next(each for each in parsed(SHIPPED.text(statement)).selects if each.alias_or_name == column)
    return {text.name for text in chosen.find_all(exp.Literal) if text.is_string}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_the_sources_of_a_block_are_those_that_the_statements_give(block) -> None:
    column = next(column for column in OUTPUT_COLUMNS if column.name == f"{block.name}_source")

    assert set(column.values) == texts_of("features", column.name) | texts_of("yesterday", column.name)


def test_the_sources_of_a_published_row_are_those_that_the_statements_give() -> None:
    """A row without a cell is `missing`, lacks the feature that it must have, and is left out."""
    column = next(column for column in OUTPUT_COLUMNS if column.name == "data_source")

    assert {*column.values, "missing"} == texts_of("features", column.name) | texts_of("yesterday", column.name)


@pytest.mark.parametrize("table", UPSTREAM)
def test_a_table_made_by_the_upstream_ddl_does_not_drift(table: str) -> None:
    columns = {c.name: c.kind.sql(dialect="bigquery") for c in parsed(SHIPPED.ddl_of(table)).find_all(exp.ColumnDef)}

    assert find_drift(table, UPSTREAM[table], columns) == ()


@pytest.mark.parametrize("table", UPSTREAM)
def test_every_table_that_is_read_lies_by_date_and_key(table: str) -> None:
    """A build asks for one date, or for a window of dates, and joins by player or team."""
    tree, block = parsed(SHIPPED.ddl_of(table)), next((block for block in BLOCKS if block.table == table), None)
    day = tree.find(exp.PartitionedByProperty).this.name
    cluster = [column.name for column in tree.find(exp.ClusterProperty).expressions]

    assert UPSTREAM[table][day] == "DATE"
    assert day == ("analysis_date" if block else "snapshot_date" if table == ROSTER else "game_date")
    assert cluster == [block.key if block else KEYS[table]]


def test_the_optional_tables_hold_every_feature() -> None:
    names = {feature.name for feature in FEATURES}
    cache = parsed(SHIPPED.ddl_of(SHIPPED.optional.fallback_cache))
    view = parsed(SHIPPED.ddl_of(SHIPPED.optional.joined_view))

    assert names <= {column.name for column in cache.find_all(exp.ColumnDef)}
    assert names <= {selected.alias_or_name for selected in view.find(exp.Select).selects}


@pytest.mark.parametrize("table", SHIPPED.tables.stored)
def test_every_own_table_is_partitioned_by_date_and_clustered(table: str) -> None:
    tree = parsed(SHIPPED.ddl_of(table))

    assert tree.find(exp.PartitionedByProperty).this.name == "analysis_date"
    assert tree.find(exp.ClusterProperty) is not None


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (SHIPPED.tables.history, published_row(PUBLICATION, BLOCKS)),
        (EXECUTION_TABLE, execution_row(PUBLICATION.request, state=State.DONE, completed_at=COMMITTED_AT)),
    ],
)
def test_bookkeeping_rows_fill_their_tables(table: str, row: dict[str, object]) -> None:
    assert sorted(row) == sorted(declared(table))


def test_what_is_published_is_read_back() -> None:
    row = published_row(PUBLICATION, BLOCKS) | {"committed_at": COMMITTED_AT}
    standing = read_ledger_row(row, BLOCKS)

    assert (standing.generation, standing.attempt) == PUBLICATION.request.key.token
    assert standing.components == PUBLICATION.report.components
    assert standing.dependency_rows == PUBLICATION.stats.dependency_rows
    assert (standing.state, standing.committed_at) == (PUBLICATION.report.earned_state, COMMITTED_AT)


def test_the_tables_as_declared_do_not_drift() -> None:
    assert [find_drift(table, columns, columns) for table, columns in UPSTREAM.items()] == [()] * 9


def test_drift_names_the_table_and_the_column() -> None:
    table = "nba_precompute.player_composite_factors"
    columns = dict(UPSTREAM[table])
    del columns["usage_rate"]
    columns["pace"] = "STRING"

    assert texts(find_drift(table, UPSTREAM[table], columns)) == [
        "nba_precompute.player_composite_factors has no column usage_rate (FLOAT64)",
        "nba_precompute.player_composite_factors.pace is STRING, not FLOAT64",
    ]
    assert texts(find_drift(table, UPSTREAM[table], {})) == [
        "table nba_precompute.player_composite_factors does not exist"
    ]


def texts(faults: Iterable[UpstreamFault]) -> list[str]:
    return [fault.text for fault in faults]


def test_a_whole_number_column_serves_as_a_float() -> None:
    table = "nba_precompute.player_daily_cache"

    assert find_drift(table, UPSTREAM[table], {**UPSTREAM[table], "season_avg_ppg": "INT64", "extra": "JSON"}) == ()
    assert texts(find_drift(table, UPSTREAM[table], {**UPSTREAM[table], "player_id": "FLOAT64"})) == [
        f"{table}.player_id is FLOAT64, not INT64"
    ]
