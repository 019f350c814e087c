"""A whole night on BigQuery: the real builder and engine, Google's real client, the peer on this machine."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ops.cli import app
from statemachine.model import BuildMode, State
from tests.support.bigquery import (
    CLAIMANT,
    LIMITS,
    Site,
    attempt,
    hurried,
    open_warehouse,
    publication,
    staging_select,
    unpruned,
)
from tests.support.bigquery_peer.faults import Fault
from tests.support.bigquery_peer.server import BigQueryServer
from tests.support.nights import NIGHT, PROCESSORS, success
from tests.support.rigs import Rig
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.builds.builder import Builder
from worker.builds.steps import estimate_build
from worker.builds.upstream import probe
from worker.errors import Fatal, Refused
from worker.features.model import BuildKey, BuildRequest, Statement
from worker.features.plan import plan_of, plan_probe
from worker.lineage.row import trace_row
from worker.local.parquet_folder import load_parquet_folder
from worker.local.sample.data import write_sample_data
from worker.phase5 import load_features_for_prediction
from worker.pipelines.shipped import OWN_TABLES, PUBLISHED_TABLE, QUALITY_TABLE, SHIPPED, UPSTREAM
from worker.ports import Warehouse

Mlfs = Callable[..., tuple[int, Any]]

NOW = datetime(2024, 12, 16, 4, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("league")
    write_sample_data(folder, analysis_date=NIGHT)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[BigQueryServer]:
    with BigQueryServer(hold_s=0.05) as running:
        yield running


@pytest.fixture
def site(server: BigQueryServer, data: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    name = request.node.name.replace("_", "-")[:60].lower()
    server.project(name).engine.load(data)
    opened = Site(server, name, open_warehouse(server, name, LIMITS))
    opened.warehouse.ensure_tables()
    yield opened
    opened.warehouse.close()


def play(warehouse: Warehouse) -> State:
    """Four successes, a claim, a build, a report."""
    rig = Rig()
    for name in PROCESSORS:
        rig.engine.apply(NIGHT, success(name))
    builder = Builder(
        engine=rig.engine,
        warehouse=warehouse,
        clock=rig.clock,
        worker="worker-a",
        lease_s=60.0,
        phase3_lookback_days=30,
        observer=rig.notes,
        stopwatch=lambda: 0.0,
    )
    builder.run_one(NIGHT)
    record = rig.store.load(NIGHT)
    assert record is not None
    return record.state


def rows(warehouse: Warehouse, table: str) -> list[Mapping[str, Any]]:
    sql = "SELECT * FROM that ORDER BY 1, 2".replace("that", table)
    return [dict(row) for row in warehouse.query(Statement(name="all", sql=sql))]


def embedded(data: Path) -> DuckDbWarehouse:
    warehouse = DuckDbWarehouse(":memory:")
    load_parquet_folder(warehouse, data)
    warehouse.ensure_tables()
    return warehouse


def test_a_night_on_bigquery_publishes_what_the_embedded_warehouse_publishes(site: Site, data: Path) -> None:
    here = embedded(data)

    assert (play(site.warehouse), play(here)) == (State.DONE, State.DONE)

    for table in (PUBLISHED_TABLE, QUALITY_TABLE):
        assert rows(site.warehouse, table) == rows(here, table)
    assert len(rows(here, PUBLISHED_TABLE)) > 200
    here.close()


def test_every_statement_of_a_night_prunes_by_partition(site: Site, tmp_path: Path) -> None:
    """What the worker sent, as BigQuery's own job history has it: no table is read or changed whole."""
    sent = []
    jobs = site.project.jobs
    insert = jobs.insert

    def note(configuration: dict[str, Any], job_id: str | None) -> dict[str, Any]:
        sent.append(configuration["query"]["query"])
        return insert(configuration, job_id)

    jobs.insert = note  # type: ignore[method-assign]
    play(site.warehouse)
    site.warehouse.read_ledger_since(NIGHT)
    site.warehouse.export_features(NIGHT, f"{NIGHT}-g1-a1", str(tmp_path / "features.csv"))
    probe(site.warehouse, NIGHT)

    partitions = site.project.engine.partitions
    assert {*OWN_TABLES, *UPSTREAM} <= {table for table, column in partitions.items() if column}
    assert {"INSERT", "MERGE", "SELECT", "UPDATE"} <= {word for sql in sent for word in sql.split() if word.isupper()}
    assert [(sql[:80], found) for sql in sent if (found := unpruned(sql, partitions))] == []


