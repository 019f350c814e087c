"""What the shipped definition says, and what is rendered and written from it."""

from datetime import UTC, date, datetime

import pytest
import sqlglot
from sqlglot import exp

from statemachine.model import BuildMode, State
from worker.catalogue import (
    BLOCKS,
    DEPENDENCY_TABLE,
    EXECUTION_TABLE,
    FEATURES,
    LEDGER_TABLE,
    OUTPUT_COLUMNS,
    OWN_TABLES,
    PLAYER_GAMES,
    PROCESSORS,
    QUALITY_TABLE,
    REQUIRED_FIELDS,
    ROSTER,
    SCHEDULE,
    SHIPPED,
    TEAM_DEFENSE,
    TEAM_OFFENSE,
    UPSTREAM,
    features_of,
)
from worker.features.model import BlockCounts, BuildKey, BuildRequest, BuildStats, Publication
from worker.features.plan import find_drift
from worker.features.quality import score
from worker.features.records import dependency_row, execution_row, ledger_row, quality_row, read_ledger_row

KEYS = {
    ROSTER: "player_id",
    SCHEDULE: "home_team_abbreviation",
    PLAYER_GAMES: "player_id",
    TEAM_OFFENSE: "team_abbreviation",
    TEAM_DEFENSE: "team_abbreviation",
}
AN_INSTANT = datetime(2024, 12, 16, 4, 20, tzinfo=UTC)


def parsed(text: str) -> exp.Expression:
    return sqlglot.parse_one(text, read="bigquery")


def declared(table: str) -> dict[str, str]:
    """The columns of a rendered table as {name: BigQuery type}."""
    tree = parsed(SHIPPED.ddl_of(table))
    return {column.name: column.kind.sql(dialect="bigquery") for column in tree.find_all(exp.ColumnDef)}


def a_publication() -> Publication:
    key = BuildKey(analysis_date=date(2024, 12, 15), generation=2, attempt=1)
    request = BuildRequest(
        key=key,
        mode=BuildMode.NORMAL,
        trigger="join",
        phase3_lookback_days=30,
        as_of=None,
        started_at=AN_INSTANT,
        claimant="worker-a",
    )
    stats = BuildStats(
        analysis_date=key.analysis_date,
        row_count=1,
        dependency_rows=dict.fromkeys(PROCESSORS, 1),
        blocks={b.name: BlockCounts(players=1, cells_each=3, phase4_cells=3, phase3_cells=0) for b in BLOCKS},
        required_nulls=0,
        newest_source_date=key.analysis_date,
        left_out_count=0,
        left_out=(),
    )
    return Publication(request=request, stats=stats, report=score(stats, BuildMode.NORMAL), committed_at=AN_INSTANT)


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


@pytest.mark.parametrize("table", OWN_TABLES)
def test_every_own_table_is_partitioned_by_date_and_clustered(table: str) -> None:
    tree = parsed(SHIPPED.ddl_of(table))

    assert tree.find(exp.PartitionedByProperty).this.name == "analysis_date"
    assert tree.find(exp.ClusterProperty) is not None


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (QUALITY_TABLE, quality_row(a_publication())),
        (DEPENDENCY_TABLE, dependency_row(a_publication(), BLOCKS)),
        (LEDGER_TABLE, ledger_row(a_publication(), BLOCKS)),
        (
            EXECUTION_TABLE,
            execution_row(a_publication().request, state=State.DONE, completed_at=AN_INSTANT),
        ),
    ],
)
def test_bookkeeping_rows_fill_their_tables(table: str, row: dict[str, object]) -> None:
    assert list(row) == list(declared(table))


def test_the_ledger_reads_back_what_was_committed() -> None:
    publication = a_publication()
    standing = read_ledger_row(ledger_row(publication, BLOCKS), BLOCKS)

    assert (standing.generation, standing.attempt) == publication.request.key.token
    assert standing.components == publication.report.components
    assert standing.dependency_rows == publication.stats.dependency_rows
    assert (standing.state, standing.committed_at) == (publication.report.earned_state, publication.committed_at)


def test_the_tables_as_declared_do_not_drift() -> None:
    assert [find_drift(table, columns, columns) for table, columns in UPSTREAM.items()] == [()] * 9


def test_drift_names_the_table_and_the_column() -> None:
    table = "nba_precompute.player_composite_factors"
    columns = dict(UPSTREAM[table])
    del columns["usage_rate"]
    columns["pace"] = "STRING"

    assert find_drift(table, UPSTREAM[table], columns) == (
        "nba_precompute.player_composite_factors has no column usage_rate (FLOAT64)",
        "nba_precompute.player_composite_factors.pace is STRING, not FLOAT64",
    )
    assert find_drift(table, UPSTREAM[table], {}) == ("table nba_precompute.player_composite_factors does not exist",)


def test_a_whole_number_column_serves_as_a_float() -> None:
    table = "nba_precompute.player_daily_cache"

    assert find_drift(table, UPSTREAM[table], {**UPSTREAM[table], "season_avg_ppg": "INT64", "extra": "JSON"}) == ()
    assert find_drift(table, UPSTREAM[table], {**UPSTREAM[table], "player_id": "FLOAT64"}) == (
        f"{table}.player_id is FLOAT64, not INT64",
    )
