"""`mlfs doctor` names what would cost a night, before the night: store, clock, tables, bus, permissions."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ops.arguments import EXIT_FAILED, EXIT_UNAVAILABLE
from ops.cli import app
from ops.commands.doctor import consumed_subscriptions, published_topics
from tests.support.bigquery_peer.server import BigQueryServer
from tests.support.nights import done, result
from tests.support.terraform import role_table, rows
from worker.adapters.bigquery.permissions import TABLE_PERMISSIONS, VIEW_PERMISSIONS
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.adapters.pubsub.connection import ensure_topology, plain_publisher_client
from worker.adapters.pubsub.unary import BusLook, SubscriptionWatch
from worker.adapters.redis import server
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.canary import CANARY_DATE, CANARY_KEYS
from worker.clock import SystemClock
from worker.local.pubsub.server import PubSubServer
from worker.pipelines.shipped import SHIPPED, UPSTREAM
from worker.ports import Commit
from worker.resources import open_warehouse
from worker.settings import load

DUCKDB_TYPES = {
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "STRING": "VARCHAR",
    "TIMESTAMP": "TIMESTAMPTZ",
}
RIGHTS, STORE, STORED, _CLOCK, UPSTREAM_TABLES, OWN, _BUS, DATASETS = range(1, 9)


def execute(folder: Path, *statements: str) -> None:
    warehouse = DuckDbWarehouse(str(folder / "warehouse.duckdb"))
    warehouse.ensure_tables()
    with warehouse.writing("changing upstream") as cursor:
        for sql in statements:
            cursor.execute(sql)
    warehouse.close()


def fill(folder: Path) -> None:
    tables = {
        table: ", ".join(f"{n} {DUCKDB_TYPES[k]}" for n, k in columns.items()) for table, columns in UPSTREAM.items()
    }
    execute(folder, *(f"CREATE TABLE {table} ({columns})" for table, columns in tables.items()))


def looked(*arguments: str) -> tuple[int, list[Any]]:
    done = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MLFS_REDIS_URL", valkey_url)
    return tmp_path


def test_the_doctor_names_views_that_lack_columns_and_dates_with_two_ledger_rows(folder: Path) -> None:
    fill(folder)
    ledger, view = SHIPPED.tables.ledger, SHIPPED.tables.dependency
    claim = (
        f"INSERT INTO {ledger} "  # noqa: S608 -- from the catalogue
        "(analysis_date, claimed_generation, claimed_attempt, claimed_by, claimed_at, generation) "
        "VALUES ('2024-12-15', 1, 1, 'a worker', now(), 0)"
    )
    execute(folder, claim, claim, f"CREATE OR REPLACE VIEW {view} AS SELECT 1 AS generation")
    code, checks = looked()

    assert code == EXIT_FAILED
    faults = checks[OWN]["faults"]
    assert f"2024-12-15 has 2 rows in {ledger}" in faults[-1]
    assert any(fault.startswith(f"{view} has no column analysis_date") for fault in faults)


def test_the_doctor_names_what_upstream_lacks(folder: Path) -> None:
    fill(folder)
    healthy, all_well = looked("--live")
    execute(
        folder,
        "DROP TABLE nba_raw.nbac_schedule",
        "ALTER TABLE nba_precompute.player_daily_cache ALTER season_avg_ppg TYPE VARCHAR",
        "ALTER TABLE nba_predictions.ml_feature_store_v2_execution_log DROP COLUMN error",
        "DROP TABLE nba_predictions.replay_audit",
    )
    drifted, faults = looked()
    shown = CliRunner().invoke(app, ["doctor"])

    assert (healthy, [check["ok"] for check in all_well]) == (0, [True] * 8 + [None] * 2)
    assert [check["not_run"] for check in all_well[DATASETS:]] == [
        "the warehouse is not BigQuery",
        "the bus is not Google's",
    ]
    assert (drifted, [check["ok"] for check in faults[:DATASETS]]) == (1, [True] * 5 + [False, False, True])
    assert faults[UPSTREAM_TABLES]["faults"] == [
        "table nba_raw.nbac_schedule does not exist",
        "nba_precompute.player_daily_cache.season_avg_ppg is STRING, not FLOAT64",
    ]
    assert faults[OWN]["faults"] == [
        "nba_predictions.ml_feature_store_v2_execution_log has no column error; a worker adds the column: mlfs run",
        "table nba_predictions.replay_audit does not exist; a worker creates the table: mlfs run",
    ]
    assert (shown.exit_code, shown.stdout.count("ok "), shown.stdout.count("FAULT")) == (1, 6, 2)
    assert shown.stdout.count("not run") == 2


def test_the_doctor_shows_how_old_the_steps_of_the_canary_are(
    folder: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    monkeypatch.setenv("MLFS_CANARY", "on")
    with connect(valkey_url) as client:
        client.flushdb()
        never, before = looked()
        ended = replace(result(), committed_at=SystemClock().now() - timedelta(minutes=10))
        record = replace(done(), analysis_date=CANARY_DATE, version=1, result=ended)
        RedisStore(client, SHIPPED.name).apart(CANARY_KEYS).commit(Commit(record=record, operation_id="canary"))
        code, after = looked()

    assert (EXIT_FAILED, False, 0, True) == (never, before[DATASETS]["ok"], code, after[DATASETS]["ok"])
    assert "no journey is stored" in before[DATASETS]["check"]
    assert re.search(r"decided 60\d s ago, built 60\d s ago", after[DATASETS]["check"])


def test_a_store_that_may_lose_state_is_named(folder: Path, valkey_url: str) -> None:
    fill(folder)
    client = connect(valkey_url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("appendonly", "no")
    try:
        code, answer = looked()
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "yes")
        client.close()

    assert (code, len(answer[STORE]["faults"])) == (EXIT_FAILED, 2)
    assert "maxmemory-policy is allkeys-lru" in answer[STORE]["faults"][0]
    assert "appendonly is off" in answer[STORE]["faults"][1]


def test_what_cannot_be_read_in_the_store_is_named_and_left_where_it_is(folder: Path, valkey_url: str) -> None:
    fill(folder)
    key = "{mlfs:ml_feature_store_v2}:wake"
    with connect(valkey_url) as client:
        client.flushdb()
        client.zadd(key, {"junk": 1})
        code, answer = looked()
        left = client.zrange(key, 0, -1)
        client.zrem(key, "junk")

    assert (code, left, len(answer[STORED]["faults"])) == (EXIT_FAILED, [b"junk"], 1)
    assert "wake holds b'junk'" in answer[STORED]["faults"][0]
    assert "mlfs recover" in answer[STORED]["faults"][0]


@pytest.fixture
def account(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sign in as an account with the rights that are given."""
    with connect(valkey_url) as client:

        def sign_in(*rights: str, word: str = "secret") -> None:
            client.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", *rights)
            monkeypatch.setenv("MLFS_REDIS_URL", valkey_url.replace("redis://", f"redis://limited:{word}@"))

        yield sign_in
        client.acl_deluser("limited")


