"""What every warehouse promises, whatever stands behind it."""

import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from statemachine.model import Finding, FindingSeverity, Retraction, State
from tests.support.generation_rows import COMMITTED_AT, publication_of, rows_select
from tests.support.generation_rows import STARTED_AT as CLAIMED_AT
from tests.support.nights import finding
from tests.support.profiles import profile_of
from worker.adapters.duckdb.dialect import open_error
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.errors import Fatal, Fenced, Refused, SchemaDrift, Unavailable
from worker.features.arrivals import Arrival, plan_arrivals, read_arrivals
from worker.features.model import BuildKey, Publication, Statement
from worker.features.profile import Profile
from worker.features.profile_reading import plan_nights, read_nights
from worker.features.records import execution_row, read_retraction, replay_row
from worker.features.sql import Unusable, source
from worker.pipelines.files import shipped_pipeline
from worker.pipelines.shipped import (
    DEPENDENCY_TABLE,
    EXECUTION_TABLE,
    GENERATIONS_TABLE,
    HISTORY_TABLE,
    LEDGER_TABLE,
    OUTPUT_COLUMNS,
    OWN_TABLES,
    PUBLISHED_TABLE,
    QUALITY_TABLE,
    REPLAY_TABLE,
    SHIPPED,
)
from worker.ports import Warehouse

PROFILE_TABLE = SHIPPED.tables.profile
NIGHT = date(2024, 12, 15)
OTHER_NIGHT = date(2024, 12, 16)


def key(generation: int = 1, attempt: int = 1, night: date = NIGHT) -> BuildKey:
    return BuildKey(analysis_date=night, generation=generation, attempt=attempt)


def staging_select(build: BuildKey, name: str = "Nikola Jokić") -> Statement:
    return rows_select(build, kept=1, left_out=1, name=name)


def publication(build: BuildKey) -> Publication:
    return publication_of(build, kept=1, left_out=1)


def published(
    warehouse: Warehouse, build: BuildKey, name: str = "Nikola Jokić", *, findings: tuple[Finding, ...] = ()
) -> Publication:
    result = publication(build)
    result = replace(result, report=replace(result.report, findings=findings))
    warehouse.claim(build, CLAIMED_AT, result.request.claimant)
    warehouse.stage(build, staging_select(build, name))
    warehouse.publish(result)
    return result


def write(warehouse: Warehouse, sql: str) -> None:
    """Change a table by hand."""
    if isinstance(warehouse, DuckDbWarehouse):
        with warehouse.writing("changing by hand") as cursor:
            cursor.execute(sql)
    else:
        warehouse.query(Statement(name="by_hand", sql=sql))


def names_of(warehouse: Warehouse, build: BuildKey) -> list[str]:
    """The players of the rows that an attempt has staged, those left out included."""
    sql = "SELECT player_name FROM that WHERE build_id = @build_id".replace("that", GENERATIONS_TABLE)
    rows = warehouse.query(Statement(name="names", sql=sql, parameters={"build_id": build.build_id}))
    return [row["player_name"] for row in rows]


def everything(warehouse: Warehouse, table: str) -> list[Mapping[str, Any]]:
    sql = "SELECT * FROM that_table ORDER BY analysis_date".replace("that_table", table)
    return list(warehouse.query(Statement(name="everything", sql=sql)))


def snapshot(warehouse: Warehouse) -> dict[str, list[Mapping[str, Any]]]:
    return {table: everything(warehouse, table) for table in OWN_TABLES}


def shown(warehouse: Warehouse) -> dict[str, list[Mapping[str, Any]]]:
    """All but the quality history, where an attempt that was refused may have a row."""
    return {table: rows for table, rows in snapshot(warehouse).items() if table != HISTORY_TABLE}


def test_creating_the_tables_twice_keeps_what_is_in_them(warehouse: Warehouse) -> None:
    published(warehouse, key())
    before = snapshot(warehouse)

    warehouse.ensure_tables()

    assert snapshot(warehouse) == before


def test_columns_are_told_in_bigquerys_types(warehouse: Warehouse) -> None:
    assert warehouse.columns(PUBLISHED_TABLE) == {column.name: column.type for column in OUTPUT_COLUMNS}


def test_a_table_that_does_not_exist_has_no_columns(warehouse: Warehouse) -> None:
    assert warehouse.columns("nba_raw.nothing") == {}


def test_columns_of_several_tables_are_told_at_once_and_a_missing_table_has_none(warehouse: Warehouse) -> None:
    found = warehouse.columns_of([LEDGER_TABLE, "nba_predictions.nothing", "gone.nothing"])

    assert {table: bool(columns) for table, columns in found.items()} == {
        LEDGER_TABLE: True,
        "nba_predictions.nothing": False,
        "gone.nothing": False,
    }