def test_no_job_of_a_night_or_of_lineage_has_a_parameter_without_a_value(site: Site) -> None:
    """A player without a game has no opponent to look up, and a night has no instant to look back from."""
    sent: list[dict[str, Any]] = []
    insert = site.project.jobs.insert

    def note(configuration: dict[str, Any], job_id: str | None) -> dict[str, Any]:
        sent.extend(configuration["query"].get("queryParameters", ()))
        return insert(configuration, job_id)

    site.project.jobs.insert = note  # type: ignore[method-assign]
    play(site.warehouse)
    idle = next(row for row in rows(site.warehouse, PUBLISHED_TABLE) if not row["has_game"])
    trace_row(site.warehouse, NIGHT, idle["player_id"])

    assert idle["opponent_abbreviation"] is None
    assert [one for one in sent if (one.get("parameterValue") or {}).get("value", "array") is None] == []
    assert sent


def test_an_entity_that_is_not_given_is_looked_up_nowhere(data: Path) -> None:
    here = embedded(data)
    play(here)
    player = next(row for row in rows(here, PUBLISHED_TABLE) if row["has_game"])

    def found(opponent: str | None) -> bool:
        values = {name: player[name] for name in ("player_id", "team_abbreviation")} | {
            "analysis_date": NIGHT,
            "opponent_abbreviation": opponent,
            "lookback_start": NIGHT - timedelta(days=30),
            "previous_date": NIGHT - timedelta(days=1),
            "as_of": None,
            "built_at": NOW,
        }
        return any(row["team_defense_found"] for row in here.query(plan_of("lineage_sources", values, SHIPPED)))

    assert (found(player["opponent_abbreviation"]), found(None)) == (True, False)
    here.close()


def test_a_row_without_an_instant_counts_unless_an_instant_is_asked_for(data: Path) -> None:
    here, table = embedded(data), "nba_precompute.player_composite_factors"
    with here.writing("forgetting instants") as cursor:
        cursor.execute(f"UPDATE {table} SET processed_at = NULL")  # noqa: S608 -- this file's own name

    def counted(as_of: datetime | None) -> int:
        found = here.query(plan_probe(NIGHT, SHIPPED, as_of=as_of))
        return next(row["row_count"] for row in found if row["processor"] == "player_composite_factors")

    assert counted(None) > 0
    assert counted(NOW) == 0
    here.close()


WHOLE_TABLE = {"doubled_claims", "vacuum_unpublished_rows", "vacuum_superseded_rows"}
"""Once a day, over all dates: a date that was replayed years later is cleaned, too."""


@pytest.mark.parametrize("name", sorted({*SHIPPED.statements} - WHOLE_TABLE))
def test_every_shipped_statement_prunes_by_partition(name: str) -> None:
    columns = ("analysis_date", "game_date", "snapshot_date")
    partitions = {table: next(c for c in columns if c in types) for table, types in UPSTREAM.items()}
    partitions |= dict.fromkeys(OWN_TABLES, "analysis_date")

    assert unpruned(SHIPPED.text(name), partitions) == []


def test_lineage_and_phase5_read_bigquery_as_they_read_the_embedded_warehouse(site: Site, data: Path) -> None:
    here = embedded(data)
    play(site.warehouse)
    play(here)
    player = rows(here, PUBLISHED_TABLE)[0]["player_id"]

    assert trace_row(site.warehouse, NIGHT, player) == trace_row(here, NIGHT, player)
    assert load_features_for_prediction(NIGHT, warehouse=site.warehouse) == load_features_for_prediction(
        NIGHT, warehouse=here
    )
    here.close()


@pytest.mark.parametrize(
    "planted",
    [
        "SELECT quality_score FROM nba_predictions.ml_feature_store_v2",
        "SELECT quality_score FROM nba_predictions.ml_feature_store_v2 WHERE EXTRACT(YEAR FROM analysis_date) = 2024",
        "SELECT quality_score FROM nba_predictions.ml_feature_store_v2 WHERE analysis_date = @d OR player_id = 1",
        "SELECT a.x FROM b.a JOIN nba_predictions.ml_feature_store_v2 AS f ON f.y = a.y WHERE a.analysis_date = @d",
        "DELETE FROM nba_predictions.ml_feature_store_v2 WHERE player_id = 1",
        "MERGE nba_predictions.ml_feature_store_v2 AS f USING (SELECT 1 AS p) AS w ON f.player_id = w.p "
        "WHEN MATCHED THEN UPDATE SET player_name = 'x'",
        "UPDATE nba_predictions.ml_feature_store_v2 SET player_name = 'x' WHERE player_id = 1",
        "INSERT INTO a.b (c) SELECT player_id FROM nba_predictions.ml_feature_store_v2",
    ],
)
def test_a_planted_statement_that_reads_everything_is_found(planted: str) -> None:
    assert unpruned(planted, {PUBLISHED_TABLE: "analysis_date"}) == [PUBLISHED_TABLE]