def test_a_right_that_is_missing_is_named(folder: Path, account: Callable[..., None]) -> None:
    fill(folder)
    account("+@all", "-xadd", "-script|load", "~*")

    code, answer = looked()

    assert code == EXIT_FAILED
    assert [fault.rpartition(" ")[2] for fault in answer[RIGHTS]["faults"]] == ["+xadd", "+script|load"]


def test_an_account_that_may_not_ask_the_server_is_no_fault(folder: Path, account: Callable[..., None]) -> None:
    fill(folder)
    account("+@all", "-@dangerous", "~{mlfs:*")

    code, answer = looked()

    assert (code, answer[RIGHTS]["ok"], answer[STORE]["ok"], answer[STORED]["ok"]) == (0, True, None, True)
    assert "info" in answer[STORE]["not_run"]


def test_a_wrong_password_is_a_fault_and_no_outage(folder: Path, account: Callable[..., None]) -> None:
    fill(folder)
    account("+@all", "~*", word="wrong")

    code, answer = looked()

    assert code == EXIT_FAILED
    for check in (RIGHTS, STORED):
        assert "correct user and password in MLFS_REDIS_URL" in answer[check]["faults"][0]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"role": "slave"}, "the server is a slave"),
        ({"redis_version": "6.2.14"}, "version 6.2.14 is too old"),
        ({"aof_last_write_status": "err"}, "cannot write to its disk"),
        ({"aof_enabled": 0}, "appendonly is off"),
        ({"connected_slaves": 0, "replicas_wanted": 1}, "MLFS_REDIS_REPLICAS asks for 1"),
    ],
)
def test_each_fault_of_a_server_is_named(told: dict[str, Any], said: str) -> None:
    [fault] = server._faults(told, told.get("replicas_wanted", 0))

    assert said in fault
    assert list(server._faults({"aof_enabled": 0, "connected_slaves": 1}, 1)) == []
    assert list(server._faults({"redis_version": "7.2.4", "role": "master"}, 0)) == []


