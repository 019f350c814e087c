"""Whatever BigQuery does to a job or to its answer: a date is committed once, or not at all and the caller knows."""

import threading
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from google.api_core import exceptions as api

from statemachine.model import State
from tests.support.bigquery import (
    AT,
    CLAIMANT,
    LIMITS,
    NIGHT,
    Site,
    attempt,
    hurried,
    open_site,
    open_warehouse,
    publication,
    staging_select,
)
from tests.support.bigquery_peer.faults import Fault
from tests.support.bigquery_peer.server import BigQueryServer
from tests.support.bigquery_peer.wire import WireError
from worker.adapters.bigquery.errors import Cure, cure_of, translated
from worker.adapters.bigquery.jobs import PAUSE_MAX_S, connect
from worker.adapters.bigquery.scripts import bind
from worker.adapters.bigquery.warehouse import BigQueryWarehouse
from worker.adapters.direct import is_local
from worker.errors import AccessDenied, Fatal, Fenced, SchemaDrift, Unavailable
from worker.features.model import Statement
from worker.features.records import execution_row
from worker.pipelines.shipped import LEDGER_TABLE, PUBLISHED_TABLE, REPLAY_TABLE, SHIPPED

HOLD_S = 0.05


@pytest.fixture(scope="module")
def server() -> Iterator[BigQueryServer]:
    with BigQueryServer(hold_s=HOLD_S) as running:
        yield running


@pytest.fixture
def site(server: BigQueryServer) -> Iterator[Site]:
    opened = open_site(server)
    yield opened
    opened.warehouse.close()


def committed(site: Site) -> str | None:
    row = site.warehouse.read_ledger(NIGHT)
    return row.build_id if row is not None else None


class Watch:
    """A clock that only the pauses between tries move."""

    def __init__(self, site: Site) -> None:
        self.seconds = 0.0
        site.warehouse.jobs._pause = self.wait
        site.warehouse.jobs._seconds = lambda: self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


def plan(site: Site, fault: Fault, step: str, times: int = 1) -> None:
    site.project.faults.plan(fault, rf"-{step}(-|$)", times=times)


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.REPLY_LOST, Fault.DUPLICATE, Fault.SLOW])
def test_a_lost_or_late_answer_runs_every_step_once(site: Site, fault: Fault) -> None:
    key = attempt()
    steps = ("claim", "features", "history", "publish")
    for step in steps:
        plan(site, fault, step)

    site.stage(key)
    site.warehouse.publish(publication(key))

    assert [len(site.ran(step)) for step in steps] == [1, 1, 1, 1]
    assert (committed(site), site.rows()) == (key.build_id, [key.build_id])


@pytest.mark.parametrize("fault", [Fault.RATE_LIMIT, Fault.CONFLICT, Fault.OUTSTANDING])
def test_a_job_that_failed_in_passing_runs_again_under_another_id(site: Site, fault: Fault) -> None:
    key = attempt()
    site.stage(key)
    plan(site, fault, "publish", times=2)

    site.warehouse.publish(publication(key))

    [ran] = site.ran("publish")
    assert ran.endswith("-r2")
    assert (committed(site), site.rows()) == (key.build_id, [key.build_id])


def test_conflicts_without_end_are_given_up_with_nothing_changed(site: Site) -> None:
    key = attempt()
    watch = Watch(site)
    site.stage(key)
    plan(site, Fault.CONFLICT, "publish", times=100_000)

    with pytest.raises(Unavailable, match="due to concurrent update"):
        site.warehouse.publish(publication(key))

    assert LIMITS.retry_s <= watch.seconds <= LIMITS.retry_s + PAUSE_MAX_S
    assert (committed(site), site.rows()) == (None, [])


def test_conflicts_that_end_within_five_minutes_are_outlasted(site: Site) -> None:
    key = attempt()
    watch = Watch(site)
    site.stage(key)
    plan(site, Fault.CONFLICT, "publish", times=30)

    site.warehouse.publish(publication(key))

    assert PAUSE_MAX_S < watch.seconds < LIMITS.retry_s
    assert (committed(site), site.rows()) == (key.build_id, [key.build_id])