def test_a_column_of_another_type_is_read_in_the_type_of_the_catalogue(warehouse: Warehouse) -> None:
    """A number with a fraction is no key; a number of any width is a float."""
    table, columns = "nba_predictions.numbers", {"Player_ID": "INT64", "pace": "FLOAT64"}
    write(warehouse, f"CREATE TABLE {table} (player_id NUMERIC, pace NUMERIC)")
    write(warehouse, f"INSERT INTO {table} VALUES (3, 2.5), (2.5, 3), (NULL, NULL)")  # noqa: S608 -- our own
    read = source(table, columns, Unusable(casts=frozenset((table, name) for name in columns)))

    rows = warehouse.query(Statement(name="numbers", sql=f"SELECT * FROM {read} ORDER BY pace"))  # noqa: S608 -- our own

    assert [tuple(row.values()) for row in rows] == [(None, None), (3, 2.5), (None, 3.0)]


def test_parameters_keep_their_types(warehouse: Warehouse) -> None:
    values = {
        "a_date": NIGHT,
        "an_instant": COMMITTED_AT,
        "an_int": 3,
        "a_float": 2.5,
        "a_text": "Dončić's @name",
        "a_bool": True,
        "an_array": ["x", "y"],
    }
    sql = "SELECT " + ", ".join(f"@{name} AS {name}" for name in values)

    assert list(warehouse.query(Statement(name="echo", sql=sql, parameters=values))) == [values]


def test_staging_an_attempt_again_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.stage(key(), staging_select(key(), "before"))
    warehouse.stage(key(), staging_select(key(), "after"))

    assert names_of(warehouse, key()) == ["before", "before"]


def test_attempts_stage_apart(warehouse: Warehouse) -> None:
    attempts = (key(1, 1), key(1, 2), key(11, 2), key(1, 1, OTHER_NIGHT))
    for build in attempts:
        warehouse.stage(build, staging_select(build, build.build_id))

    assert [set(names_of(warehouse, build)) for build in attempts] == [{build.build_id} for build in attempts]


def test_nothing_staged_is_visible(warehouse: Warehouse) -> None:
    warehouse.stage(key(), staging_select(key()))

    assert everything(warehouse, PUBLISHED_TABLE) == []
    assert warehouse.read_ledger(NIGHT) is None


def test_a_publication_shows_its_rows_and_its_bookkeeping(warehouse: Warehouse) -> None:
    done = published(warehouse, key(3, 2))

    [row] = everything(warehouse, PUBLISHED_TABLE)
    assert list(row) == [column.name for column in OUTPUT_COLUMNS]
    assert (row["player_name"], row["build_id"]) == ("Nikola Jokić", "2024-12-15-g3-a2")
    assert (row["phase3_features"], row["processed_at"]) == (["pace", "usage_rate"], COMMITTED_AT)
    [quality] = everything(warehouse, QUALITY_TABLE)
    assert quality["quality_score"] == done.report.quality_score
    [dependencies] = everything(warehouse, DEPENDENCY_TABLE)
    assert (dependencies["team_defense_available"], dependencies["daily_cache_rows"]) == (True, 30)
    assert {quality["build_id"], dependencies["build_id"]} == {row["build_id"]}


def test_the_ledger_tells_what_was_committed(warehouse: Warehouse) -> None:
    done = published(warehouse, key(3, 2))

    standing = warehouse.read_ledger(NIGHT)

    assert standing is not None
    assert (standing.generation, standing.attempt, standing.build_id) == (3, 2, "2024-12-15-g3-a2")
    assert standing.state is done.report.earned_state
    assert standing.components == done.report.components
    assert standing.dependency_rows == done.stats.dependency_rows
    assert (standing.started_at, standing.committed_at) == (CLAIMED_AT, COMMITTED_AT)
    assert standing.committed_at.tzinfo is UTC


def test_findings_are_published_with_the_score_and_come_back_whole(warehouse: Warehouse) -> None:
    findings = (finding("player_daily_cache"), replace(finding(), observed='Dončić\'s "row" and ☃'))
    build = published(warehouse, key(), findings=findings)

    ledger = warehouse.read_ledger(NIGHT)

    assert ledger is not None
    assert ledger.findings == findings
    [row] = everything(warehouse, QUALITY_TABLE)
    assert [list(shown) for shown in json.loads(row["findings"])] == [[field.name for field in fields(Finding)]] * 2
    assert row["build_id"] == build.request.key.build_id
    published(warehouse, key(2))
    assert [row["findings"] for row in everything(warehouse, QUALITY_TABLE)] == ["[]"]


def test_a_warehouse_of_an_earlier_release_gets_the_columns_of_findings_and_limits(warehouse: Warehouse) -> None:
    """Its rows stay, and have no value in the new columns."""
    published(warehouse, key())
    write(warehouse, f"DROP VIEW {QUALITY_TABLE}")
    write(warehouse, f"ALTER TABLE {HISTORY_TABLE} DROP COLUMN findings")
    write(warehouse, f"ALTER TABLE {REPLAY_TABLE} DROP COLUMN as_of")
    old = warehouse.read_ledger(NIGHT)

    warehouse.ensure_tables()
    published(warehouse, key(night=OTHER_NIGHT), findings=(finding(),))

    assert old is not None
    assert old.findings is None
    assert [row["findings"] is None for row in everything(warehouse, QUALITY_TABLE)] == [True, False]
    assert warehouse.columns(REPLAY_TABLE)["as_of"] == "TIMESTAMP"


