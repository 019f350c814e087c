"""The shipped Cloud Workflow, executed by workflows-emulator against the real HTTP API.

What the emulator lacks stands in `tests/support/workflows.py`. Identity tokens are therefore checked in the file alone;
that Google issues them as asked, and that Cloud Run lets them in, has not been seen.
"""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import jsonschema
import pytest
import yaml

from statemachine.model import State
from tests.conftest import WaitUntil
from tests.support.nights import CACHE, CALENDAR, DEFENSE, EVENING, FACTORS, NIGHT, NO_ROWS, PROCESSORS, SHOTS
from tests.support.programs import COMMAND, Program
from tests.support.rigs import ModelClock
from tests.support.services import Service, envelope, event
from tests.support.workflows import SOURCE, Neighbours, calls, execute
from worker.errors import Unavailable

DATE = NIGHT.isoformat()
TONIGHT = {"analysis_date": DATE}


@pytest.fixture
def neighbours() -> Iterator[Neighbours]:
    with Neighbours() as running:
        yield running


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(clock=ModelClock(EVENING), listens=True) as running:
        yield running


def address(service: Service) -> str:
    return str(service.client.base_url).rstrip("/")


def outcome(result: dict[str, Any]) -> tuple[str, str, int]:
    return result["analysis_date"], result["state"], result["generation"]


def test_an_evening_on_the_real_program_ends_as_done(
    loaded: Program, neighbours: Neighbours, tmp_path: Path, wait_until: WaitUntil
) -> None:
    worker = loaded.launch(tmp_path / "serve.log", *COMMAND, "serve")
    wait_until(lambda: worker.address() or worker.process.poll() is not None, "the service starts", timeout_s=30.0)
    mlfs = worker.address()
    assert mlfs, worker.log_path.read_text(encoding="utf-8")

    def runs_and_reports(processor: str, _date: str) -> tuple[int, dict[str, Any]]:
        pushed = httpx.post(f"{mlfs}/pubsub/push", json=envelope(event(processor), message_id=processor), timeout=10)
        return 200, {"row_count": 400, "pushed": pushed.status_code}

    neighbours.answer = runs_and_reports
    try:
        first = execute(tmp_path, mlfs, neighbours, TONIGHT).result
        second = execute(tmp_path, mlfs, neighbours, TONIGHT, GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID="execution-2").result
    finally:
        worker.terminate()

    assert (DATE, "done", 1) == outcome(first) == outcome(second)
    assert {"analysis_date", "state", "row_count", "quality_score", "generation", "processors"} == set(first)
    assert (449, True) == (first["row_count"], first["quality_score"] > 99)
    assert dict.fromkeys(PROCESSORS, ("success", 400)) == {
        name: (end["status"], end["row_count"]) for name, end in first["processors"].items()
    }
    assert [] == neighbours.told


def test_set_2_begins_when_both_of_set_1_have_ended(service: Service, neighbours: Neighbours, tmp_path: Path) -> None:
    execute(tmp_path, address(service), neighbours, TONIGHT)

    names = [name for name, _ in neighbours.started]
    assert ({DEFENSE, SHOTS}, {FACTORS, CACHE}) == (set(names[:2]), set(names[2:]))


def test_a_processor_that_fails_stops_nobody(service: Service, neighbours: Neighbours, tmp_path: Path) -> None:
    service.warehouse.rows = {**service.warehouse.rows, CACHE: 0}
    neighbours.answer = lambda name, _: (400, {}) if name == CACHE else (200, {"row_count": 400})

    result = execute(tmp_path, address(service), neighbours, TONIGHT).result

    assert (DATE, "degraded", 1) == outcome(result)
    assert "failed" == result["processors"][CACHE]["status"]
    assert "400" in result["processors"][CACHE]["error"]


def test_a_night_below_the_gate_fails_the_execution_and_tells_why(
    service: Service, neighbours: Neighbours, tmp_path: Path
) -> None:
    service.warehouse.rows, service.warehouse.players = dict(NO_ROWS), 0

    execution = execute(tmp_path, address(service), neighbours, TONIGHT)

    assert 0 != execution.returncode
    assert [f"{DATE} failed ("] == [told["text"][: len(DATE) + 9] for told in neighbours.told]
    assert ("failed", ["DateFailed"]) == (neighbours.told[0]["error"]["state"], neighbours.told[0]["error"]["tags"])
    assert ("failed", 1) == service.state()


