"""`mlfs run` as a process: it survives bad input, a kill and a restart."""

import json

import duckdb
import httpx
import pytest

from worker.adapters.pubsub.connection import publisher_client
from worker.local.ownership import read_address

DATE = "2024-12-15"
PROCESSORS = (
    "team_defense_zone_analysis",
    "player_shot_zone_analysis",
    "player_composite_factors",
    "player_daily_cache",
)
BAD_MESSAGES = {
    "not_json": b"completed!",
    "not_an_object": b"[1, 2]",
    "unknown_processor": b'{"processor": "odds", "analysis_date": "2024-12-15", "status": "success"}',
    "bad_date": b'{"processor": "player_daily_cache", "analysis_date": "2024-02-30", "status": "success"}',
    "bad_field": b'{"processor": "player_daily_cache", "analysis_date": "2024-12-15", "status": "success",'
    b' "row_count": "400"}',
    "date_out_of_range": b'{"processor": "player_daily_cache", "analysis_date": "9999-12-31", "status": "success"}',
}


def completion(processor):
    return json.dumps(
        {"processor": processor, "analysis_date": DATE, "status": "success", "run_id": f"run-{processor}"}
    ).encode()


def emit(program, *processors):
    """As a processor would without a client of its own: the command, whether or not a worker runs."""
    for processor in processors:
        done = program.here("emit", DATE, processor, "--rows", "1", "--run-id", f"run-{processor}")
        assert done.returncode == 0, done.stderr


def state_at(worker):
    rows = [row for row in json.loads(get(worker, "/dates")) if row["analysis_date"] == DATE]
    return rows[0]["state"] if rows else None


def publish_raw(program, bodies):
    address = read_address(program.data_dir / "pubsub")
    client = publisher_client(address)
    try:
        topic = client.topic_path("nba-props-platform", "phase4-processor-success")
        for body in bodies:
            client.publish(topic, body).result(timeout=10)
    finally:
        client.stop()
        client.transport.close()


def get(worker, path):
    return httpx.get(f"{worker.address()}{path}", timeout=10).text


def play_the_night(program, worker, wait_until):
    publish_raw(program, [completion(processor) for processor in PROCESSORS])
    wait_until(lambda: state_at(worker) == "done", "the night is done", timeout_s=30.0)


def test_bad_messages_are_parked_with_their_reason_and_the_night_still_finishes(loaded, start_worker, wait_until):
    worker = start_worker()

    publish_raw(loaded, BAD_MESSAGES.values())
    play_the_night(loaded, worker, wait_until)

    shown = loaded.here("status").stdout
    metrics = get(worker, "/metrics")
    for reason in BAD_MESSAGES:
        assert f"{reason}:" in shown, reason
        assert f'mlfs_dead_lettered_total{{reason="{reason}"}} 1.0' in metrics


def test_a_killed_worker_goes_on_where_it_was_and_loses_no_queued_completion(loaded, start_worker, wait_until):
    first = start_worker()
    publish_raw(loaded, [completion(processor) for processor in PROCESSORS[:2]])
    wait_until(lambda: state_at(first) == "waiting", "two completions are in")
    first.kill()
    emit(loaded, *PROCESSORS[2:])

    second = start_worker()

    wait_until(lambda: state_at(second) == "done", "the night is done", timeout_s=30.0)
    assert json.loads(get(second, f"/dates/{DATE}"))["generation"] == 1


def test_a_duplicate_after_done_changes_nothing_across_a_restart(loaded, start_worker, wait_until):
    first = start_worker()
    play_the_night(loaded, first, wait_until)
    before = json.loads(get(first, f"/dates/{DATE}"))
    assert first.terminate() == 0

    second = start_worker()
    publish_raw(loaded, [completion(processor) for processor in PROCESSORS])
    duplicates = 'outcome="duplicate"'
    wait_until(lambda: get(second, "/metrics").count(duplicates) >= len(PROCESSORS), "the repeats are handled")

    after = json.loads(get(second, f"/dates/{DATE}"))
    assert before["history"] == after["history"]
    assert before["committed_at"] == after["committed_at"]