def test_publishing_the_same_token_again_changes_nothing(warehouse: Warehouse) -> None:
    done = published(warehouse, key(2, 2))
    before = snapshot(warehouse)

    warehouse.publish(replace(done, committed_at=COMMITTED_AT + timedelta(hours=1)))

    assert snapshot(warehouse) == before


@pytest.mark.parametrize(("generation", "attempt"), [(1, 1), (1, 9), (2, 1), (2, 3)])
def test_a_committed_generation_is_final(warehouse: Warehouse, generation: int, attempt: int) -> None:
    """One commit per generation: neither an older one nor another attempt of the same may publish or claim."""
    published(warehouse, key(2, 2))
    late = key(generation, attempt)
    warehouse.stage(late, staging_select(late, "late"))
    before = shown(warehouse)

    with pytest.raises(Fenced, match=f"{late.build_id} may not publish: 2024-12-15-g2-a2 already did"):
        warehouse.publish(publication(late))
    with pytest.raises(Fenced, match=f"{late.build_id} may not build: 2024-12-15-g2-a2 already did"):
        warehouse.claim(late, CLAIMED_AT, "worker-a")

    assert shown(warehouse) == before


@pytest.mark.parametrize(("generation", "attempt"), [(2, 1), (1, 9)])
def test_an_older_attempt_is_fenced_from_the_claim_on(warehouse: Warehouse, generation: int, attempt: int) -> None:
    """The paused worker wakes up after a newer attempt has begun, and before it has published."""
    stale = key(generation, attempt)
    warehouse.claim(stale, CLAIMED_AT, "worker-a")
    warehouse.stage(stale, staging_select(stale, "stale"))
    warehouse.claim(key(2, 2), CLAIMED_AT, "worker-a")
    before = shown(warehouse)

    with pytest.raises(Fenced, match=f"{stale.build_id} may not publish: generation 2, attempt 2 has the date now"):
        warehouse.publish(publication(stale))
    with pytest.raises(Fenced, match=f"{stale.build_id} may not build"):
        warehouse.claim(stale, CLAIMED_AT, "worker-a")

    assert shown(warehouse) == before


def test_a_claim_can_be_repeated(warehouse: Warehouse) -> None:
    warehouse.claim(key(2, 2), CLAIMED_AT, "worker-a")
    before = snapshot(warehouse)

    warehouse.claim(key(2, 2), COMMITTED_AT, "worker-a")

    assert snapshot(warehouse) == before


def test_of_two_claimants_of_one_token_the_first_has_it(warehouse: Warehouse) -> None:
    """A state store that lost the date hands out the same token again, while a build of its former life goes on."""
    warehouse.claim(key(1, 1), CLAIMED_AT, "former-life")
    warehouse.stage(key(1, 1), staging_select(key(1, 1), "former life"))

    with pytest.raises(Fenced, match="former-life has it, not worker-a"):
        warehouse.claim(key(1, 1), CLAIMED_AT, "worker-a")
    with pytest.raises(Fenced, match="former-life has it, not worker-a"):
        warehouse.publish(publication(key(1, 1)))

    assert everything(warehouse, PUBLISHED_TABLE) == []


def test_the_newest_claim_can_be_read(warehouse: Warehouse) -> None:
    before = warehouse.claimed_token(NIGHT)
    warehouse.claim(key(2, 3), CLAIMED_AT, "worker-a")
    claimed = warehouse.claimed_token(NIGHT)
    published(warehouse, key(2, 3))

    assert ((0, 0), (2, 3), (2, 3)) == (before, claimed, warehouse.claimed_token(NIGHT))


def test_a_claim_publishes_nothing(warehouse: Warehouse) -> None:
    warehouse.claim(key(1, 1), CLAIMED_AT, "worker-a")

    assert warehouse.read_ledger(NIGHT) is None
    assert everything(warehouse, PUBLISHED_TABLE) == []


def test_a_claim_leaves_what_is_published(warehouse: Warehouse) -> None:
    published(warehouse, key(1, 1))
    before = (warehouse.read_ledger(NIGHT), everything(warehouse, PUBLISHED_TABLE))

    warehouse.claim(key(2, 1), CLAIMED_AT, "worker-a")

    assert (warehouse.read_ledger(NIGHT), everything(warehouse, PUBLISHED_TABLE)) == before


def test_the_claimant_publishes(warehouse: Warehouse) -> None:
    warehouse.claim(key(1, 1), CLAIMED_AT, "worker-a")
    warehouse.claim(key(1, 2), CLAIMED_AT, "worker-a")

    published(warehouse, key(1, 2))

    standing = warehouse.read_ledger(NIGHT)
    assert standing is not None
    assert (standing.generation, standing.attempt) == (1, 2)


