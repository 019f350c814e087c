"""The BigQuery peer, asked by Google's client for what the product does not ask of it every night."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.api_core import exceptions as api
from google.cloud import bigquery

from tests.support.bigquery import Site, attempt, open_site
from tests.support.bigquery_peer.faults import Fault
from tests.support.bigquery_peer.server import BigQueryServer
from worker.errors import Refused


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with BigQueryServer(hold_s=0.05) as server:
        opened = open_site(server)
        yield opened
        opened.warehouse.close()


@pytest.fixture
def client(site: Site) -> bigquery.Client:
    return site.warehouse._client


def test_a_job_id_can_be_used_once(client: bigquery.Client) -> None:
    client.query("SELECT 1 AS one", job_id="mine", job_retry=None).result()

    with pytest.raises(api.Conflict, match="Already Exists: Job"):
        client.query("SELECT 2 AS two", job_id="mine", job_retry=None)

    assert [tuple(row) for row in client.get_job("mine").result()] == [(1,)]


def test_rows_come_in_pages(client: bigquery.Client) -> None:
    job = client.query("SELECT x FROM UNNEST(GENERATE_ARRAY(1, 25)) AS x ORDER BY x", job_id="pages", job_retry=None)

    pages = [[row["x"] for row in page] for page in job.result(page_size=10).pages]

    assert [len(page) for page in pages] == [10, 10, 5]
    assert [x for page in pages for x in page] == list(range(1, 26))


def test_a_query_needs_no_job_id(client: bigquery.Client) -> None:
    assert [tuple(row) for row in client.query_and_wait("SELECT 'x' AS a, NULL AS b")] == [("x", None)]


def test_labels_come_back_and_must_be_lower_case(client: bigquery.Client) -> None:
    config = bigquery.QueryJobConfig(labels={"step": "features"})
    client.query("SELECT 1 AS one", job_id="labelled", job_retry=None, job_config=config).result()

    assert client.get_job("labelled").labels == {"step": "features"}
    with pytest.raises(api.BadRequest, match="unsupported characters"):
        client.query("SELECT 1 AS one", job_config=bigquery.QueryJobConfig(labels={"step": "Features"}), job_retry=None)


def test_one_of_those_who_make_a_dataset_at_once_makes_it(client: bigquery.Client) -> None:
    """Workers that start together on a new project meet here, the peer as BigQuery."""
    started = threading.Barrier(4)

    def make(name: str) -> str:
        started.wait()
        try:
            client.create_dataset(name, retry=None)
        except api.Conflict:
            return "exists"
        return "made"

    with ThreadPoolExecutor(4) as threads:
        for number in range(30):
            answers = sorted(threads.map(make, [f"race_{number}"] * 4))
            assert answers == ["exists", "exists", "exists", "made"]


def test_datasets_and_tables_can_be_made_listed_read_and_removed(client: bigquery.Client) -> None:
    client.create_dataset("made")
    fields = [bigquery.SchemaField("day", "DATE", mode="REQUIRED"), bigquery.SchemaField("names", "STRING", "REPEATED")]
    table = bigquery.Table(f"{client.project}.made.one", schema=fields)
    table.time_partitioning = bigquery.TimePartitioning(field="day")
    client.create_table(table)
    client.query("INSERT INTO made.one (day, names) VALUES (DATE '2024-12-15', ['a', 'b'])", job_retry=None).result()

    found = client.get_table("made.one")
    assert (found.num_rows, found.time_partitioning.field) == (1, "day")
    assert [(f.field_type, f.mode) for f in found.schema] == [("DATE", "REQUIRED"), ("STRING", "REPEATED")]
    assert [listed.table_id for listed in client.list_tables("made")] == ["one"]
    assert "made" in [listed.dataset_id for listed in client.list_datasets()]
    assert [row["names"] for row in client.list_rows(found)] == [["a", "b"]]
    with pytest.raises(api.Conflict):
        client.create_dataset("made")
    client.delete_dataset("made", delete_contents=True)
    with pytest.raises(api.NotFound):
        client.get_table("made.one")


def test_a_dry_run_checks_the_statement_and_leaves_no_job(client: bigquery.Client) -> None:
    config = bigquery.QueryJobConfig(dry_run=True)
    before = len(list(client.query_and_wait("SELECT job_id FROM `region-us`.INFORMATION_SCHEMA.JOBS")))

    job = client.query("SELECT build_id FROM nba_predictions.ml_feature_store_v2", job_config=config)

    assert (job.total_bytes_processed, job.state) == (0, "DONE")
    with pytest.raises(api.BadRequest, match="Unrecognized name"):
        client.query("SELECT nothing FROM nba_predictions.ml_feature_store_v2", job_config=config)
    after = len(list(client.query_and_wait("SELECT job_id FROM `region-us`.INFORMATION_SCHEMA.JOBS")))
    assert after == before + 1


def test_a_cancelled_job_says_so(site: Site, client: bigquery.Client) -> None:
    site.project.faults.plan(Fault.STUCK, "stuck")
    job = client.query("SELECT 1 AS one", job_id="stuck", job_retry=None)
    assert (job.state, job.done()) == ("RUNNING", False)

    job.cancel()

    assert client.get_job("stuck").error_result["reason"] == "stopped"


def test_a_script_that_fails_leaves_nothing_behind(site: Site, client: bigquery.Client) -> None:
    engine = site.project.engine
    engine.run("CREATE TABLE nba_predictions.kept (a INT64)", {})
    script = """
        BEGIN TRANSACTION;
        INSERT INTO nba_predictions.kept (a) VALUES (1);
        UPDATE nba_predictions.kept SET a = nothing WHERE a = 1;
        COMMIT TRANSACTION;
    """

    with pytest.raises(api.BadRequest, match="nothing"):
        client.query(script, job_retry=None).result()

    assert list(engine.run("SELECT a FROM nba_predictions.kept", {}).rows) == []


def test_a_variable_outlives_the_rollback_and_only_a_last_select_answers(site: Site, client: bigquery.Client) -> None:
    """The harsher reading of BigQuery's documentation: what is right here is right under either."""
    site.project.engine.run("CREATE TABLE nba_predictions.seen (a INT64)", {})
    inside = """
        DECLARE found INT64;
        BEGIN TRANSACTION;
        INSERT INTO nba_predictions.seen (a) VALUES (7);
        SELECT a FROM nba_predictions.seen;
        SET found = (SELECT SUM(a) FROM nba_predictions.seen);
        ROLLBACK TRANSACTION;
    """

    def answer(script: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in client.query(script, job_retry=None).result()]

    assert (answer(inside), answer(f"{inside} SELECT found AS n")) == ([], [(7,)])
    assert answer("SELECT COUNT(*) AS n FROM nba_predictions.seen") == [(0,)]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "Syntax error"),
        ("SELECT @missing AS x", "Query parameter 'missing' not found"),
        ("BEGIN TRANSACTION; CALL something(); COMMIT TRANSACTION;", "does not run: CALL something"),
        ("IF TRUE THEN SELECT 1; END IF; SELECT 2", "does not run|Syntax error"),
    ],
)
def test_what_the_peer_does_not_do_it_refuses(client: bigquery.Client, sql: str, message: str) -> None:
    with pytest.raises(api.BadRequest, match=message):
        client.query(sql, job_retry=None).result()


def test_the_peer_listens_on_this_machine_only() -> None:
    with pytest.raises(Refused, match="no authentication"):
        BigQueryServer("10.0.0.7")


def test_job_ids_name_the_attempt_and_its_step(site: Site) -> None:
    key = attempt()
    site.stage(key)

    [job_id] = site.ran("features")
    assert job_id.startswith("mlfs-2024-12-15-g1-a1-features-")
    labels = site.warehouse._client.get_job(job_id).labels
    assert labels == {
        "pipeline": "ml_feature_store_v2",
        "step": "features",
        "analysis_date": "2024-12-15",
        "generation": "1",
        "attempt": "1",
    }