def test_a_row_whose_answer_never_came_is_not_written_twice(server: BigQueryServer) -> None:
    """Nobody knows how that job stands, so no second one is sent; the same row again finds it."""
    site = open_site(server, hurried(call_s=0.3))
    row = execution_row(publication(attempt()).request, state=State.FAILED, completed_at=AT, error="the gate refused")
    plan(site, Fault.SILENCE, "log")

    with pytest.raises(Unavailable):
        site.warehouse.log_execution(row)
    site.project.jobs.speak()
    site.warehouse.log_execution(row)

    counted = Statement(name="n", sql="SELECT COUNT(*) AS n FROM nba_predictions.ml_feature_store_v2_execution_log")
    assert (list(site.warehouse.query(counted)), len(site.ran("log"))) == ([{"n": 1}], 1)
    site.warehouse.close()


@pytest.mark.parametrize("fault", [Fault.QUOTA, Fault.CONFLICT])
def test_a_call_that_failed_can_be_repeated_although_its_ids_are_burnt(site: Site, fault: Fault) -> None:
    key = attempt()
    Watch(site)
    site.stage(key)
    plan(site, fault, "publish", times=100_000)
    with pytest.raises(Unavailable):
        site.warehouse.publish(publication(key))
    site.project.faults.clear()

    site.warehouse.publish(publication(key))

    assert (committed(site), site.rows()) == (key.build_id, [key.build_id])


def test_a_spent_quota_is_left_to_the_builders_patience(site: Site) -> None:
    plan(site, Fault.QUOTA, "features")

    with pytest.raises(Unavailable, match="Quota exceeded"):
        site.stage(attempt())

    assert site.ran("features") == []


def test_a_commit_whose_answer_never_came_is_found_in_the_ledger(server: BigQueryServer) -> None:
    site = open_site(server, hurried(call_s=0.3))
    key = attempt()
    site.stage(key)
    plan(site, Fault.SILENCE, "publish")

    site.warehouse.publish(publication(key))

    assert (committed(site), site.rows()) == (key.build_id, [key.build_id])
    site.warehouse.close()


def test_a_claim_whose_answer_never_came_is_found_in_the_ledger(server: BigQueryServer) -> None:
    site = open_site(server, hurried(call_s=0.3))
    plan(site, Fault.SILENCE, "claim")

    site.warehouse.claim(attempt(2, 1), AT, CLAIMANT)

    assert site.warehouse.claimed_token(NIGHT) == (2, 1)
    site.warehouse.close()


def test_a_publication_that_never_arrived_is_unavailable_and_can_be_repeated(server: BigQueryServer) -> None:
    site = open_site(server, hurried(call_s=0.3))
    key = attempt()
    site.stage(key)
    plan(site, Fault.REFUSED, "publish", times=30)

    with pytest.raises(Unavailable):
        site.warehouse.publish(publication(key))
    assert committed(site) is None
    site.project.faults.clear()
    patient = site.another()
    patient.publish(publication(key))

    assert (committed(site), site.rows()) == (key.build_id, [key.build_id])
    patient.close()
    site.warehouse.close()


def test_a_stuck_job_is_cancelled_and_the_next_attempt_goes_on(server: BigQueryServer) -> None:
    site = open_site(server, hurried(job_timeout_s=0.2))
    stuck, after = attempt(1, 1), attempt(1, 2)
    site.stage(stuck)
    plan(site, Fault.STUCK, "publish")

    with pytest.raises(Unavailable, match="was cancelled"):
        site.warehouse.publish(publication(stuck))
    site.warehouse.claim(after, AT, "worker-b/1")
    site.warehouse.stage(after, staging_select(after))
    site.warehouse.publish(publication(after, "worker-b/1"))

    assert len(site.ran("publish")) == 1
    assert (committed(site), site.rows()) == (after.build_id, [after.build_id])
    site.warehouse.close()


