"""Generations on every warehouse: each can be read again and compared, and is deleted only when it may be."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from statemachine.model import Changes
from tests.support.generation_rows import publication_of, rows_select
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.builds.generations import compare_generations, find_generation, publications, read_short_diff, short_diffs
from worker.builds.vacuum import Vacuumed, vacuum
from worker.errors import Refused, Unavailable
from worker.features.diff import SourcePair
from worker.features.generations import Wanted
from worker.features.model import BuildKey, Statement
from worker.phase5 import (
    FeatureStoreNotReady,
    load_features_for_prediction,
    read_readiness,
    validate_ml_feature_store_ready,
)
from worker.pipelines.shipped import (
    GENERATIONS_TABLE,
    HISTORY_TABLE,
    LEDGER_TABLE,
    OUTPUT_COLUMNS,
    PUBLISHED_TABLE,
    SHIPPED,
)
from worker.ports import Warehouse

NIGHT = date(2024, 12, 15)
OTHER_NIGHT = date(2024, 12, 16)
FIRST_AT = datetime(2024, 12, 16, 4, 20, 1, 250000, tzinfo=UTC)
"""When generation 1 is published in these tests; each further one a quarter of an hour later."""
DAY = timedelta(days=1)

Cells = Mapping[int, Mapping[str, object]]
PLAIN: Cells = {1: {}, 2: {}, 3: {}}
LITERALS = {
    "INT64": "0",
    "FLOAT64": "CAST(1.5 AS FLOAT64)",
    "STRING": "'phase4'",
    "BOOL": "TRUE",
    "TIMESTAMP": "@built_at",
    "ARRAY<STRING>": "['none']",
}


def key(generation: int, attempt: int = 1, night: date = NIGHT) -> BuildKey:
    return BuildKey(analysis_date=night, generation=generation, attempt=attempt)


def at(generation: int) -> datetime:
    return FIRST_AT + timedelta(minutes=15) * (generation - 1)


def literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case str():
            return f"'{value}'"
        case float():
            return f"CAST({value!r} AS FLOAT64)"
        case list():
            return f"[{', '.join(literal(one) for one in value)}]"
    return str(value)


def select_of(build: BuildKey, players: Cells) -> Statement:
    """Rows of these players; cells that are not named are the same in every build."""
    rows = []
    for player_id, cells in players.items():
        given = {"player_id": player_id, "player_name": f"Player {player_id}", **cells}
        texts = {
            "analysis_date": "@analysis_date",
            "build_generation": "@build_generation",
            "build_id": "@build_id",
            "source_data_date": "@analysis_date",
            "left_out_reason": "CAST(NULL AS STRING)",
            **{name: literal(value) for name, value in given.items()},
        }
        columns = ", ".join(
            f"{texts.get(c.name, LITERALS.get(c.type))} AS {c.name}" for c in SHIPPED.generation_columns
        )
        rows.append(f"SELECT {columns}")
    values = {
        "analysis_date": build.analysis_date,
        "build_generation": build.generation,
        "build_id": build.build_id,
        "built_at": at(build.generation),
    }
    return Statement(name="features", sql=" UNION ALL ".join(rows), parameters=values)


def stage(warehouse: Warehouse, build: BuildKey, players: Cells = PLAIN) -> None:
    """Claim an attempt and store its rows."""
    warehouse.claim(build, at(build.generation) - timedelta(seconds=1), "worker-a")
    warehouse.stage(build, select_of(build, players))


def publish(warehouse: Warehouse, build: BuildKey, players: Cells = PLAIN) -> None:
    stage(warehouse, build, players)
    warehouse.publish(publication_of(build, kept=len(players), committed_at=at(build.generation)))


def builds_of(warehouse: Warehouse) -> list[str]:
    """The builds of which rows are there."""
    sql = "SELECT DISTINCT build_id FROM that ORDER BY build_id".replace("that", GENERATIONS_TABLE)
    return [row["build_id"] for row in warehouse.query(Statement(name="builds", sql=sql))]


def count(warehouse: Warehouse, table: str) -> int:
    [row] = warehouse.query(Statement(name="count", sql="SELECT COUNT(*) AS n FROM that".replace("that", table)))
    return int(row["n"])


# Reading what was published before


def test_what_was_read_before_an_upgrade_can_be_exported_again_byte_for_byte(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    publish(warehouse, key(1))
    exported = {}
    for ending in ("csv", "jsonl", "parquet"):
        exported[ending] = tmp_path / f"read_at_2350.{ending}"
        warehouse.export_features(NIGHT, find_generation(warehouse, NIGHT).build_id, str(exported[ending]))

    publish(warehouse, key(2), {1: {"pace": 99.0}, 2: {}})

    for ending, before in exported.items():
        again, upgraded = tmp_path / f"again.{ending}", tmp_path / f"upgraded.{ending}"
        chosen = find_generation(warehouse, NIGHT, Wanted(published_by=at(1)))
        assert warehouse.export_features(NIGHT, chosen.build_id, str(again)) == 3
        assert warehouse.export_features(NIGHT, find_generation(warehouse, NIGHT).build_id, str(upgraded)) == 2
        assert again.read_bytes() == before.read_bytes()
        assert upgraded.read_bytes() != before.read_bytes()


def test_phase_5_reads_a_generation_by_number_and_by_instant(warehouse: Warehouse) -> None:
    publish(warehouse, key(1))
    before = load_features_for_prediction(NIGHT, warehouse=warehouse, quality_score_min=0)
    publish(warehouse, key(2), {1: {"pace": 99.0}})

    by_number = load_features_for_prediction(NIGHT, warehouse=warehouse, quality_score_min=0, generation=1)
    by_instant = load_features_for_prediction(
        NIGHT, warehouse=warehouse, quality_score_min=0, published_by="2024-12-15T23:30:00-05:00"
    )

    assert by_number == by_instant == before
    assert list(by_number[0]) == [column.name for column in OUTPUT_COLUMNS]
    [now] = load_features_for_prediction(NIGHT, warehouse=warehouse, quality_score_min=0)
    assert (now["pace"], now["build_generation"]) == (99.0, 2)


def test_a_generation_is_published_from_its_own_instant_on(warehouse: Warehouse) -> None:
    for generation in (1, 2, 5):
        publish(warehouse, key(generation))
    just_before = at(2) - timedelta(microseconds=1)

    found = [find_generation(warehouse, NIGHT, Wanted(published_by=instant)) for instant in (just_before, at(2))]

    assert [one.generation for one in found] == [1, 2]
    assert find_generation(warehouse, NIGHT).generation == 5
    assert (found[1].state, found[1].committed_at, found[1].row_count) == ("degraded", at(2), 3)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            Wanted(generation=7),
            r"2024-12-15: generation 7 was never published; .*: 1 \(2024-12-16T04:20:01.25.*Z\), 3 \(",
        ),
        (Wanted(published_by=FIRST_AT - DAY), r"nothing was published by 2024-12-15T04:20:01.250000Z; .*: 1 \("),
    ],
)
def test_a_generation_that_is_not_there_names_those_that_are(warehouse: Warehouse, wanted: Wanted, said: str) -> None:
    publish(warehouse, key(1))
    stage(warehouse, key(2))
    publish(warehouse, key(3))

    with pytest.raises(Refused, match=said):
        find_generation(warehouse, NIGHT, wanted)


def test_an_attempt_that_was_not_published_is_no_generation(warehouse: Warehouse) -> None:
    stage(warehouse, key(1))

    with pytest.raises(
        Refused, match="nothing is published for 2024-12-15; see how it stands: mlfs explain 2024-12-15"
    ):
        find_generation(warehouse, NIGHT)
    assert validate_ml_feature_store_ready(NIGHT, warehouse=warehouse, generation=1) is False


def test_two_ledger_rows_of_one_date_give_each_publication_once(warehouse: Warehouse) -> None:
    publish(warehouse, key(1))
    double = "INSERT INTO that SELECT * FROM that".replace("that", LEDGER_TABLE)
    write(warehouse, double)
    publish(warehouse, key(2))

    assert [one.generation for one in publications(warehouse, NIGHT)] == [1, 2]


def write(warehouse: Warehouse, sql: str) -> None:
    """Change a table by hand."""
    if isinstance(warehouse, DuckDbWarehouse):
        with warehouse.writing("changing by hand") as cursor:
            cursor.execute(sql)
    else:
        warehouse.query(Statement(name="by_hand", sql=sql))


# Comparing


BEFORE: Cells = {
    1: {"pace": 90.0, "usage_rate": 0.2, "phase3_features": ["pace", "usage_rate"], "quality_score": 80.0},
    2: {"pace": 100.0, "usage_rate": 0.3},
    3: {},
    4: {"pace": 95.0, "missing_features": ["pace"]},
}
AFTER: Cells = {
    1: {"pace": 99.0, "usage_rate": 0.2, "quality_score": 100.0},
    2: {"pace": 97.5, "usage_rate": 0.3},
    4: {"pace": 95.0},
    5: {"quality_score": 77.0},
    6: {},
}


def test_a_diff_counts_rows_and_cells_by_column_and_source(warehouse: Warehouse) -> None:
    publish(warehouse, key(1), {**BEFORE, 4: {**BEFORE[4], "pace": None}})
    publish(warehouse, key(2), AFTER)

    found = compare_generations(warehouse, NIGHT)

    assert (found.before.generation, found.after.generation) == (1, 2)
    assert (found.rows_added, found.rows_removed, found.cells_changed) == (2, 1, 3)
    assert [(row.key, row.label, row.quality_score) for row in found.added] == [
        (5, "Player 5", 77.0),
        (6, "Player 6", 1.5),
    ]
    assert [(row.key, row.quality_score) for row in found.removed] == [(3, 1.5)]
    pace, usage_rate = found.columns
    assert (pace.column, pace.cells_changed) == ("pace", 3)
    assert set(pace.sources) == {
        SourcePair(before="phase3", after="phase4", cells=1, changed=1),
        SourcePair(before="phase4", after="phase4", cells=1, changed=1),
        SourcePair(before="missing", after="phase4", cells=1, changed=1),
    }
    # The value is the same and comes from Phase 4 now: a cell of another source, and no changed one.
    assert (usage_rate.column, usage_rate.cells_changed) == ("usage_rate", 0)
    assert [*usage_rate.sources] == [SourcePair(before="phase3", after="phase4", cells=1, changed=0)]
    assert [*usage_rate.largest] == []
    assert [(one.label, one.before, one.after) for one in pace.largest] == [
        ("Player 1", 90.0, 99.0),
        ("Player 2", 100.0, 97.5),
        ("Player 4", None, 95.0),
    ]
    assert (pace.largest[0].before_score, pace.largest[0].after_score) == (80.0, 100.0)


def test_a_generation_is_compared_with_an_older_one_where_the_history_tells_its_worth_twice(
    warehouse: Warehouse,
) -> None:
    publish(warehouse, key(1), BEFORE)
    publish(warehouse, key(2), AFTER)
    again = "INSERT INTO that SELECT * REPLACE (1.0 AS quality_score) FROM that".replace("that", HISTORY_TABLE)
    write(warehouse, again)

    found = compare_generations(warehouse, NIGHT)

    assert (found.before.generation, found.after.generation) == (1, 2)


def test_a_diff_the_other_way_round_swaps_both_sides(warehouse: Warehouse) -> None:
    publish(warehouse, key(1), BEFORE)
    publish(warehouse, key(2), AFTER)

    back = compare_generations(warehouse, NIGHT, (2, 1))

    assert (back.rows_added, back.rows_removed, back.before.generation) == (1, 2, 2)
    assert (back.columns[0].largest[0].before, back.columns[0].largest[0].after) == (99.0, 90.0)


def test_equal_generations_and_equal_gaps_differ_in_nothing(warehouse: Warehouse) -> None:
    gap: Cells = {1: {"pace": None, "missing_features": ["pace"]}, 2: {}}
    publish(warehouse, key(1), gap)
    publish(warehouse, key(2), gap)

    found = compare_generations(warehouse, NIGHT)

    assert (found.rows_added, found.rows_removed, found.cells_changed, list(found.columns)) == (0, 0, 0, [])


def test_rows_that_were_left_out_are_no_rows_of_a_generation(warehouse: Warehouse) -> None:
    for generation, kept in ((1, 1), (2, 1)):
        build = key(generation)
        warehouse.claim(build, at(generation), "worker-a")
        warehouse.stage(build, rows_select(build, kept=kept, left_out=2))
        warehouse.publish(publication_of(build, kept=kept, left_out=2))

    found = compare_generations(warehouse, NIGHT)

    assert (found.rows_added, found.rows_removed, found.cells_changed) == (0, 0, 0)


@pytest.mark.parametrize(
    ("pair", "said"),
    [(None, r"only generation 1 \(.*\) was published"), ((1, 2), "generation 2 was never published; .*: 1 ")],
)
def test_a_diff_needs_two_published_generations(warehouse: Warehouse, pair: tuple[int, int] | None, said: str) -> None:
    publish(warehouse, key(1))
    stage(warehouse, key(2))

    with pytest.raises(Refused, match=said):
        compare_generations(warehouse, NIGHT, pair)


def test_the_short_form_names_the_three_largest_changes_each_beside_its_column(warehouse: Warehouse) -> None:
    publish(warehouse, key(1), {n: {"pace": 100.0, "usage_rate": 0.2} for n in (1, 2, 3, 4)})
    after = {1: {"usage_rate": 0.4, "pace": 100.0}, 2: {"pace": 101.0, "usage_rate": 0.2}}
    after |= {n: {"pace": 100.0 + n, "usage_rate": 0.2} for n in (3, 4, 5)}
    publish(warehouse, key(2), after)

    changes = read_short_diff(warehouse, key(2))

    assert changes is not None
    assert (changes.from_generation, changes.rows_added, changes.rows_removed, changes.cells_changed) == (1, 1, 0, 4)
    # A change of 0.2 of a usage rate is larger than one of 4 of a pace.
    assert [(one.column, one.key, one.label) for one in changes.largest] == [
        ("usage_rate", 1, "Player 1"),
        ("pace", 4, "Player 4"),
        ("pace", 3, "Player 3"),
    ]
    assert (changes.largest[0].before, changes.largest[0].after) == (0.2, 0.4)


def test_the_first_publication_of_a_date_changes_nothing_that_could_be_told(warehouse: Warehouse) -> None:
    publish(warehouse, key(1, night=OTHER_NIGHT))
    publish(warehouse, key(3))

    assert read_short_diff(warehouse, key(3)) is None


def test_changes_that_cannot_be_read_are_not_told_and_fail_nothing(warehouse: Warehouse) -> None:
    publish(warehouse, key(1))
    publish(warehouse, key(2), {1: {"pace": 9.0}})
    assert short_diffs(warehouse)(key(2)) == Changes(**vars_of(read_short_diff(warehouse, key(2))))
    vacuum(warehouse, at(2) + 2 * DAY, keep_days=1)
    gone = short_diffs(warehouse)(key(2))

    write(warehouse, f"DROP TABLE {GENERATIONS_TABLE}")

    assert (gone, short_diffs(warehouse)(key(2))) == (None, None)


def vars_of(changes: Changes | None) -> dict[str, Any]:
    assert changes is not None
    return {name: getattr(changes, name) for name in Changes.__dataclass_fields__}


# Deleting


def test_rows_that_were_never_published_go_after_a_day_and_nothing_else(warehouse: Warehouse) -> None:
    publish(warehouse, key(1))
    for build in (key(2, 1), key(2, 2)):
        stage(warehouse, build)
    publish(warehouse, key(3), {1: {}})
    histories = count(warehouse, HISTORY_TABLE), count(warehouse, LEDGER_TABLE)

    assert vacuum(warehouse, at(3) + DAY, 0, dry_run=True) == Vacuumed(unpublished_rows=6, superseded_rows=None)
    assert builds_of(warehouse) == ["2024-12-15-g1-a1", "2024-12-15-g2-a1", "2024-12-15-g2-a2", "2024-12-15-g3-a1"]
    assert vacuum(warehouse, at(3) + DAY, 0).unpublished_rows == 6

    assert builds_of(warehouse) == ["2024-12-15-g1-a1", "2024-12-15-g3-a1"]
    assert (count(warehouse, PUBLISHED_TABLE), find_generation(warehouse, NIGHT).row_count) == (1, 1)
    assert (count(warehouse, HISTORY_TABLE), count(warehouse, LEDGER_TABLE)) == histories
    assert vacuum(warehouse, at(3) + DAY, 0) == Vacuumed(unpublished_rows=0, superseded_rows=None)


@pytest.mark.parametrize(("age", "rows"), [(DAY, 0), (DAY + timedelta(microseconds=1), 3)])
def test_rows_stay_for_a_whole_day(warehouse: Warehouse, age: timedelta, rows: int) -> None:
    stage(warehouse, key(1))
    warehouse.claim(key(2), at(2), "worker-b")

    assert vacuum(warehouse, at(1) + age, 0).unpublished_rows == rows


def test_a_claim_that_stands_keeps_its_rows_however_old_and_can_still_publish(warehouse: Warehouse) -> None:
    stage(warehouse, key(1, 1))
    warehouse.claim(key(1, 2), at(1) + timedelta(minutes=1), "worker-a")
    later = select_of(key(1, 2), PLAIN)
    values = {**later.parameters, "built_at": at(1) + timedelta(minutes=1)}
    warehouse.stage(key(1, 2), replace(later, parameters=values))

    assert vacuum(warehouse, at(1) + 400 * DAY, 1).unpublished_rows == 3

    assert builds_of(warehouse) == ["2024-12-15-g1-a2"]
    warehouse.publish(publication_of(key(1, 2), kept=3, committed_at=at(1) + 400 * DAY))
    assert count(warehouse, PUBLISHED_TABLE) == 3


def test_a_generation_that_was_closed_keeps_no_rows(warehouse: Warehouse) -> None:
    stage(warehouse, key(1, 3))
    warehouse.claim(key(1, 2**31 - 1), at(1) + timedelta(minutes=1), "closing")

    vacuum(warehouse, at(1) + 2 * DAY, 0)

    assert builds_of(warehouse) == []


def test_a_superseded_generation_stays_so_many_days_after_it_was_superseded(warehouse: Warehouse) -> None:
    for generation in (1, 2, 3):
        publish(warehouse, key(generation))

    kept = vacuum(warehouse, at(2) + 30 * DAY, 30, dry_run=True)
    assert vacuum(warehouse, at(2) + 30 * DAY, 30) == kept == Vacuumed(unpublished_rows=0, superseded_rows=0)
    # The first one was superseded a microsecond longer ago than thirty days, the second one was not.
    assert vacuum(warehouse, at(2) + 30 * DAY + timedelta(microseconds=1), 30).superseded_rows == 3

    assert builds_of(warehouse) == ["2024-12-15-g2-a1", "2024-12-15-g3-a1"]


def test_by_default_superseded_generations_stay(warehouse: Warehouse) -> None:
    publish(warehouse, key(1))
    publish(warehouse, key(2))

    assert vacuum(warehouse, at(2) + 4000 * DAY, 0).superseded_rows is None
    assert builds_of(warehouse) == ["2024-12-15-g1-a1", "2024-12-15-g2-a1"]


def test_the_published_generation_stays_however_old(warehouse: Warehouse) -> None:
    publish(warehouse, key(1))
    publish(warehouse, key(4, night=OTHER_NIGHT))
    double = "INSERT INTO that SELECT * FROM that".replace("that", LEDGER_TABLE)
    write(warehouse, double)

    assert vacuum(warehouse, at(4) + 4000 * DAY, 1) == Vacuumed(unpublished_rows=0, superseded_rows=0)
    assert count(warehouse, PUBLISHED_TABLE) == 6


def test_what_is_published_stays_where_the_list_of_publications_was_lost(warehouse: Warehouse) -> None:
    publish(warehouse, key(1))
    write(warehouse, "UPDATE that SET publications = [] WHERE TRUE".replace("that", LEDGER_TABLE))

    assert vacuum(warehouse, at(1) + 400 * DAY, 1) == Vacuumed(unpublished_rows=0, superseded_rows=0)
    assert count(warehouse, PUBLISHED_TABLE) == 3


def test_the_rows_of_a_date_stay_where_the_ledger_was_lost(warehouse: Warehouse) -> None:
    publish(warehouse, key(1))
    publish(warehouse, key(1, night=OTHER_NIGHT))
    write(warehouse, "DELETE FROM that WHERE analysis_date = '2024-12-15'".replace("that", LEDGER_TABLE))

    assert vacuum(warehouse, at(1) + 400 * DAY, 1) == Vacuumed(unpublished_rows=0, superseded_rows=0)
    assert builds_of(warehouse) == ["2024-12-15-g1-a1", "2024-12-16-g1-a1"]


def test_a_generation_that_was_cleaned_away_says_so_and_is_never_an_empty_one(warehouse: Warehouse) -> None:
    publish(warehouse, key(1))
    publish(warehouse, key(2))
    vacuum(warehouse, at(2) + 31 * DAY, 30)
    said = r"2024-12-15: the rows of generation 1 \(.*\) are gone: .*MLFS_KEEP_GENERATIONS.*generations with rows: 2 \("

    with pytest.raises(Refused, match=said):
        find_generation(warehouse, NIGHT, Wanted(generation=1))
    with pytest.raises(FeatureStoreNotReady, match=said.removeprefix("2024-12-15: ")):
        load_features_for_prediction(NIGHT, warehouse=warehouse, generation=1)
    with pytest.raises(Refused, match=said):
        compare_generations(warehouse, NIGHT)
    assert validate_ml_feature_store_ready(NIGHT, warehouse=warehouse, generation=1) is False


class CleanedMeanwhile:
    """A warehouse in which a vacuum runs right before the statement of one name."""

    def __init__(self, warehouse: Warehouse, name: str) -> None:
        self.warehouse = warehouse
        self.pipeline = warehouse.pipeline
        self._name = name

    def query(self, statement: Statement) -> Any:
        if statement.name == self._name:
            vacuum(self.warehouse, at(2) + 31 * DAY, 30)
        return self.warehouse.query(statement)


READERS: Mapping[str, Callable[[Any], object]] = {
    "phase5_features": lambda source: load_features_for_prediction(
        NIGHT, warehouse=source, quality_score_min=0, generation=1
    ),
    "phase5_ready": lambda source: read_readiness(NIGHT, warehouse=source, generation=1),
    "diff": lambda source: compare_generations(source, NIGHT),
}


@pytest.mark.parametrize("statement", READERS)
def test_a_generation_that_is_cleaned_away_while_it_is_read_is_not_told_as_empty(
    warehouse: Warehouse, statement: str
) -> None:
    publish(warehouse, key(1))
    publish(warehouse, key(2))
    cleaned = CleanedMeanwhile(warehouse, statement)

    with pytest.raises((Refused, FeatureStoreNotReady), match=r"the rows of generation 1 .* are gone"):
        READERS[statement](cleaned)


def test_workers_that_vacuum_at_once_delete_each_row_once(warehouse: Warehouse) -> None:
    for generation in range(1, 5):
        publish(warehouse, key(generation))
    deleted: list[int | None] = []
    away: list[Unavailable] = []

    def clean() -> None:
        try:
            deleted.append(vacuum(warehouse, at(4) + 31 * DAY, 30).superseded_rows)
        except Unavailable as exc:
            away.append(exc)

    threads = [Thread(target=clean) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (sum(filter(None, deleted)), builds_of(warehouse)) == (9, ["2024-12-15-g4-a1"])


def test_a_reader_beside_a_vacuum_gets_whole_generations_or_is_told_that_they_are_gone(warehouse: Warehouse) -> None:
    for generation in range(1, 7):
        publish(warehouse, key(generation))
    ended = Event()
    answers: list[int] = []
    told: list[str] = []

    def read() -> None:
        while not ended.is_set():
            try:
                answers.append(
                    len(load_features_for_prediction(NIGHT, warehouse=warehouse, quality_score_min=0, generation=1))
                )
            except FeatureStoreNotReady as exc:
                told.append(str(exc))
                return

    reader = Thread(target=read)
    reader.start()
    vacuum(warehouse, at(6) + 31 * DAY, 30)
    reader.join(timeout=30)
    ended.set()

    assert set(answers) <= {3}
    assert [("are gone" in text) for text in told] == [True]
