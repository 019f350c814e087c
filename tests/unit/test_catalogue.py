"""The catalogue, the SQL and the DDL spell the same names; nothing else would notice one that is lacking."""

from datetime import UTC, date, datetime

import pytest
import sqlglot
from sqlglot import exp

from statemachine.model import BuildMode, State
from worker.features.catalogue import (
    BLOCKS,
    DEPENDENCY_TABLE,
    EXECUTION_TABLE,
    FEATURES,
    LEDGER_TABLE,
    OUTPUT_COLUMNS,
    OWN_TABLES,
    PLAYER_GAMES,
    PROCESSORS,
    PUBLISHED_TABLE,
    QUALITY_TABLE,
    REQUIRED_FIELDS,
    ROSTER,
    SCHEDULE,
    TEAM_DEFENSE,
    TEAM_OFFENSE,
    UPSTREAM,
    features_of,
)
from worker.features.model import BlockCounts, BuildKey, BuildRequest, BuildStats, Publication
from worker.features.plan import find_drift
from worker.features.quality import score
from worker.features.records import dependency_row, execution_row, ledger_row, quality_row, read_ledger_row
from worker.settings import PROCESSORS as AWAITED
from worker.sql_files import load_ddl, load_optional_ddl, load_sql, load_upstream_ddl

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


def features_query() -> exp.Expression:
    return parsed(load_sql()["features"])


def ctes() -> dict[str, exp.Expression]:
    return {cte.alias: cte.this for cte in features_query().find_all(exp.CTE)}


def tables_behind(queries: dict[str, exp.Expression], name: str) -> set[str]:
    """The tables of a query, or of the query that it selects from."""
    while (inner := queries[name].find(exp.From).this.name) in queries:
        name = inner
    return tables_in(queries[name])


def tables_in(tree: exp.Expression) -> set[str]:
    return {f"{table.db}.{table.name}" for table in tree.find_all(exp.Table) if table.db}


def declared(table: str) -> dict[str, str]:
    """The columns of a DDL file as {name: BigQuery type}."""
    tree = parsed(load_ddl()[table.partition(".")[2]])
    assert tables_in(tree) == {table}
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


def test_there_are_22_features_in_four_blocks() -> None:
    assert len(FEATURES) == len({feature.name for feature in FEATURES}) == 22
    assert {block.name: len(features_of(block.name)) for block in BLOCKS} == {
        "team_defense": 3,
        "player_shot": 4,
        "composite": 12,
        "daily_cache": 3,
    }


def test_five_fields_are_required() -> None:
    assert set(REQUIRED_FIELDS) == {
        "points_projection",
        "rebounds_projection",
        "assists_projection",
        "offensive_rating",
        "defensive_rating",
    }


def test_more_than_forty_columns_are_published() -> None:
    names = [column.name for column in OUTPUT_COLUMNS]

    assert len(names) == len(set(names)) == 42
    assert {feature.name for feature in FEATURES} <= set(names)


def test_the_query_gives_the_published_columns_first_and_in_order() -> None:
    names = [selected.alias_or_name for selected in features_query().selects]

    published = [column.name for column in OUTPUT_COLUMNS]
    counted = [f"{block.name}_phase{phase}_cells" for block in BLOCKS for phase in (4, 3)]
    assert names == [*published, "left_out_reason", *counted]


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_each_feature_is_read_where_the_catalogue_says(feature) -> None:
    queries = ctes()
    block = next(block for block in BLOCKS if block.name == feature.block)
    phase4s = queries["player_phase4"].selects + queries["cells"].selects
    selected = {each.alias_or_name: each.unalias() for each in phase4s}
    first, phase3 = selected[feature.name].find_all(exp.Column)
    phase4 = selected[f"phase4_{feature.name}"]

    assert isinstance(selected[feature.name], exp.Coalesce)
    assert first.name == f"phase4_{feature.name}" or first == phase4
    assert (tables_behind(queries, phase4.table), phase4.name) == ({block.table}, feature.name)
    assert (tables_behind(queries, phase3.table), phase3.name) == ({feature.phase3_table}, feature.phase3_column)


def test_a_player_is_complete_when_no_feature_that_could_come_from_his_games_is_missing() -> None:
    complete = next(each for each in ctes()["player_phase4"].selects if each.alias == "is_complete")

    per_player = {feature.name for feature in FEATURES if feature.block != "team_defense"}
    assert {column.name for column in complete.find_all(exp.Column)} == per_player
    assert {type(node) for node in complete.walk() if isinstance(node, exp.Connector)} == {exp.And}


@pytest.mark.parametrize("array", ["phase3_features", "missing_features"])
def test_the_arrays_can_name_every_feature(array: str) -> None:
    tree = next(each for each in features_query().selects if each.alias_or_name == array)

    named = [text.name.rstrip(",") for text in tree.find_all(exp.Literal) if text.is_string and len(text.name) > 1]
    assert sorted(named) == sorted(feature.name for feature in FEATURES)