@pytest.fixture
def mlfs(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mlfs:
    """Give `mlfs(*arguments)`: the command on that project of the peer, its JSON and its exit code."""
    monkeypatch.setenv("MLFS_WAREHOUSE", f"bigquery://{site.name}?location=US")
    monkeypatch.setenv("MLFS_BIGQUERY_ENDPOINT", site.server.address)
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))

    def run(*arguments: str) -> tuple[int, Any]:
        done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        return done.exit_code, json.loads(done.stdout)

    return run


def test_a_dry_run_says_what_each_statement_reads_and_publishes_nothing(site: Site, mlfs: Mlfs) -> None:
    code, answer = mlfs("build", NIGHT.isoformat(), "--dry-run")

    plan = {row["statement"]: row for row in answer["plan"]}
    assert (code, answer["state"], answer["published"]) == (0, "done", False)
    assert list(plan) == ["dependency_rows", "features"]
    assert set(plan["features"]["reads"]) == {*UPSTREAM, *SHIPPED.references}
    assert 0 < plan["dependency_rows"]["bytes_processed"] < plan["features"]["bytes_processed"]
    # Nine tables, ten megabytes at least for each.
    assert plan["features"]["usd"] == round(100 / 1024**2 * 6.25, 6)
    assert site.warehouse.read_ledger(NIGHT) is None


def test_an_estimate_counts_only_the_partitions_that_are_read(site: Site) -> None:
    table = "nba_analytics.player_game_summary"
    whole, day = (
        f"SELECT points_projection FROM {table}",  # noqa: S608 -- this file's own name
        f"SELECT points_projection FROM {table} WHERE game_date = @day",  # noqa: S608 -- this file's own name
    )
    [counted] = site.warehouse.query(
        Statement(
            name="counted",
            sql=f"SELECT COUNT(points_projection) AS whole, COUNTIF(game_date = @day AND points_projection IS NOT NULL) AS n, COUNTIF(game_date = @day) AS days FROM {table}",  # noqa: S608, E501 -- this file's own name
            parameters={"day": NIGHT - timedelta(days=1)},
        )
    )

    estimated = site.warehouse.estimate(Statement(name="whole", sql=whole))
    pruned = site.warehouse.estimate(Statement(name="day", sql=day, parameters={"day": NIGHT - timedelta(days=1)}))

    assert estimated.bytes_processed == 8 * counted["whole"]
    assert pruned.bytes_processed == 8 * (counted["n"] + counted["days"])


def test_costs_are_told_by_date_and_step(mlfs: Mlfs) -> None:
    built, _ = mlfs("build", NIGHT.isoformat())

    code, answer = mlfs("cost", "--days", "1")

    steps = {row["step"]: row for row in answer["steps"] if row["analysis_date"] == NIGHT.isoformat()}
    assert (built, code, answer["note"]) == (0, 0, "")
    assert {"claim", "features", "build_stats", "history", "publish", "dependency_rows"} <= set(steps)
    # Nine upstream tables, the team list, and the one that may hold the rows of this build already.
    assert steps["features"]["bytes_billed"] == 11 * 10 * 1024 * 1024
    assert steps["features"]["usd"] == round(110 / 1024**2 * 6.25, 6)
    assert not any(day["optimize"] for day in answer["days"])
    assert sum(day["query_count"] for day in answer["days"]) == sum(row["query_count"] for row in answer["steps"])


def test_costs_that_the_account_may_not_see_name_the_role_that_it_needs(site: Site, mlfs: Mlfs) -> None:
    site.project.withheld = frozenset({"bigquery.jobs.listAll"})

    with pytest.raises(Fatal, match=r"bigquery\.jobs\.listAll on the project: grant .+ mlfsCostReader"):
        mlfs("cost")


