"""`mlfs serve` as a process: a night by requests alone, on the embedded store and warehouse."""

import json

import httpx
import pytest

from tests.support.programs import COMMAND
from tests.support.services import envelope, event

DATE = "2024-12-15"
PROCESSORS = (
    "team_defense_zone_analysis",
    "player_shot_zone_analysis",
    "player_composite_factors",
    "player_daily_cache",
)


@pytest.fixture
def serving(loaded, tmp_path, wait_until):
    """A running `mlfs serve` with generated data; stopped at the end."""
    worker = loaded.launch(tmp_path / "serve.log", *COMMAND, "serve")
    wait_until(lambda: worker.address() or worker.process.poll() is not None, "the service starts", timeout_s=30.0)
    assert worker.address(), worker.log_path.read_text(encoding="utf-8")
    yield worker
    if worker.process.poll() is None:
        worker.terminate()


def test_a_night_by_requests_alone_and_a_clean_stop(program, serving):
    with httpx.Client(base_url=serving.address(), timeout=60) as client:
        pushed = [
            client.post("/pubsub/push", json=envelope(event(processor), message_id=processor)).status_code
            for processor in PROCESSORS
        ]
        parked = client.post("/pubsub/push", json=envelope(b"completed!")).status_code
        ticked = client.post("/tick").json()
        key = {"Idempotency-Key": "replay-1"}
        replays = [
            client.post(f"/dates/{DATE}/replay", json={"reason": "repaired"}, headers=key).json() for _ in range(2)
        ]
        processed = client.post("/process", json={"analysis_date": DATE})
        health = [client.get(path).status_code for path in ("/livez", "/readyz", "/metrics")]
    stopped = serving.terminate()
    status = program.json_here("status", DATE)

    assert ([204] * 4, 204, [200] * 3, 0) == (pushed, parked, health, stopped)
    assert {(DATE, "done", 1)} <= {(one["analysis_date"], one["state"], one["generation"]) for one in ticked["built"]}
    assert (2, "ready", replays[0]) == (replays[0]["generation"], replays[0]["state"], replays[1])
    body = processed.json()
    assert (200, "done", 2, 2) == (processed.status_code, body["state"], body["generation"], status["generation"])
    assert ticked["published"] >= 1
    assert any(line["message"] == "audit" and line["audit"] is True for line in serving.log_lines())


def test_it_refuses_to_start_where_anybody_could_call(program):
    program.environment["MLFS_HTTP_HOST"] = "0.0.0.0"  # noqa: S104

    done = program.run("serve")

    assert done.returncode == 2
    assert "MLFS_PUSH_AUDIENCE" in done.stderr
    assert not program.data_dir.exists(), "nothing was started"


@pytest.mark.usefixtures("loaded")
def test_a_worker_that_pulls_can_be_asked_to_process_too(start_worker):
    worker = start_worker()

    answer = httpx.post(f"{worker.address()}/process", json={"analysis_date": DATE}, timeout=60)

    assert (200, "done", 1) == (answer.status_code, answer.json()["state"], answer.json()["generation"])
    assert httpx.post(f"{worker.address()}/pubsub/push", content=b"{}", timeout=10).status_code == 404
    assert json.loads(httpx.get(f"{worker.address()}/readyz", timeout=10).text)["faults"] == []