def test_the_build_reads_the_catalogues_tables_and_no_others() -> None:
    assert tables_in(features_query()) == set(UPSTREAM)
    assert {ROSTER, SCHEDULE} < set(UPSTREAM)


def test_the_processors_that_are_awaited_are_those_that_a_build_reads() -> None:
    assert set(AWAITED) == set(PROCESSORS)


def test_every_processor_is_counted_in_its_own_table() -> None:
    counted = {
        select.find(exp.Literal).name: tables_in(select)
        for select in parsed(load_sql()["dependency_rows"]).find_all(exp.Select)
    }

    assert counted == {block.processor: {block.table} for block in BLOCKS}


def test_the_required_fields_are_counted() -> None:
    nulls = next(each for each in parsed(load_sql()["build_stats"]).selects if each.alias == "required_nulls")

    assert {column.name for column in nulls.find_all(exp.Column)} - {"left_out_reason"} == set(REQUIRED_FIELDS)


def test_the_published_table_has_the_published_columns() -> None:
    assert declared(PUBLISHED_TABLE) == {column.name: column.type for column in OUTPUT_COLUMNS}


def test_every_own_table_has_its_ddl() -> None:
    assert {f"nba_predictions.{name}" for name in load_ddl()} == set(OWN_TABLES)


def upstream_ddl(table: str) -> exp.Expression:
    tree = parsed(load_upstream_ddl()[table.partition(".")[2]])
    assert tables_in(tree) == {table}
    return tree


def test_every_table_that_is_read_has_its_ddl() -> None:
    assert set(load_upstream_ddl()) == {table.partition(".")[2] for table in UPSTREAM}


@pytest.mark.parametrize("table", UPSTREAM)
def test_a_table_made_by_the_upstream_ddl_does_not_drift(table: str) -> None:
    columns = {c.name: c.kind.sql(dialect="bigquery") for c in upstream_ddl(table).find_all(exp.ColumnDef)}

    assert find_drift(table, columns) == ()


@pytest.mark.parametrize("table", UPSTREAM)
def test_every_table_that_is_read_lies_by_date_and_key(table: str) -> None:
    """A build asks for one date, or for a window of dates, and joins by player or team."""
    tree, block = upstream_ddl(table), next((block for block in BLOCKS if block.table == table), None)
    day = tree.find(exp.PartitionedByProperty).this.name
    cluster = [column.name for column in tree.find(exp.ClusterProperty).expressions]

    assert UPSTREAM[table][day] == "DATE"
    assert day == ("analysis_date" if block else "snapshot_date" if table == ROSTER else "game_date")
    assert cluster == [block.key if block else KEYS[table]]


def test_the_optional_tables_hold_every_feature() -> None:
    names = {feature.name for feature in FEATURES}
    cache = parsed(load_optional_ddl()["phase3_fallback_cache"])
    view = parsed(load_optional_ddl()["ml_feature_store_base_mv"])

    assert names <= {column.name for column in cache.find_all(exp.ColumnDef)}
    assert names <= {selected.alias_or_name for selected in view.find(exp.Select).selects}


@pytest.mark.parametrize("table", OWN_TABLES)
def test_every_own_table_is_partitioned_by_date_and_clustered(table: str) -> None:
    tree = parsed(load_ddl()[table.partition(".")[2]])

    assert tree.find(exp.PartitionedByProperty).this.name == "analysis_date"
    assert tree.find(exp.ClusterProperty) is not None


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (QUALITY_TABLE, quality_row(a_publication())),
        (DEPENDENCY_TABLE, dependency_row(a_publication())),
        (LEDGER_TABLE, ledger_row(a_publication())),
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
    standing = read_ledger_row(ledger_row(publication))

    assert (standing.generation, standing.attempt) == publication.request.key.token
    assert standing.components == publication.report.components
    assert standing.dependency_rows == publication.stats.dependency_rows
    assert (standing.state, standing.committed_at) == (publication.report.earned_state, publication.committed_at)


def test_the_tables_as_declared_do_not_drift() -> None:
    assert [find_drift(table, columns) for table, columns in UPSTREAM.items()] == [()] * 9


def test_drift_names_the_table_and_the_column() -> None:
    table = "nba_precompute.player_composite_factors"
    columns = dict(UPSTREAM[table])
    del columns["usage_rate"]
    columns["pace"] = "STRING"

    assert find_drift(table, columns) == (
        "nba_precompute.player_composite_factors has no column usage_rate (FLOAT64)",
        "nba_precompute.player_composite_factors.pace is STRING, not FLOAT64",
    )
    assert find_drift(table, {}) == ("table nba_precompute.player_composite_factors does not exist",)


def test_a_whole_number_column_serves_as_a_float() -> None:
    table = "nba_precompute.player_daily_cache"

    assert find_drift(table, {**UPSTREAM[table], "season_avg_ppg": "INT64", "extra": "JSON"}) == ()
    assert find_drift(table, {**UPSTREAM[table], "player_id": "FLOAT64"}) == (
        f"{table}.player_id is FLOAT64, not INT64",
    )