def test_health_and_the_story_of_a_date_are_served(loaded, start_worker, wait_until):
    worker = start_worker()
    play_the_night(loaded, worker, wait_until)

    answer = json.loads(get(worker, f"/dates/{DATE}"))

    assert json.loads(get(worker, "/livez")) == {"status": "ok", "faults": []}
    assert json.loads(get(worker, "/readyz")) == {"status": "ok", "faults": []}
    assert [entry["status"] for entry in answer["processors"]] == ["success"] * 4
    assert answer["history"][-1]["reason"] == "committed_done"


@pytest.mark.usefixtures("program")
def test_a_worker_over_drifted_tables_shows_them_and_stays_up(start_worker, wait_until):
    """Nothing is loaded, so every upstream table is missing; upstream may come while the worker waits."""
    worker = start_worker()

    wait_until(lambda: "mlfs_upstream_schema_faults 9.0" in get(worker, "/metrics"), "the nine faults are counted")
    assert json.loads(get(worker, "/readyz")) == {"status": "ok", "faults": []}


def test_a_second_worker_on_the_same_folder_is_refused_by_name(program, start_worker):
    first = start_worker()

    done = program.run("run")

    assert done.returncode == 4
    assert f"in use by process {first.process.pid}" in done.stderr


def test_published_features_can_be_written_to_a_file(loaded, tmp_path):
    built = loaded.json_here("build", DATE)

    written = loaded.json_here("features", DATE, "--out", str(tmp_path / "features.csv"))

    lines = (tmp_path / "features.csv").read_text(encoding="utf-8").splitlines()
    assert written["rows"] == built["row_count"] == len(lines) - 1
    assert lines[0].startswith("analysis_date,player_id,player_name,")


def test_a_replay_by_command_is_built_by_the_running_worker(loaded, start_worker, wait_until):
    """It leaves its row in the audit, and both builds are told to OpenLineage before the worker is gone."""
    events = loaded.data_dir / "events.jsonl"
    loaded.environment["MLFS_OPENLINEAGE"] = events.as_uri()
    worker = start_worker()
    play_the_night(loaded, worker, wait_until)

    done = loaded.here("replay", DATE, "--reason", "checked by hand", "--yes", "--wait", "30", "--json")

    answer = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (answer["state"], answer["generation"], answer["published_generation"]) == ("done", 2, 2)
    assert worker.terminate() == 0
    with duckdb.connect(str(loaded.data_dir / "warehouse.duckdb"), read_only=True) as connection:
        audited = connection.execute(
            "SELECT reason, mode, previous_state, previous_generation FROM nba_predictions.replay_audit"
        ).fetchall()
    assert audited == [("checked by hand", "normal", "done", 1)]
    told = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    builds = [(event["eventType"], event["run"]["facets"]["mlfs_build"]["generation"]) for event in told]
    assert builds == [("START", 1), ("COMPLETE", 1), ("START", 2), ("COMPLETE", 2)]


def test_a_range_is_replayed_by_the_running_worker_and_a_key_counts_once(loaded, start_worker):
    start_worker()
    asked = ("replay", "--from", "2024-12-12", "--to", DATE, "--only", "missing", "--reason", "first build", "--json")

    done = loaded.here(*asked, "--yes", "--wait", "30", "--concurrency", "1")
    once = ("replay", DATE, "--reason", "once", "--yes", "--wait", "30", "--idempotency-key", "k1", "--json")
    again, repeated = loaded.here(*once), loaded.here(*once)

    result = json.loads(done.stdout)
    assert (done.returncode, [row["generation"] for row in result["dates"]]) == (1, [1, 1, 1, 1]), done.stderr
    states = {row["analysis_date"]: (row["step"], row["state"]) for row in result["dates"]}
    assert states.pop("2024-12-12") == ("ended", "failed")  # the generated data begins a day later
    assert set(states.values()) == {("ended", "done")}
    assert done.stderr.count(" begun") == 4
    assert [json.loads(one.stdout)["generation"] for one in (again, repeated)] == [2, 2]
    assert json.loads(repeated.stdout)["reason"] == "asked_before"