@pytest.mark.parametrize("ahead_s", [-90, -1, 0, 1, 90])
def test_a_clock_that_is_off_is_measured_less_the_way_there(valkey_url: str, ahead_s: int) -> None:
    client = connect(valkey_url)
    seconds, _microseconds = client.time()
    base = datetime.fromtimestamp(seconds, UTC) - timedelta(seconds=ahead_s)
    ticks = iter([base - timedelta(seconds=0.5), base + timedelta(seconds=0.5)])
    skew = server.clock_skew(client, lambda: next(ticks))
    client.close()

    off = abs(skew) > server.CLOCK_SKEW_MAX
    assert (off, skew.total_seconds() > 80, skew.total_seconds() < -80) == (
        abs(ahead_s) == 90,
        ahead_s == 90,
        ahead_s == -90,
    )


def test_a_store_that_is_away_hides_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder)
    monkeypatch.setenv("MLFS_REDIS_URL", "redis://127.0.0.1:1")
    code, answer = looked()

    assert (code, [check["ok"] for check in answer[:DATASETS]]) == (
        EXIT_UNAVAILABLE,
        [True] + [False] * 4 + [True] * 3,
    )


def test_what_is_missing_on_the_bus_is_named(tmp_path: Path) -> None:
    with PubSubServer(tmp_path / "journal.sqlite") as server:
        ensure_topology(server.address, "nba", topics=("arrivals", "other"), subscriptions={"worker": "other"})
        look = BusLook("nba", server.address)
        topics = look.missing_topics(["arrivals", "outcomes"])
        faults = look.subscription_faults({"worker": "arrivals", "parked": "refused"}, {"worker": "refused"})
        look.close()

    assert topics == ["topic outcomes does not exist"]
    assert faults == [
        "subscription worker belongs to projects/nba/topics/other, not to projects/nba/topics/arrivals",
        "subscription parked does not exist",
    ]


def test_a_subscription_that_lost_its_topic_is_told_while_the_worker_runs(tmp_path: Path) -> None:
    with PubSubServer(tmp_path / "journal.sqlite") as server:
        ensure_topology(server.address, "nba", topics=("arrivals",), subscriptions={"worker": "arrivals"})
        watch = SubscriptionWatch("nba", server.address, subscription="worker", topic="arrivals")
        watch.run_once()
        healthy = list(watch.faults)
        topics = plain_publisher_client(server.address)
        topics.delete_topic(topic="projects/nba/topics/arrivals")
        topics.transport.close()
        watch.run_once()

    assert healthy == []
    assert ["subscription worker belongs to _deleted-topic_, not to projects/nba/topics/arrivals"] == list(watch.faults)


def test_the_way_of_dead_letters_is_checked_as_google_keeps_it(tmp_path: Path) -> None:
    with PubSubServer(tmp_path / "journal.sqlite") as server:
        ensure_topology(server.address, "nba", topics=("arrivals", "refused"), subscriptions={"worker": "arrivals"})
        look = BusLook("nba", server.address)
        look._local = False  # the rules for Google, on what a local server answers
        [unwired] = look.subscription_faults({"worker": "arrivals"}, {"worker": "refused"})
        look.close()

    assert (
        unwired == "subscription worker forwards unacknowledged messages to nowhere, not to projects/nba/topics/refused"
    )