def test_a_claim_never_takes_another_workers_claim_for_its_own(site: Site) -> None:
    key, other = attempt(), site.another()
    site.warehouse.claim(key, AT, "worker-a/1")

    with pytest.raises(Fenced, match="worker-a/1 has it, not worker-b/1"):
        other.claim(key, AT, "worker-b/1")
    with pytest.raises(Fenced, match="worker-a/1 has it, not worker-b/1"):
        other.publish(publication(key, "worker-b/1"))

    assert site.warehouse.claimed_token(NIGHT) == key.token
    assert committed(site) is None
    other.close()


def test_a_repeated_claim_that_was_overtaken_is_fenced_although_its_job_succeeded(site: Site) -> None:
    """The same claim is the same job; that it once succeeded says nothing about now."""
    site.warehouse.claim(attempt(1, 1), AT, CLAIMANT)
    site.warehouse.claim(attempt(2, 1), AT, "worker-b/1")

    with pytest.raises(Fenced, match="generation 2, attempt 1 has the date now"):
        site.warehouse.claim(attempt(1, 1), AT, CLAIMANT)

    assert len(site.ran("claim")) == 2


def test_a_published_attempt_is_not_another_claimants(site: Site) -> None:
    key = attempt()
    site.stage(key)
    site.warehouse.publish(publication(key))

    with pytest.raises(Fenced, match="already did"):
        site.warehouse.publish(publication(key, "worker-b/1"))


def test_rows_of_another_claimants_attempt_are_not_published(site: Site) -> None:
    """The rows are there and the token is the newest; the statement itself looks at the claimant."""
    key = attempt()
    site.stage(key)

    with pytest.raises(Fenced, match="worker-a/1 has it, not worker-b/1"):
        site.warehouse.publish(publication(key, "worker-b/1"))

    assert (committed(site), site.rows()) == (None, [])


def test_workers_that_commit_different_dates_at_once_all_succeed(site: Site) -> None:
    """Each worker has its own connection. Statements about different dates change different partitions."""
    warehouses = [site.another() for _ in range(8)]
    faults: list[BaseException] = []
    started = threading.Barrier(len(warehouses))

    def work(number: int, warehouse: BigQueryWarehouse) -> None:
        key = attempt(night=NIGHT + timedelta(days=number))
        try:
            started.wait()
            warehouse.claim(key, AT, CLAIMANT)
            warehouse.stage(key, staging_select(key))
            warehouse.publish(publication(key))
        except BaseException as error:  # noqa: BLE001 -- handed to the test
            faults.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(warehouses)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []
    assert [row.analysis_date for row in site.warehouse.read_ledger_since(NIGHT)] == [
        NIGHT + timedelta(days=number) for number in range(8)
    ]
    assert len(site.rows()) == 8
    for warehouse in warehouses:
        warehouse.close()


IN_A_TRANSACTION = "BEGIN TRANSACTION; {}; COMMIT TRANSACTION;"
CHANGE = "UPDATE nba_predictions.t SET a = a + 10 WHERE analysis_date = @analysis_date"


@pytest.mark.parametrize(
    ("first", "second", "day", "conflict"),
    [
        pytest.param(IN_A_TRANSACTION.format(CHANGE), IN_A_TRANSACTION.format(CHANGE), 2, True, id="two transactions"),
        pytest.param(IN_A_TRANSACTION.format(CHANGE), CHANGE, 2, True, id="a statement beside a transaction"),
        pytest.param(CHANGE, CHANGE, 1, True, id="two statements on one partition"),
        pytest.param(CHANGE, CHANGE, 2, False, id="two statements on two partitions"),
    ],
)
def test_the_peer_aborts_a_change_of_what_another_change_holds(
    site: Site, first: str, second: str, day: int, *, conflict: bool
) -> None:
    """What the test above stands on: the peer is no kinder than BigQuery, and no harder."""
    engine = site.project.engine
    engine.run("CREATE TABLE nba_predictions.t (a INT64, analysis_date DATE)", {})
    insert = "INSERT INTO nba_predictions.t (a, analysis_date) VALUES (@a, @analysis_date)"
    for number in (1, 2):
        engine.run(insert, {"a": number, "analysis_date": date(2024, 12, number)})
    execute, refused = engine._execute, []

    def overtaken(*arguments: Any) -> Any:
        engine._execute = execute  # type: ignore[method-assign]
        try:
            engine.run(second, {"analysis_date": date(2024, 12, day)})
        except WireError as fault:
            refused.append(str(fault))
        return execute(*arguments)

    engine._execute = overtaken  # type: ignore[method-assign]

    engine.run(first, {"analysis_date": date(2024, 12, 1)})

    assert [("due to concurrent update" in fault) for fault in refused] == [True] * conflict
    changed = [(2,), (11,)] if conflict else [(11,), (12,)]
    assert sorted(engine.run("SELECT a FROM nba_predictions.t", {}).rows) == changed