def test_a_date_takes_six_jobs_from_claim_to_publication(site: Site) -> None:
    """At Google each job takes a second or more, one after the other."""
    before = len(site.project.jobs.ran)

    assert play(site.warehouse) is State.DONE

    steps = [re.sub(r"-(?:[0-9a-f]{10}|[0-9a-f]{32})$", "", job_id) for job_id in site.project.jobs.ran[before:]]
    stem = f"mlfs-{NIGHT}-g1-a1"
    to_publication = steps[steps.index(f"{stem}-claim") : steps.index(f"{stem}-publish") + 1]
    beside = [step for step in to_publication if "profile" in step]
    assert len(beside) == 3, "two statements run beside the counts, and an insert beside the history"
    assert [step for step in to_publication if step not in beside] == [
        f"{stem}-claim",
        f"mlfs-{NIGHT}-dependency_rows",
        f"{stem}-features",
        f"{stem}-build_stats",
        f"{stem}-history",
        f"{stem}-publish",
    ]


def test_two_workers_publish_eight_dates_at_once_although_statements_abort_each_other(site: Site) -> None:
    """By the strictest reading of BigQuery: any two changes of the ledger conflict, whatever dates they are about."""
    site.project.engine.conflict_by_table()
    workers = [site.another(hurried(call_s=30.0)) for _ in range(2)]
    nights = [NIGHT + timedelta(days=number) for number in range(8)]
    started = threading.Barrier(len(nights))

    def build(number: int) -> None:
        key, warehouse = attempt(night=nights[number]), workers[number % 2]
        started.wait()
        warehouse.claim(key, NOW, CLAIMANT)
        warehouse.stage(key, staging_select(key))
        warehouse.publish(publication(key))

    with ThreadPoolExecutor(len(nights)) as threads:
        list(threads.map(build, range(len(nights))))

    assert site.project.jobs.conflicts > 0
    assert [row.analysis_date for row in site.warehouse.read_ledger_since(NIGHT)] == nights
    assert len(site.rows()) == len(nights)
    for warehouse in workers:
        warehouse.close()


def test_features_leave_bigquery_as_they_leave_the_embedded_warehouse(site: Site, data: Path, tmp_path: Path) -> None:
    here = embedded(data)
    play(site.warehouse), play(here)

    for ending in ("csv", "jsonl"):
        ours, theirs = tmp_path / f"ours.{ending}", tmp_path / f"theirs.{ending}"
        build_id = f"{NIGHT}-g1-a1"
        exported = [site.warehouse.export_features(NIGHT, build_id, str(ours))]
        assert [here.export_features(NIGHT, build_id, str(theirs))] == exported
        assert ours.read_bytes() == theirs.read_bytes()
    here.close()


def test_loading_files_into_bigquery_is_refused(mlfs: Mlfs, data: Path) -> None:
    with pytest.raises(Refused, match="only an embedded warehouse can be loaded"):
        mlfs("load", str(data))


def test_a_publication_that_lost_its_answer_ends_the_night_as_done(server: BigQueryServer, data: Path) -> None:
    server.project("lost-answer").engine.load(data)
    site = Site(server, "lost-answer", open_warehouse(server, "lost-answer", replace(LIMITS, call_s=0.3)))
    site.warehouse.ensure_tables()
    site.project.faults.plan(Fault.SILENCE, "-publish-")

    assert play(site.warehouse) is State.DONE
    assert len(site.ran("publish")) == 1
    site.warehouse.close()


def test_the_embedded_warehouse_tells_its_plan_and_bills_nothing(data: Path) -> None:
    here = embedded(data)
    play(here)

    estimates = estimate_build(here, a_request(), NOW)
    costs = here.costs(NOW - timedelta(days=1), NOW + timedelta(days=1))

    assert [(one.bytes_processed, one.usd) for one in estimates] == [(None, 0.0), (None, 0.0)]
    assert any(read.startswith("nba_analytics.player_game_summary (about ") for read in estimates[1].reads)
    assert [(one.step, one.analysis_date, one.jobs, one.usd) for one in costs] == [("build", NIGHT, 1, 0.0)]
    here.close()


def a_request() -> BuildRequest:
    return BuildRequest(
        key=BuildKey(analysis_date=NIGHT, generation=2, attempt=1),
        mode=BuildMode.NORMAL,
        trigger="manual",
        phase3_lookback_days=30,
        as_of=None,
        started_at=NOW,
        claimant="a-person",
    )