@pytest.mark.usefixtures("folder")
def test_the_permission_tests_run_as_the_account_that_builds_and_leave_nothing(
    sample_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BigQueryServer(hold_s=0.05) as server:
        project = server.project("a-project")
        monkeypatch.setenv("MLFS_WAREHOUSE", "bigquery://a-project")
        monkeypatch.setenv("MLFS_BIGQUERY_ENDPOINT", server.address)
        bare, denied = looked("--live")
        project.engine.load(sample_folder)
        open_warehouse(load()).ensure_tables()
        _code, granted = looked("--live")
        project.withheld = frozenset({"bigquery.tables.updateData", "bigquery.jobs.listAll"})
        _code, withheld = looked("--live")
        with project.engine.cursor() as cursor:
            left = cursor.execute("SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'mlfs_%'").fetchall()
            left += cursor.execute("SELECT * FROM nba_predictions.replay_audit").fetchall()

    tests = slice(DATASETS, DATASETS + 8)
    assert bare == EXIT_FAILED
    assert [check["ok"] for check in denied[tests]] == [False] * 6 + [True, True]
    assert [(check["ok"], "which is not Google" in check["check"]) for check in granted[tests]] == [(True, True)] * 8
    [fault] = withheld[DATASETS + 5]["faults"]
    assert fault.count("bigquery.tables.updateData on nba_predictions.") == len(SHIPPED.tables.stored)
    [unseen] = withheld[DATASETS + 6]["faults"]
    assert "grant the account the role mlfsCostReader" in unseen
    assert left == []


def test_the_doctor_asks_for_what_the_role_table_grants_a_worker_and_for_nothing_else() -> None:
    settings = load({})
    topics = {
        "completions": settings.topic,
        "success": settings.success_topic,
        "failure": settings.failure_topic,
        "dead_letter": settings.dead_letter_topic,
    }
    subscriptions = {"worker": settings.subscription, "dead_letter": settings.dead_letter_subscription}
    granted = {(role, kind, name) for principal, role, kind, name in rows() if principal == "worker"}

    def names(role: str, kind: str) -> set[str]:
        return {name for a_role, a_kind, name in granted if (a_role, a_kind) == (role, kind)}

    assert set(published_topics(settings)) == {topics[name] for name in names("roles/pubsub.publisher", "topic")}
    assert set(consumed_subscriptions(settings)) == {
        subscriptions[name] for name in names("roles/pubsub.subscriber", "subscription")
    }
    assert names("roles/pubsub.viewer", "topic") == set(topics)
    assert names("roles/pubsub.viewer", "subscription") == set(subscriptions)
    assert set(TABLE_PERMISSIONS) == set(role_table()["custom_roles"]["mlfsTableWriter"]["permissions"])
    assert {f"nba_predictions.{name}" for name in names("custom/mlfsTableWriter", "table")} == set(
        SHIPPED.tables.stored
    )
    assert {f"nba_predictions.{name}" for name in names("roles/bigquery.dataViewer", "table")} == set(
        SHIPPED.tables.views
    )
    # What a view gives of BigQuery Data Viewer, as its page lists it.
    assert set(VIEW_PERMISSIONS) == {"bigquery.tables.get", "bigquery.tables.getData"}
    assert role_table()["custom_roles"]["mlfsCostReader"]["permissions"] == ["bigquery.jobs.listAll"]
    assert names("roles/bigquery.dataViewer", "dataset") == {table.partition(".")[0] for table in UPSTREAM}


def test_a_folder_with_a_warehouse_alone_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    fill(tmp_path)
    before = sorted(tmp_path.iterdir())
    code, checks = looked()

    assert code == 0
    assert ["no worker has run" in (check["not_run"] or "") for check in checks[1:5]] == [True] * 4
    assert sorted(tmp_path.iterdir()) == before