def test_a_statement_beyond_the_cap_never_runs_and_says_which_setting(server: BigQueryServer) -> None:
    site = open_site(server, hurried(bytes_billed_max=1_000_000))  # type: ignore[arg-type]
    statement = Statement(name="ledger", sql="SELECT build_id FROM nba_predictions.ml_feature_store_v2_ledger")

    with pytest.raises(Fatal, match="MLFS_BIGQUERY_MAX_BYTES_BILLED"):
        site.warehouse.query(statement)

    site.warehouse.close()


def test_a_server_that_is_gone_is_unavailable() -> None:
    with BigQueryServer() as gone:
        warehouse = open_warehouse(gone, "gone", hurried(call_s=0.3))

    with pytest.raises(Unavailable):
        warehouse.columns("nba_raw.nothing")
    with pytest.raises(Unavailable):
        warehouse.query(Statement(name="one", sql="SELECT 1 AS one"))

    warehouse.close()


def test_a_ledger_of_an_older_release_gets_the_columns_it_lacks(site: Site) -> None:
    site.warehouse.claim(attempt(), AT, CLAIMANT)
    with site.project.engine.cursor() as cursor:
        cursor.execute("ALTER TABLE nba_predictions.ml_feature_store_v2_ledger DROP COLUMN claimed_by")

    site.warehouse.ensure_tables()

    assert site.warehouse.columns("nba_predictions.ml_feature_store_v2_ledger")["claimed_by"] == "STRING"
    site.warehouse.claim(attempt(1, 2), AT, CLAIMANT)
    assert site.warehouse.claimed_token(NIGHT) == (1, 2)


def test_a_table_of_another_kind_stops_the_start(site: Site) -> None:
    with site.project.engine.cursor() as cursor:
        cursor.execute("ALTER TABLE nba_predictions.replay_audit ALTER decision TYPE BIGINT")

    with pytest.raises(SchemaDrift, match=r"nba_predictions\.replay_audit\.decision is INT64, not STRING"):
        site.warehouse.ensure_tables()


def test_tables_are_partitioned_and_clustered_and_consumers_read_views(site: Site) -> None:
    table = site.project.table("nba_predictions", "ml_feature_store_v2_generations")

    assert table["timePartitioning"] == {"type": "DAY", "field": "analysis_date"}
    assert table["clustering"] == {"fields": ["build_id", "player_id"]}
    assert site.project.table("nba_predictions", "ml_feature_store_v2")["type"] == "VIEW"


def test_a_view_of_an_older_release_gets_the_columns_it_lacks(site: Site) -> None:
    with site.project.engine.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE VIEW nba_predictions.ml_feature_store_v2 AS SELECT 1 AS player_id")

    site.warehouse.ensure_tables()

    assert site.warehouse.columns(PUBLISHED_TABLE) == {one.name: one.type for one in SHIPPED.output_columns}


def test_a_start_that_finds_everything_in_place_runs_no_statement(site: Site) -> None:
    """The worker's account needs no right to create anything."""
    before = list(site.project.jobs.ran)

    site.another().ensure_tables()

    assert site.project.jobs.ran == before


def test_too_many_statements_that_wait_pass_by_themselves() -> None:
    text = "Resources exceeded during query execution: Too many DML statements outstanding against table a.b"
    error = api.BadRequest(text, errors=[{"reason": "resourcesExceeded"}])

    assert (cure_of(error), type(translated(error, "trying"))) == (Cure.NOW, Unavailable)