def test_a_newer_generation_is_what_consumers_read_and_the_one_before_is_kept(warehouse: Warehouse) -> None:
    published(warehouse, key(2, 2), "before")
    published(warehouse, key(3, 1), "after")

    views = (PUBLISHED_TABLE, QUALITY_TABLE, DEPENDENCY_TABLE)
    assert [[row["build_id"] for row in everything(warehouse, view)] for view in views] == [["2024-12-15-g3-a1"]] * 3
    assert everything(warehouse, PUBLISHED_TABLE)[0]["player_name"] == "after"
    assert names_of(warehouse, key(2, 2)) == ["before", "before"]
    assert len(everything(warehouse, HISTORY_TABLE)) == 2
    text = shipped_pipeline().text("publications")
    told = warehouse.query(Statement(name="publications", sql=text, parameters={"analysis_date": NIGHT}))
    assert [(row["generation"], row["build_id"], row["committed_at"]) for row in told] == [
        (2, "2024-12-15-g2-a2", COMMITTED_AT),
        (3, "2024-12-15-g3-a1", COMMITTED_AT),
    ]


def test_one_date_never_touches_another(warehouse: Warehouse) -> None:
    published(warehouse, key(5, 1), "first night")
    published(warehouse, key(1, 1, OTHER_NIGHT), "second night")

    assert [row["player_name"] for row in everything(warehouse, PUBLISHED_TABLE)] == ["first night", "second night"]
    assert [row["generation"] for row in everything(warehouse, LEDGER_TABLE)] == [5, 1]


@pytest.mark.parametrize("staged", [None, key(1, 1), key(2, 2)], ids=["none", "published", "another attempt"])
def test_a_publication_whose_rows_are_not_there_changes_nothing(warehouse: Warehouse, staged: BuildKey | None) -> None:
    published(warehouse, key(1, 1))
    warehouse.claim(key(2, 1), CLAIMED_AT, "worker-a")
    if staged is not None:
        warehouse.stage(staged, staging_select(staged))
    before = (warehouse.read_ledger(NIGHT), everything(warehouse, PUBLISHED_TABLE), everything(warehouse, LEDGER_TABLE))

    with pytest.raises(Fatal, match=f"{GENERATIONS_TABLE} does not hold the 1 rows"):
        warehouse.publish(publication(key(2, 1)))

    after = (warehouse.read_ledger(NIGHT), everything(warehouse, PUBLISHED_TABLE), everything(warehouse, LEDGER_TABLE))
    assert after == before


def test_who_has_not_claimed_the_date_publishes_nothing(warehouse: Warehouse) -> None:
    warehouse.stage(key(), staging_select(key()))

    with pytest.raises(Fenced, match="worker-a has not claimed it"):
        warehouse.publish(publication(key()))

    assert everything(warehouse, PUBLISHED_TABLE) == []


def test_two_ledger_rows_of_one_date_do_no_harm(warehouse: Warehouse) -> None:
    """Two workers that claim a new date at one instant may leave two rows (nobody knows; it must not matter)."""
    published(warehouse, key(1, 1), "first")
    double = "INSERT INTO that SELECT * FROM that".replace("that", LEDGER_TABLE)
    write(warehouse, double)

    assert [row["player_name"] for row in everything(warehouse, PUBLISHED_TABLE)] == ["first"]
    assert [len(everything(warehouse, view)) for view in (QUALITY_TABLE, DEPENDENCY_TABLE)] == [1, 1]
    published(warehouse, key(2, 1), "second")

    assert [row["player_name"] for row in everything(warehouse, PUBLISHED_TABLE)] == ["second"]
    standing = warehouse.read_ledger_since(NIGHT)
    assert [(row.generation, row.committed_at) for row in standing] == [(2, COMMITTED_AT)]
    assert (2, 1) == warehouse.claimed_token(NIGHT)


def test_a_ledger_row_without_an_instant_fences_like_any_other(warehouse: Warehouse) -> None:
    published(warehouse, key(2, 1))
    write(warehouse, f"UPDATE {LEDGER_TABLE} SET committed_at = NULL WHERE analysis_date = DATE '2024-12-15'")  # noqa: S608 -- from the catalogue

    with pytest.raises(Fenced, match="2024-12-15-g2-a1 already did"):
        warehouse.claim(key(1, 1), CLAIMED_AT, "worker-a")


def test_of_two_first_claims_in_rows_of_their_own_one_publishes(warehouse: Warehouse) -> None:
    warehouse.claim(key(1, 1), CLAIMED_AT, "worker-a")
    write(
        warehouse,
        "INSERT INTO that SELECT * REPLACE (2 AS claimed_attempt, 'worker-b' AS claimed_by) FROM that".replace(
            "that", LEDGER_TABLE
        ),
    )
    for build in (key(1, 1), key(1, 2)):
        warehouse.stage(build, staging_select(build, build.build_id))

    with pytest.raises(Fenced, match="generation 1, attempt 2 has the date now"):
        warehouse.publish(publication(key(1, 1)))
    warehouse.publish(publication_of(key(1, 2), kept=1, left_out=1, claimant="worker-b"))

    assert [row["player_name"] for row in everything(warehouse, PUBLISHED_TABLE)] == ["2024-12-15-g1-a2"]
    with pytest.raises(Fenced, match="2024-12-15-g1-a2 already did"):
        warehouse.publish(publication(key(1, 1)))