def test_a_service_that_is_away_for_a_moment_is_asked_again(
    service: Service, neighbours: Neighbours, tmp_path: Path
) -> None:
    load, refused = service.store.load, iter([1, 2])

    def away_twice(day: Any) -> Any:
        if next(refused, None):
            raise Unavailable("no server")
        return load(day)

    service.store.load = away_twice

    execution = execute(tmp_path, address(service), neighbours, TONIGHT)

    assert (DATE, "done", 1) == outcome(execution.result)
    assert [] == list(refused)


def test_a_build_that_is_tried_again_later_is_waited_for(
    service: Service, neighbours: Neighbours, tmp_path: Path, wait_until: WaitUntil
) -> None:
    service.warehouse.faults["stage"] = [Unavailable("the warehouse is away")]

    def has_failed_once() -> bool:
        record = service.store.load(NIGHT)
        return record is not None and (record.state, record.attempt) == (State.READY, 1)

    def minutes_pass() -> None:
        wait_until(has_failed_once, "the first attempt has failed", timeout_s=30.0)
        service.clock.forward(timedelta(minutes=5))
        service.tick()

    passing = threading.Thread(target=minutes_pass)
    passing.start()
    execution = execute(tmp_path, address(service), neighbours, TONIGHT)
    passing.join(30)

    assert (DATE, "done", 1) == outcome(execution.result)


def test_an_execution_does_not_wait_for_ever(service: Service, neighbours: Neighbours, tmp_path: Path) -> None:
    service.warehouse.faults["stage"] = [Unavailable("the warehouse is away")]

    execution = execute(tmp_path, address(service), neighbours, TONIGHT, POLLS_MAX="0")

    assert 0 != execution.returncode
    assert [f"{DATE} is still ready, this execution stops waiting"] == [told["text"] for told in neighbours.told]


def test_a_refusal_is_told_with_its_reason(service: Service, neighbours: Neighbours, tmp_path: Path) -> None:
    """Here of an address that has no such path; what a missing token is answered, the emulator's client swallows."""
    execution = execute(tmp_path, f"{address(service)}/elsewhere", neighbours, TONIGHT)

    told = neighbours.told[0]["error"]
    assert 0 != execution.returncode
    assert (404, ["NotTaken"]) == (told["http_status"], told["tags"])
    assert "urn:mlfs:problem:not-found" in json.dumps(told["body"])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("2024-02-30", "there is no day 2024-02-30"),
        ("15.12.2024", "analysis_date must be written like 2024-12-15, not 15.12.2024"),
        (20241215, "analysis_date must be a text like 2024-12-15"),
    ],
)
def test_what_is_no_date_starts_nothing(given: object, why: str, neighbours: Neighbours, tmp_path: Path) -> None:
    execution = execute(tmp_path, "http://127.0.0.1:9", neighbours, {"analysis_date": given})

    assert 0 != execution.returncode
    assert ([why], []) == ([told["text"] for told in neighbours.told], neighbours.started)


def test_without_a_date_it_is_tonight_on_the_leagues_wall_clock(neighbours: Neighbours, tmp_path: Path) -> None:
    zone = ZoneInfo("America/New_York")

    def tonight() -> str:
        return str(CALENDAR.tonight(datetime.now(UTC)))  # noqa: TID251 - the emulator's clock is the machine's

    before = tonight()
    evening = datetime.fromisoformat(f"{before}T23:10:00").replace(tzinfo=zone).astimezone(UTC)
    with Service(clock=ModelClock(evening), listens=True) as service:
        result = execute(tmp_path, address(service), neighbours, {}).result

    assert result["analysis_date"] in {before, tonight()}
    assert {result["analysis_date"]} == {day for _, day in neighbours.started}
    assert ("done", 1) == (result["state"], result["generation"])


def test_the_shipped_file_keeps_the_published_syntax_and_signs_its_calls() -> None:
    workflow = yaml.safe_load(SOURCE.read_text("utf-8"))
    schema = json.loads(resources.files("workflows_emulator").joinpath("workflow-schema.json").read_text("utf-8"))
    jsonschema.validate(workflow, schema)

    signed = [call["args"].get("auth") for call in calls(workflow) if "NOTIFY_URL" not in call["args"]["url"]]
    assert [{"type": "OIDC", "audience": "${base_url}"}] * 3 == signed