def test_of_two_workers_that_claim_one_attempt_at_once_one_has_the_date(site: Site) -> None:
    workers = [site.another() for _ in range(8)]
    started, has, fenced = threading.Barrier(len(workers)), [], []

    def claim(number: int) -> None:
        started.wait()
        try:
            workers[number].claim(attempt(), AT, f"worker-{number}")
            has.append(number)
        except Fenced:
            fenced.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(has), len(fenced)) == (1, 7)
    assert len(site.ran("claim")) == 1


def test_a_dataset_that_is_missing_is_named_with_the_table(site: Site) -> None:
    """Google's own words name the dataset alone."""
    with pytest.raises(SchemaDrift, match=r"reads gone\.nothing: Not found: Dataset .*:gone was not found"):
        site.warehouse.query(Statement(name="lost", sql="SELECT a FROM gone.nothing"))


def test_upstream_tables_are_looked_for_side_by_side(site: Site) -> None:
    """A look that waits for another one in turn would wait here for ever; the barrier gives up after a while."""
    together = threading.Barrier(4, timeout=20.0)
    find = site.warehouse._tables.find

    def meet(table: str) -> Any:
        together.wait()
        return find(table)

    site.warehouse._tables.find = meet  # type: ignore[method-assign]

    found = site.warehouse.columns_of([REPLAY_TABLE, LEDGER_TABLE, "nba_raw.nothing", PUBLISHED_TABLE])

    assert list(found) == [REPLAY_TABLE, LEDGER_TABLE, "nba_raw.nothing", PUBLISHED_TABLE]
    assert found["nba_raw.nothing"] == {}
    assert found[LEDGER_TABLE]["claimed_by"] == "STRING"


def test_a_job_that_failed_late_gets_a_second_try(site: Site) -> None:
    """The five minutes count from the first failure, not from the start of a job that took longer than that."""
    key, watch = attempt(), Watch(site)
    site.stage(key)
    plan(site, Fault.CONFLICT, "publish")
    wait = site.warehouse.jobs._wait

    def late(job: Any) -> Any:
        watch.wait(2 * LIMITS.retry_s)
        return wait(job)

    site.warehouse.jobs._wait = late  # type: ignore[method-assign]
    site.warehouse.publish(publication(key))

    assert committed(site) == key.build_id


def test_a_parameter_without_a_value_is_never_bound() -> None:
    with pytest.raises(Fatal, match="parameter as_of is None"):
        bind({"analysis_date": NIGHT, "as_of": None})


REASONS = [
    ("backendError", Cure.NOW, Unavailable),
    ("jobInternalError", Cure.NOW, Unavailable),
    ("rateLimitExceeded", Cure.NOW, Unavailable),
    ("quotaExceeded", Cure.LATER, Unavailable),
    ("stopped", Cure.LATER, Unavailable),
    ("accessDenied", Cure.NOTHING, AccessDenied),
    ("bytesBilledLimitExceeded", Cure.NOTHING, Fatal),
    ("invalidQuery", Cure.NOTHING, Fatal),
    ("resourcesExceeded", Cure.NOTHING, Fatal),
    ("notFound", Cure.NOTHING, SchemaDrift),
]


@pytest.mark.parametrize(("reason", "cure", "family"), REASONS)
def test_the_reason_decides_and_not_the_status(reason: str, cure: Cure, family: type[Exception]) -> None:
    """The client makes a 500 of every job error that it does not know."""
    for status in (api.Forbidden, api.InternalServerError, api.BadRequest):
        error = status("it did not work", errors=[{"reason": reason}])
        assert (cure_of(error), type(translated(error, "trying"))) == (cure, family)


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("http://127.0.0.1:9050", True),
        ("http://[::1]:9050", True),
        ("http://localhost:9050", True),
        ("", False),
        ("https://bigquery.example.com", False),
        ("http://10.0.0.7:9050", False),
    ],
)
def test_only_an_address_on_this_machine_goes_without_signing_in(endpoint: str, local: bool) -> None:
    assert is_local(endpoint) is local


def test_a_client_for_elsewhere_needs_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{tmp_path}/none.json")

    with pytest.raises(Fatal, match="gcloud auth application-default login"):
        connect("bigquery://project", "https://bigquery.example.com")