def test_an_attempt_that_did_not_publish_can_be_logged(warehouse: Warehouse) -> None:
    request = publication(key()).request
    warehouse.log_execution(
        execution_row(request, state=State.FAILED, completed_at=COMMITTED_AT, error="the gate refused")
    )

    [row] = everything(warehouse, EXECUTION_TABLE)
    assert (row["state"], row["error"], row["row_count"]) == ("failed", "the gate refused", None)


def test_a_replay_can_be_logged(warehouse: Warehouse) -> None:
    row = {
        "analysis_date": NIGHT,
        "requested_at": CLAIMED_AT,
        "requested_by": "on-call",
        "reason": "ratings restated",
        "mode": "normal",
        "request_id": "r1",
        "idempotency_key": None,
        "previous_state": "degraded",
        "previous_generation": 1,
        "decision": "replay",
        "processor": None,
        "run": None,
        "run_completed_at": None,
        "as_of": None,
    }
    warehouse.log_replay(row)

    assert everything(warehouse, REPLAY_TABLE) == [row]


def test_what_was_taken_back_comes_back_as_it_was_written(warehouse: Warehouse) -> None:
    retraction = Retraction(
        processor="player_daily_cache",
        identity="run:r1",
        completed_at=CLAIMED_AT - timedelta(minutes=9),
        actor="on-call",
        reason="it wrote last week's rows",
        at=CLAIMED_AT,
        request_id="r2",
    )
    row = replay_row(
        NIGHT,
        requested_at=retraction.at,
        requested_by=retraction.actor,
        reason=retraction.reason,
        mode="retract",
        previous_state="done",
        previous_generation=1,
        decision="retracted",
        request_id=retraction.request_id,
        retraction=retraction,
    )
    warehouse.log_replay(row)
    warehouse.log_replay({**row, "mode": "normal"})
    window = {"first_date": NIGHT, "last_date": NIGHT}

    found = warehouse.query(
        Statement(name="retractions", sql=shipped_pipeline().text("retractions"), parameters=window)
    )

    assert [retraction] == [read_retraction(one) for one in found]


def test_a_missing_table_is_drift(warehouse: Warehouse) -> None:
    with pytest.raises(SchemaDrift, match="nothing"):
        warehouse.query(Statement(name="lost", sql="SELECT * FROM nba_predictions.nothing"))


@pytest.mark.parametrize("sql", ["SELECT FROM WHERE", "SELECT 1 / (1 - 1) AS x", "SELECT ERROR('stop') AS x"])
def test_a_statement_that_cannot_work_is_fatal(warehouse: Warehouse, sql: str) -> None:
    with pytest.raises(Fatal):
        warehouse.query(Statement(name="broken", sql=sql))


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_features_are_exported(warehouse: Warehouse, tmp_path: Path, ending: str) -> None:
    published(warehouse, key())
    target = tmp_path / f"it's features.{ending}"

    assert warehouse.export_features(NIGHT, key().build_id, str(target)) == 1
    read = {"parquet": duckdb.read_parquet, "csv": duckdb.read_csv, "jsonl": duckdb.read_json}[ending]
    relation = read(str(target))
    assert relation.columns == [column.name for column in OUTPUT_COLUMNS]
    assert len(relation.fetchall()) == 1


def test_a_date_without_rows_exports_an_empty_file(warehouse: Warehouse, tmp_path: Path) -> None:
    assert warehouse.export_features(NIGHT, key().build_id, str(tmp_path / "features.parquet")) == 0


def test_an_unknown_format_is_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"\.parquet, \.csv, \.jsonl"):
        warehouse.export_features(NIGHT, key().build_id, str(tmp_path / "features.xlsx"))


def test_threads_publish_and_read_at_once(warehouse: Warehouse) -> None:
    """Eight dates published from eight threads while another one reads: nothing is lost, no reader sees half a date."""
    nights = [NIGHT + timedelta(days=day) for day in range(8)]
    ended = threading.Event()
    faults: list[BaseException] = []
    torn: list[object] = []

    def publish(night: date) -> None:
        try:
            for generation in range(1, 4):
                published(warehouse, key(generation, 1, night))
        except BaseException as error:  # noqa: BLE001 -- handed to the test
            faults.append(error)

    def read() -> None:
        published_and_ledger = """
            SELECT
              (SELECT COUNT(*) FROM nba_predictions.ml_feature_store_v2) AS f,
              (SELECT COUNT(*) FROM nba_predictions.ml_feature_store_v2_ledger WHERE generation > 0) AS l
        """
        counts = Statement(name="counts", sql=published_and_ledger)
        while not ended.is_set():
            [row] = warehouse.query(counts)
            if row["f"] != row["l"]:
                torn.append(row)

    writers = [threading.Thread(target=publish, args=(night,)) for night in nights]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    reader.join()

    assert (faults, torn) == ([], [])
    assert [row["generation"] for row in everything(warehouse, LEDGER_TABLE)] == [3] * 8


