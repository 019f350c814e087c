"""What counts as usable, which share of a night wanted what is not, and how a table's source is written."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from statemachine.model import BuildMode
from tests.support.league import League
from worker.builds.judge import judge
from worker.features.input_findings import wanted_share
from worker.features.model import BlockCounts, BuildKey, BuildRequest, BuildStats, TableFacts, UpstreamFault
from worker.features.pipeline import Pipeline
from worker.features.quality import score
from worker.features.sql import Unusable, source
from worker.features.usable import Usable, compare, essential_columns, find_drift
from worker.pipelines.shipped import BLOCKS, PLAYER_GAMES, PROCESSORS, ROSTER, SCHEDULE, SHIPPED, UPSTREAM, features_of

CACHE, COMPOSITE = "nba_precompute.player_daily_cache", "nba_precompute.player_composite_factors"
NIGHT = date(2024, 12, 15)


def changed(table: str, **types: str) -> dict[str, str]:
    return {**UPSTREAM[table], **types}


def without(table: str, *names: str) -> dict[str, str]:
    return {name: kind for name, kind in UPSTREAM[table].items() if name not in names}


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("player_id", "NUMERIC"),
        ("player_id", "BIGNUMERIC"),
        ("processed_at", "DATETIME"),
        ("processed_at", "TIMESTAMP_NS"),
        ("season_avg_ppg", "INT64"),
        ("season_avg_ppg", "BIGNUMERIC"),
        ("season_avg_ppg", '"NULL"'),
    ],
)
def test_a_type_that_holds_the_same_values_is_cast_and_no_fault(column: str, kind: str) -> None:
    usable = compare(SHIPPED, {CACHE: changed(CACHE, **{column: kind})})

    assert (usable.faults, usable.casts) == ((), frozenset({(CACHE, column)}))


@pytest.mark.parametrize(
    ("column", "kind"), [("player_id", "FLOAT64"), ("player_id", "STRING"), ("analysis_date", "TIMESTAMP")]
)
def test_another_type_of_a_key_or_date_makes_the_table_unusable(column: str, kind: str) -> None:
    usable = compare(SHIPPED, {CACHE: changed(CACHE, **{column: kind})})

    assert usable.without == Unusable(tables=frozenset({CACHE}))


def test_names_are_compared_without_case() -> None:
    shouted = {name.upper(): kind for name, kind in UPSTREAM[CACHE].items()}

    assert compare(SHIPPED, {CACHE: shouted}) == Usable()


def test_a_renamed_column_is_named_and_a_column_of_the_catalogue_is_no_new_name() -> None:
    listed = SHIPPED.upstream_tables[CACHE].columns
    renamed = without(CACHE, "season_avg_ppg") | {"season_avg_rpg": "FLOAT64", "season_ppg": "FLOAT64"}

    [fault] = find_drift(CACHE, UPSTREAM[CACHE], renamed, listed)

    assert fault.text == f"{CACHE} has no column season_avg_ppg (FLOAT64); season_ppg is there"
    del renamed["season_ppg"]
    [fault] = find_drift(CACHE, UPSTREAM[CACHE], renamed, listed)
    assert fault.text == f"{CACHE} has no column season_avg_ppg (FLOAT64)"


def test_a_fault_of_the_table_stands_for_the_faults_of_its_columns() -> None:
    usable = compare(SHIPPED, {CACHE: without(CACHE, "season_avg_ppg", "player_id")})

    assert [fault.column for fault in usable.faults] == [""]
    assert "player_id" in usable.faults[0].text


def test_essential_are_the_columns_that_find_and_order_rows() -> None:
    assert essential_columns(SHIPPED, CACHE) == {"analysis_date", "player_id", "processed_at"}
    assert essential_columns(SHIPPED, PLAYER_GAMES) == {"game_date", "player_id", "processed_at"}
    assert essential_columns(SHIPPED, ROSTER) == {"snapshot_date", "player_id", "processed_at"}
    assert essential_columns(SHIPPED, SCHEDULE) == set(UPSTREAM[SCHEDULE])


def test_the_source_of_a_table_is_the_table_unless_a_column_is_replaced() -> None:
    columns = {"d": "DATE", "id": "INT64", "x": "FLOAT64"}
    casts = Unusable(columns=frozenset({("a.b", "x")}), casts=frozenset({("a.b", "id")}))

    assert source("a.b", columns) == "a.b"
    assert source("a.b", columns, casts) == (
        "(SELECT d, IF(SAFE_CAST(id AS INT64) = id, SAFE_CAST(id AS INT64), NULL) AS id, CAST(NULL AS FLOAT64) AS x"
        " FROM a.b)"
    )


def stats(**changes: object) -> BuildStats:
    cells = {block.name: len(features_of(block.name)) for block in BLOCKS}
    made = BuildStats(
        analysis_date=NIGHT,
        row_count=450,
        dependency_rows=dict.fromkeys(PROCESSORS, 450),
        blocks={
            name: BlockCounts(players=450, cells_each=each, phase4_cells=450 * each, phase3_cells=0)
            for name, each in cells.items()
        },
        required_nulls=0,
        newest_source_date=NIGHT,
        left_out_count=0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


FEATURES = len(SHIPPED.features)


@pytest.mark.parametrize(
    ("fault", "empty", "share"),
    [
        (UpstreamFault(table=CACHE, found="gone"), {}, 3 / FEATURES),
        (UpstreamFault(table=CACHE, column="season_avg_ppg", wanted="FLOAT64", found="absent"), {}, 1 / FEATURES),
        (UpstreamFault(table=PLAYER_GAMES, found="gone"), {}, 0.0),
        (UpstreamFault(table=PLAYER_GAMES, found="gone"), {"season_avg_ppg": 45, "pace": 450}, 0.1 / FEATURES),
        (UpstreamFault(table=SCHEDULE, found="gone"), {}, 1.0),
        (UpstreamFault(table=ROSTER, column="team_abbreviation", wanted="STRING", found="absent"), {}, 1.0),
        (UpstreamFault(table=ROSTER, column="player_name", wanted="STRING", found="absent"), {}, 0.0),
    ],
)
def test_the_measure_is_the_share_of_the_cells_that_wanted_it(
    fault: UpstreamFault, empty: Mapping[str, int], share: float
) -> None:
    assert wanted_share(fault, stats(left_empty=empty), SHIPPED) == pytest.approx(share)


def findings(counted: BuildStats, pipeline: Pipeline = SHIPPED) -> list[tuple[str, str, str]]:
    request = BuildRequest(
        key=BuildKey(analysis_date=NIGHT, generation=1, attempt=1),
        mode=BuildMode.NORMAL,
        trigger="join",
        phase3_lookback_days=30,
        as_of=None,
        started_at=datetime(2024, 12, 16, 4, 25, tzinfo=UTC),
        claimant="worker-a",
        claimed_rows=dict.fromkeys(PROCESSORS, 450),
    )
    judgement = judge(request, counted, score(counted, BuildMode.NORMAL, pipeline.quality), pipeline)
    return [(finding.severity.value, finding.check, finding.observed) for finding in judgement.findings]


@pytest.mark.parametrize(("cells", "severity"), [(0, "warning"), (98, "warning"), (99, "critical")])
def test_more_than_one_cell_of_a_hundred_makes_a_lost_table_critical(cells: int, severity: str) -> None:
    lost = UpstreamFault(table=PLAYER_GAMES, found="does not exist")

    [(found, check, _)] = findings(stats(unusable=(lost,), left_empty={"season_avg_ppg": cells}))

    assert (found, check) == (severity, "table_unusable")


def test_rows_behind_an_unusable_table_are_not_compared_with_the_claimed_rows() -> None:
    gone = UpstreamFault(table=CACHE, found="does not exist")
    rows = dict.fromkeys(PROCESSORS, 450) | {"player_daily_cache": 0}

    checks = {check for _, check, _ in findings(stats(unusable=(gone,), dependency_rows=rows))}

    assert "table_unusable" in checks
    assert "claimed_rows_differ" not in checks


def facts(**counts: int) -> TableFacts:
    whole = TableFacts(rows=450, keys=450, doubled_keys=0, undated_rows=0, old_rows=0, ahead_rows=0)
    return replace(whole, **counts)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, []),
        (
            {"doubled_keys": 4, "rows": 454},
            [("note", "duplicate_keys", "4 of 450 values of player_id have several rows")],
        ),
        (
            {"doubled_keys": 5, "rows": 455},
            [("warning", "duplicate_keys", "5 of 450 values of player_id have several rows")],
        ),
        ({"old_rows": 4}, []),
        (
            {"old_rows": 3, "undated_rows": 1, "ahead_rows": 1},
            [("warning", "stale_rows", "5 of 450 rows: 3 old, 1 without processed_at, 1 ahead")],
        ),
    ],
)
def test_facts_of_a_table_become_findings_by_share(
    counts: dict[str, int], expected: list[tuple[str, str, str]]
) -> None:
    assert findings(stats(table_facts={"player_daily_cache": facts(**counts)})) == expected


def test_generated_nights_have_no_finding_about_upstream() -> None:
    league = League()
    nights = league.query("SELECT DISTINCT analysis_date FROM nba_precompute.player_daily_cache")

    checks = {finding.check for night in nights for finding in league.build(night["analysis_date"]).report.findings}

    league.warehouse.close()
    assert checks.isdisjoint({"table_unusable", "column_unusable", "duplicate_keys", "stale_rows"})