def test_of_many_claimants_of_one_date_the_newest_stands(warehouse: Warehouse) -> None:
    fenced: list[int] = []

    def publish(generation: int) -> None:
        try:
            warehouse.claim(key(generation), CLAIMED_AT, "worker-a")
            published(warehouse, key(generation), f"generation {generation}")
        except Fenced:
            fenced.append(generation)

    threads = [threading.Thread(target=publish, args=(generation,)) for generation in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    [row] = everything(warehouse, PUBLISHED_TABLE)
    assert row["player_name"] == "generation 8"
    text = shipped_pipeline().text("publications")
    told = warehouse.query(Statement(name="publications", sql=text, parameters={"analysis_date": NIGHT}))
    assert len(told) == 8 - len(fenced)


def test_a_file_keeps_what_was_published_and_what_was_staged(tmp_path: Path) -> None:
    path = str(tmp_path / "warehouse.duckdb")
    with closing(DuckDbWarehouse(path)) as first:
        first.ensure_tables()
        published(first, key(2, 1))
        first.claim(key(3, 1), CLAIMED_AT, "worker-a")
        first.stage(key(3, 1), staging_select(key(3, 1), "staged"))
        before = snapshot(first)

    with closing(DuckDbWarehouse(path)) as second:
        assert snapshot(second) == before
        second.publish(publication(key(3, 1)))
        assert [row["player_name"] for row in everything(second, PUBLISHED_TABLE)] == ["staged"]


def test_a_warehouse_that_stored_the_published_rows_themselves_is_refused(warehouse: Warehouse) -> None:
    write(warehouse, f"DROP VIEW {PUBLISHED_TABLE}")
    write(warehouse, f"CREATE TABLE {PUBLISHED_TABLE} (analysis_date DATE)")

    with pytest.raises(Fatal, match=rf"{PUBLISHED_TABLE}: a table.*earlier version.*Rename or drop"):
        warehouse.ensure_tables()


def test_a_file_that_is_no_database_is_fatal(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    path.write_text("not a database, but long enough to look like one " * 100)

    with pytest.raises(Fatal, match="is not a DuckDB database"):
        DuckDbWarehouse(str(path))


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def _overwrite_blocks(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(12_288)
        file.write(b"\x55" * (path.stat().st_size - 12_288))


def _overwrite_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(12)
        file.write((30).to_bytes(8, "little"))


def _break_log(path: Path) -> None:
    log = path.with_name(f"{path.name}.wal")
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("CREATE TABLE later AS SELECT range AS x FROM range(50000)")
    held = bytearray(log.read_bytes())
    held[len(held) // 2 : len(held) // 2 + 100] = b"\x55" * 100
    log.write_bytes(held)


@pytest.mark.parametrize("damage", [_cut, _overwrite_blocks, _overwrite_header, _break_log])
def test_a_damaged_file_is_a_lasting_fault_that_names_the_file_and_the_cure(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "warehouse.duckdb"
    with closing(DuckDbWarehouse(str(path))) as warehouse:
        warehouse.ensure_tables()
    damage(path)

    with pytest.raises(Fatal, match=rf"{path}.*(damaged|version).*mlfs load DIR, then mlfs recover"):
        DuckDbWarehouse(str(path)).ensure_tables()


def test_a_file_of_another_version_of_duckdb_is_a_lasting_fault() -> None:
    said = duckdb.IOException(
        "IO Error: Trying to read a database file with version number 30, but we can only read versions 64 to 67."
    )

    told = open_error(said, "/data/warehouse.duckdb")
    assert isinstance(told, Fatal)
    assert "another version of DuckDB" in str(told)


def test_a_memory_limit_that_is_too_small_names_the_setting() -> None:
    small = DuckDbWarehouse(":memory:", memory_limit="20MB")
    sql = "SELECT COUNT(DISTINCT x) AS n FROM UNNEST(GENERATE_ARRAY(1, 2000000)) AS x"

    with pytest.raises(Unavailable, match="raise MLFS_DUCKDB_MEMORY_LIMIT") as caught:
        small.query(Statement(name="large", sql=sql))
    small.close()
    assert "\n" not in str(caught.value)


def ledger_row(warehouse: Warehouse, **changes: object) -> None:
    """Add a second ledger row of each date: the row that is there, with some *changes*."""
    changed = ", ".join(f"{value!r} AS {name}" for name, value in changes.items())
    write(warehouse, f"INSERT INTO {LEDGER_TABLE} SELECT * REPLACE ({changed}) FROM {LEDGER_TABLE}")  # noqa: S608 -- our own names


def ledger(warehouse: Warehouse) -> list[tuple[object, ...]]:
    """The claim and the publication of each ledger row."""
    names = ("claimed_generation", "claimed_attempt", "claimed_by", "generation", "build_id")
    return sorted((tuple(row[name] for name in names) for row in everything(warehouse, LEDGER_TABLE)), key=str)


def staged_by(warehouse: Warehouse, build: BuildKey, claimant: str = "worker-a") -> Publication:
    """Claim the date and stage the rows; return the publication that may follow."""
    warehouse.claim(build, CLAIMED_AT, claimant)
    warehouse.stage(build, staging_select(build))
    return publication_of(build, kept=1, left_out=1, claimant=claimant)


def test_a_publication_loses_to_a_newer_claim_in_a_row_of_its_own(warehouse: Warehouse) -> None:
    late = staged_by(warehouse, key(1, 1))
    ledger_row(warehouse, claimed_generation=2, claimed_by="worker-b")
    before = ledger(warehouse)

    with pytest.raises(Fenced, match="generation 2, attempt 1 has the date now"):
        warehouse.publish(late)

    assert ledger(warehouse) == before
    assert everything(warehouse, PUBLISHED_TABLE) == []


@pytest.mark.parametrize("generation", [1, 2])
def test_a_generation_that_is_published_in_another_row_is_not_published_again(
    warehouse: Warehouse, generation: int
) -> None:
    """One row holds the claim, the other a publication as new or newer; the claims alone would let it pass."""
    late = staged_by(warehouse, key(1, 1))
    ledger_row(
        warehouse, claimed_attempt=0, generation=generation, build_id="another build", committed_at=str(COMMITTED_AT)
    )
    before = ledger(warehouse)

    with pytest.raises(Fenced, match="another build already did"):
        warehouse.publish(late)

    assert ledger(warehouse) == before


def test_the_claim_of_another_claimant_publishes_nothing(warehouse: Warehouse) -> None:
    staged_by(warehouse, key(1, 1), "worker-b")
    before = ledger(warehouse)

    with pytest.raises(Fenced, match="worker-b has it, not worker-a"):
        warehouse.publish(publication(key(1, 1)))

    assert ledger(warehouse) == before
    assert everything(warehouse, PUBLISHED_TABLE) == []


def test_only_the_ledger_row_with_the_claim_is_pointed_at_the_rows(warehouse: Warehouse) -> None:
    newest = staged_by(warehouse, key(1, 2))
    ledger_row(warehouse, claimed_attempt=1)

    warehouse.publish(newest)

    assert ledger(warehouse) == [(1, 1, "worker-a", 0, None), (1, 2, "worker-a", 1, "2024-12-15-g1-a2")]


@pytest.mark.parametrize("older", [key(1, 9), key(2, 1)])
def test_an_older_claim_changes_no_ledger_row(warehouse: Warehouse, older: BuildKey) -> None:
    warehouse.claim(key(2, 2), CLAIMED_AT, "worker-a")
    before = ledger(warehouse)

    with pytest.raises(Fenced, match="generation 2, attempt 2 has the date now"):
        warehouse.claim(older, CLAIMED_AT, "worker-b")

    assert ledger(warehouse) == before


def test_a_build_whose_worth_was_written_twice_is_told_once(warehouse: Warehouse) -> None:
    published(warehouse, key(1, 1))
    write(warehouse, "INSERT INTO that SELECT * FROM that".replace("that", HISTORY_TABLE))

    assert [len(everything(warehouse, view)) for view in (QUALITY_TABLE, DEPENDENCY_TABLE)] == [1, 1]


def test_the_publications_of_a_date_are_listed_oldest_first(warehouse: Warehouse) -> None:
    for generation in range(1, 9):
        published(warehouse, key(generation, 1))
    text = shipped_pipeline().text("publications")

    told = warehouse.query(Statement(name="publications", sql=text, parameters={"analysis_date": NIGHT}))

    assert [row["generation"] for row in told] == list(range(1, 9))


# The statistics of the features


def profiled(build: BuildKey, day: date | None = None) -> Publication:
    """A publication with statistics of every kind of feature; some figures are not known."""
    made = publication(build)
    features = {
        "usage_rate": profile_of("usage_rate", compared_date=day),
        "pace": profile_of("pace", correlation=None, mean=None),
    }
    return replace(made, stats=replace(made.stats, profile=Profile(features=features)))


def publish_profiled(warehouse: Warehouse, build: BuildKey) -> Publication:
    result = profiled(build)
    warehouse.claim(build, CLAIMED_AT, result.request.claimant)
    warehouse.stage(build, staging_select(build))
    warehouse.publish(result)
    return result


def test_the_statistics_of_a_publication_are_read_again(warehouse: Warehouse) -> None:
    stored = publish_profiled(warehouse, key())
    warehouse.publish(stored)

    [night] = read_nights(warehouse.query(plan_nights(OTHER_NIGHT, warehouse.pipeline)))

    assert (night.analysis_date, night.active_count) == (NIGHT, 2)
    assert night.features == stored.stats.profile.features
    assert len(everything(warehouse, PROFILE_TABLE)) == 2


def test_only_published_nights_before_are_compared_with(warehouse: Warehouse) -> None:
    publish_profiled(warehouse, key())
    publish_profiled(warehouse, key(2))
    warehouse.claim(key(night=OTHER_NIGHT), CLAIMED_AT, "worker-a")
    warehouse.stage(key(night=OTHER_NIGHT), staging_select(key(night=OTHER_NIGHT)))

    nights = {
        day: read_nights(warehouse.query(plan_nights(day, warehouse.pipeline)))
        for day in (NIGHT, OTHER_NIGHT, OTHER_NIGHT + timedelta(days=1), NIGHT + timedelta(days=57))
    }

    assert [len(found) for found in nights.values()] == [0, 1, 1, 0]
    assert {len(found.features) for found in nights[OTHER_NIGHT]} == {2}


def test_a_night_with_a_critical_finding_is_compared_with_by_none(warehouse: Warehouse) -> None:
    for day, severity in ((NIGHT, FindingSeverity.CRITICAL), (OTHER_NIGHT, FindingSeverity.WARNING)):
        made = profiled(key(night=day))
        finding = Finding(
            check="constant",
            severity=severity,
            subject="pace",
            observed="0",
            expected="1",
            next_step="look",
        )
        warehouse.claim(key(night=day), CLAIMED_AT, made.request.claimant)
        warehouse.stage(key(night=day), staging_select(key(night=day)))
        warehouse.publish(replace(made, report=replace(made.report, findings=(finding,))))

    nights = read_nights(warehouse.query(plan_nights(OTHER_NIGHT + timedelta(days=1), warehouse.pipeline)))

    assert [night.analysis_date for night in nights] == [OTHER_NIGHT]


def test_several_statements_are_answered_in_their_order(warehouse: Warehouse) -> None:
    asked = [Statement(name="number", sql="SELECT @n AS n", parameters={"n": n}) for n in range(4)]

    answers = warehouse.query_all(asked)

    assert answers == [[{"n": 0}], [{"n": 1}], [{"n": 2}], [{"n": 3}]]
    assert list(warehouse.query_all([])) == []


def test_a_statement_that_fails_beside_others_is_its_own_error(warehouse: Warehouse) -> None:
    sound = Statement(name="sound", sql="SELECT 1 AS n")
    broken = Statement(name="broken", sql="SELECT no_such_column AS n FROM that".replace("that", PROFILE_TABLE))

    answers = warehouse.query_all([broken, sound])

    assert answers[1] == [{"n": 1}]
    assert isinstance(answers[0], Fatal)


# --- arrivals --------------------------------------------------------------------------------------------------------


def arrival(run: str = "run:1", night: date = NIGHT, **fields: Any) -> Arrival:
    known = {"rows_claimed": 449, "rows_found": 0, "caused": "join"}
    return Arrival(
        analysis_date=night,
        processor="player_daily_cache",
        run=run,
        status="success",
        completed_at=CLAIMED_AT - timedelta(minutes=9),
        received_at=CLAIMED_AT,
        lateness_s=-61.5,
        **known | fields,
    )


def arrivals(warehouse: Warehouse) -> list[Arrival]:
    return list(read_arrivals(warehouse.query(plan_arrivals(NIGHT, OTHER_NIGHT, SHIPPED))))


def test_arrivals_come_back_as_they_were_recorded(warehouse: Warehouse) -> None:
    bare = arrival("é", OTHER_NIGHT, rows_claimed=None, rows_found=None, caused=None)
    outside = arrival(night=OTHER_NIGHT + timedelta(days=1))

    warehouse.record_arrivals([arrival(), bare, outside])

    assert [arrival(), bare] == arrivals(warehouse)


def test_arrivals_without_any_optional_figure_are_recorded(warehouse: Warehouse) -> None:
    bare = arrival(rows_claimed=None, rows_found=None, caused=None)

    warehouse.record_arrivals([bare])

    assert [bare] == arrivals(warehouse)


def test_an_arrival_recorded_again_changes_nothing_and_a_new_one_beside_it_is_added(warehouse: Warehouse) -> None:
    failed = replace(arrival(), status="failed")
    other = arrival(night=OTHER_NIGHT)

    warehouse.record_arrivals([arrival()])
    for _ in range(2):
        warehouse.record_arrivals([arrival(caused="replay"), failed, other])

    found = arrivals(warehouse)
    assert ({arrival(), failed}, [other]) == ({*found[:2]}, found[2:])
    assert 3 == len(everything(warehouse, SHIPPED.tables.arrivals))


def test_an_arrival_that_two_workers_appended_is_read_once(warehouse: Warehouse) -> None:
    table = SHIPPED.tables.arrivals
    warehouse.record_arrivals([arrival(), arrival(night=OTHER_NIGHT)])
    warehouse.query(Statement(name="twice", sql=f"INSERT INTO {table} SELECT * FROM {table}"))  # noqa: S608

    assert [arrival(), arrival(night=OTHER_NIGHT)] == arrivals(warehouse)
