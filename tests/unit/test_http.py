"""What the pages answer: to a person, to Kubernetes, to Prometheus."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, time, timedelta
from typing import Protocol

import httpx
import pytest
from fastapi import FastAPI

from statemachine.model import Finding, FindingSeverity
from tests.support.memory_store import MemoryStore
from tests.support.nights import CACHE, CALENDAR, NIGHT, POLICY, PROCESSORS, claimed, committed, success
from tests.support.services import Service
from worker.app import TICK_SILENCE_MAX_S
from worker.calendar import WallClock
from worker.date_text import explanation
from worker.errors import Unavailable
from worker.http.application import HealthChecks, create_app
from worker.http.reading import DATES_LISTED_MAX
from worker.http.server import HttpServer
from worker.observing.outbox import untold_by_date
from worker.ports import Commit

DAY = timedelta(days=1)


class AbsentStore(MemoryStore):
    def dates(self, limit: int) -> Sequence[date]:
        raise Unavailable(f"no server for {limit}")

    def load(self, analysis_date: date) -> None:
        raise Unavailable(f"no server for {analysis_date}")

    def check_writable(self) -> None:
        raise Unavailable("no server")


class Open(Protocol):
    def __call__(self, *, alive: Sequence[str] = (), ready: Sequence[str] = ()) -> httpx.Client: ...


@pytest.fixture
def health() -> Iterator[Open]:
    """Serve the health pages alone, with the faults that are given."""
    with ExitStack() as stack:

        def open_pages(*, alive: Sequence[str] = (), ready: Sequence[str] = ()) -> httpx.Client:
            app = create_app(HealthChecks(alive=lambda: list(alive), ready=lambda: list(ready)), version="1")
            server = HttpServer(app, "127.0.0.1", 0)
            address = server.start()
            stack.callback(server.stop)
            return stack.enter_context(httpx.Client(base_url=address, trust_env=False))

        yield open_pages


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture
def night(service: Service) -> Service:
    """A night that was published in full."""
    for event in (*(success(name) for name in PROCESSORS), claimed(), committed()):
        service.worker.engine.apply(NIGHT, event)
    return service


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_healthy_worker_says_ok(service: Service, path: str) -> None:
    answer = service.client.get(path)

    assert (200, {"status": "ok", "faults": []}) == (answer.status_code, answer.json())


def test_a_stuck_worker_is_not_alive_and_one_without_a_bus_is_not_ready(health: Open) -> None:
    stuck = health(alive=["no sweep for 61 s"], ready=["the pull stream is not open"])

    assert (503, ["no sweep for 61 s"]) == (stuck.get("/livez").status_code, stuck.get("/livez").json()["faults"])
    assert stuck.get("/readyz").status_code == 503


def test_a_store_that_is_away_for_long_makes_no_stuck_worker() -> None:
    """A restart of every replica would cure nothing, and no sweep has hung: each has failed at once."""

    class CalendarlessStore(MemoryStore):
        def last_opened(self) -> date | None:
            raise Unavailable("no server")

    with Service(store=CalendarlessStore(), serve_loops=True) as service:
        service.worker._work._swept_at -= 10 * TICK_SILENCE_MAX_S
        assert service.worker._alive()
        with pytest.raises(Unavailable):
            service.worker._work._sweep()

        assert service.worker._alive() == []


def test_three_failed_passes_in_a_row_make_a_worker_not_ready_until_one_succeeds(service: Service) -> None:
    passes = service.worker._passes
    answers = []
    for error in (*[Unavailable("no server")] * 3, None):
        passes.note("relay", error)
        answers.append(service.client.get("/readyz"))

    assert [200, 200, 503, 200] == [answer.status_code for answer in answers]
    assert answers[2].json()["faults"] == ["relay failed 3 times in a row, last with Unavailable: no server"]


def test_ticks_that_fail_make_a_push_service_not_ready() -> None:
    class CalendarlessStore(MemoryStore):
        away = True

        def last_opened(self) -> date | None:
            if self.away:
                raise Unavailable("no server")
            return super().last_opened()

    store = CalendarlessStore()
    with Service(store=store) as service:
        ticks = [service.client.post("/tick").status_code for _ in range(3)]
        not_ready = service.client.get("/readyz")
        store.away = False
        service.client.post("/tick")
        ready = service.client.get("/readyz")

    assert ([503] * 3, 503, 200) == (ticks, not_ready.status_code, ready.status_code)
    assert not_ready.json()["faults"] == ["tick failed 3 times in a row, last with Unavailable: no server"]


def test_without_the_store_a_worker_is_alive_and_not_ready() -> None:
    with Service(store=AbsentStore()) as service:
        assert (200, 503) == tuple(service.client.get(path).status_code for path in ("/livez", "/readyz"))


def test_the_dates_are_listed_newest_first(night: Service) -> None:
    night.worker.engine.apply(date(2024, 12, 16), success(CACHE))

    answer = night.client.get("/dates")

    rows = [(row["analysis_date"], row["state"], row["quality_score"]) for row in answer.json()]
    assert [("2024-12-16", "waiting", None), ("2024-12-15", "done", 99.9)] == rows


def test_the_list_of_dates_is_bounded(service: Service) -> None:
    for day in range(1, DATES_LISTED_MAX + 1):
        service.worker.engine.apply(date(2024, 12, day), success(CACHE))
    service.worker.engine.apply(date(2024, 11, 30), success(CACHE))

    assert DATES_LISTED_MAX == len(service.client.get("/dates").json())


def test_one_date_is_explained_with_its_history(night: Service) -> None:
    answer = night.client.get("/dates/2024-12-15").json()

    assert ("done", 1, []) == (answer["state"], answer["generation"], answer["missing"])
    assert ["recorded"] * 3 + ["join_complete", "claimed", "committed_done"] == [
        entry["reason"] for entry in answer["history"]
    ]
    assert "done: 450 rows, score 99.9, fallback 0.0%, no findings, published as generation 1" == answer["headline"]
    untold = untold_by_date(night.store).get(NIGHT)
    told = explanation(night.store.load(NIGHT), night.clock.now(), POLICY, CALENDAR.zone, untold)
    assert told == {name: answer[name] for name in told}
    assert answer["history"] == night.client.get("/dates/2024-12-15/history").json()


@pytest.mark.parametrize("severity", [None, *FindingSeverity])
def test_the_findings_of_a_date_are_told_as_shown_everywhere(night: Service, severity: FindingSeverity | None) -> None:
    record = night.store.load(NIGHT)
    finding = severity and Finding(
        check="shifted",
        severity=severity,
        subject="pace",
        observed="PSI 1.9",
        expected="below 0.25",
        next_step="mlfs profile 2024-12-15 pace",
        processor=CACHE,
    )
    doubted = replace(
        record, version=record.version + 1, result=replace(record.result, findings=(finding,) if finding else None)
    )
    assert night.store.commit(Commit(record=doubted, operation_id="doubted"))

    answer = night.client.get("/dates/2024-12-15/findings").json()

    assert answer == {
        "analysis_date": "2024-12-15",
        "weekday": "Sunday",
        "state": "done",
        "published_generation": 1,
        "quality_score": 99.9,
        "severity": None,
        "findings": finding
        and [
            {
                "check": "shifted",
                "severity": severity,
                "subject": "pace",
                "observed": "PSI 1.9",
                "expected": "below 0.25",
                "next_step": "mlfs profile 2024-12-15 pace",
            }
        ],
    }
    for path in ("/dates/2024-12-15", "/dates"):
        told = night.client.get(path).json()
        assert answer["findings"] == (told[0] if path == "/dates" else told)["findings"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dates/2024-12-14", 404),
        ("/dates/2024-12-14/findings", 404),
        ("/dates/2024-12-14/history", 404),
        ("/dates/2024-02-30", 422),
        ("/dates/20241215", 422),
        ("/dates/2024-W50-7", 422),
        ("/dates/yesterday", 404),
        ("/dates/yesterday/history", 404),
        ("/dates/tomorrow", 422),
        ("/dates/２０２４-１２-１５", 422),  # noqa: RUF001 - digits that are not ASCII
        ("/dates/2024-12-15%0A", 422),
        ("/dates/..%2Fetc", 404),
        ("/nothing", 404),
    ],
)
def test_what_is_no_known_date_is_the_callers_fault(night: Service, path: str, status: int) -> None:
    answer = night.client.get(path)

    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


def test_a_problem_names_the_date_and_the_next_step(service: Service) -> None:
    problem = service.client.get("/dates/2024-12-14").json()

    assert {
        "type": "urn:mlfs:problem:not-found",
        "title": "Not here",
        "status": 404,
        "detail": "Saturday 2024-12-14 was never opened",
        "next": "GET /dates lists the dates; the paths are in /openapi.json",
        "analysis_date": "2024-12-14",
    } == problem


@pytest.mark.parametrize("path", ["/dates", "/dates/2024-12-15", "/dates/2024-12-15/history"])
def test_without_the_store_the_dates_are_unavailable(path: str) -> None:
    with Service(store=AbsentStore()) as service:
        answer = service.client.get(path)

    assert (503, "5") == (answer.status_code, answer.headers["retry-after"])
    assert "no server" in answer.json()["detail"]


def test_a_damaged_record_is_shown_as_such_and_hides_no_other_date(night: Service) -> None:
    night.store._records[date(2024, 12, 16)] = (1, "operation", b"damaged")

    assert ["corrupt", "done"] == [row["state"] for row in night.client.get("/dates").json()]
    assert night.client.get("/dates/2024-12-16").status_code == 500
    assert night.client.get("/dates/2024-12-15").status_code == 200


def test_a_method_that_is_not_there_is_told(night: Service) -> None:
    answers = [night.client.post("/dates"), night.client.delete("/dates/2024-12-15"), night.client.get("/tick")]

    assert [405] * 3 == [answer.status_code for answer in answers]


def test_metrics_are_served_in_the_text_format(service: Service) -> None:
    answer = service.client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    assert "mlfs_build_info{" in answer.text


def test_a_fault_of_ours_is_told_without_its_inside(service: Service) -> None:
    def broken(_limit: int) -> Sequence[date]:
        raise RuntimeError("password=hunter2")

    service.store.dates = broken
    answer = service.client.get("/dates")

    assert (500, "urn:mlfs:problem:fault") == (answer.status_code, answer.json()["type"])
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(("setting", "named"), [({}, "MLFS_HTTP_PORT"), ({"setting": "MLFS_X"}, "MLFS_X")])
def test_a_taken_port_is_told_with_its_cure(health: Open, setting: dict[str, str], named: str) -> None:
    port = health().base_url.port
    assert port is not None

    with pytest.raises(Unavailable, match=named):
        HttpServer(FastAPI(), "127.0.0.1", port, **setting).start()


def test_machines_and_people_can_be_kept_on_a_listener_each() -> None:
    with Service(admin_port=0, listens=True) as service:
        front, back = service.client, service.worker.addresses[1]
        outside = {path: front.get(path).status_code for path in ("/dates", "/metrics", "/livez", "/readyz")}
        outside["/process"] = front.post("/process", json={"analysis_date": "2024-12-15"}).status_code
        tick = front.post("/tick").status_code
        inside = [httpx.get(f"{back}{path}", trust_env=False).status_code for path in ("/dates", "/metrics", "/livez")]
        machines = [httpx.post(f"{back}{path}", trust_env=False).status_code for path in ("/pubsub/push", "/tick")]

    assert {"/dates": 404, "/metrics": 404, "/process": 404, "/livez": 200, "/readyz": 200} == outside
    assert (200, [200] * 3, [404] * 2) == (tick, inside, machines)


@pytest.mark.parametrize("root", ["dates", "nights"])
def test_today_tonight_and_yesterday_are_dates_in_every_path(night: Service, root: str) -> None:
    today = CALENDAR.tonight(night.clock.now())
    named = {"today": today, "tonight": today, "yesterday": today - timedelta(days=1)}
    for name, day in named.items():
        answers = [night.client.get(f"/{root}/{word}") for word in (name, day.isoformat())]

        assert answers[0].status_code == answers[1].status_code
        assert str(day) in answers[0].text


@pytest.mark.parametrize("moment", ["00:00", "05:59", "06:00", "11:59", "12:00", "23:59"])
def test_a_word_names_the_same_date_and_weekday_in_every_route(night: Service, moment: str) -> None:
    night.clock.instant = CALENDAR.at(NIGHT + DAY, WallClock(0, time.fromisoformat(moment)))
    tonight = CALENDAR.tonight(night.clock.instant)
    named = {"today": tonight, "tonight": tonight, "yesterday": tonight - DAY}

    for word, day in named.items():
        answer = night.client.post("/process", json={"analysis_date": word}).json()
        read = night.client.get(f"/dates/{word}").json()
        assert [(str(day), f"{day:%A}")] * 2 == [(it["analysis_date"], it["weekday"]) for it in (answer, read)]
        page = night.client.get(f"/nights/{word}").text
        title = "Tonight" if day == tonight else "Night"
        assert f'{title}, <time datetime="{day}">{day:%A} {day}</time>' in page


@pytest.mark.parametrize("word", ["today", "tonight"])
@pytest.mark.parametrize("moment", ["00:00", "05:59"])
def test_soon_after_midnight_a_request_that_changes_tonight_is_asked_for_the_date(
    night: Service, moment: str, word: str
) -> None:
    night.clock.instant = CALENDAR.at(NIGHT + DAY, WallClock(0, time.fromisoformat(moment)))
    before = night.store.load(NIGHT)
    body = {"reason": "because"}
    form, own = {"reason": "because", "key": "k", "confirmed": "on"}, {"Origin": "http://127.0.0.1"}

    answers = [
        night.client.post(f"/dates/{word}/replay", json=body),
        night.client.post(f"/dates/{word}/replay", json={**body, "dry_run": True}),
        night.client.post(f"/dates/{word}/cancel", json=body),
        night.client.post(f"/dates/{word}/retract", json={**body, "processor": CACHE}),
        night.client.post(f"/nights/{word}/replay", data=form, headers=own),
    ]

    both = f"{NIGHT} or {NIGHT + DAY}"
    assert [422] * 5 == [answer.status_code for answer in answers]
    assert ["urn:mlfs:problem:two-dates"] * 4 == [answer.json()["type"] for answer in answers[:4]]
    assert all(both in answer.json()["next"] for answer in answers[:4])
    assert [True] * 5 == [
        "Sunday 2024-12-15" in answer.text and "Monday 2024-12-16" in answer.text for answer in answers
    ]
    assert (before, []) == (night.store.load(NIGHT), night.warehouse.audits)


@pytest.mark.parametrize(("moment", "day"), [("06:00", NIGHT), ("11:59", NIGHT), ("12:00", NIGHT + DAY)])
def test_from_six_on_a_request_that_changes_today_takes_the_date_that_readers_name(
    night: Service, moment: str, day: date
) -> None:
    night.clock.instant = CALENDAR.at(NIGHT + DAY, WallClock(0, time.fromisoformat(moment)))

    answer = night.client.post("/dates/today/replay", json={"reason": "because"})

    assert 202 == answer.status_code
    assert (str(day), f"{day:%A}") == (answer.json()["analysis_date"], answer.json()["weekday"])


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        ({}, "body.analysis_date", "is missing"),
        ({"analysis_date": "2024-02-30"}, "body.analysis_date", "must be a day of the calendar, like 2024-12-15"),
        (
            {"analysis_date": "tomorrow"},
            "body.analysis_date",
            "must be a date like 2024-12-15, or today, tonight or yesterday",
        ),
        ({"analysis_date": 20241215}, "body.analysis_date", "must be a date like 2024-12-15, or a text"),
        ({"analysis_date": "today", "force_phase3_fallback": 1}, "body.force_phase3_fallback", "must be true or false"),
        ([], "body", "must be a JSON object"),
    ],
    ids=str,
)
def test_wrong_input_is_told_in_plain_words(service: Service, body: object, where: str, what: str) -> None:
    answer = service.client.post("/process", json=body)
    [fault] = answer.json()["errors"]

    assert answer.status_code == 422
    assert (fault["where"], fault["what"].startswith(what)) == (where, True), fault
    assert answer.json()["detail"] == f"{where}: {fault['what']}"


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("/process", "{", "body: must be JSON"),
        ("/dates/2024-12-15/replay", '{"reason": " "}', "body.reason: must be more than white space"),
        ("/dates/2024-12-15/replay", '{"reason": ""}', "body.reason: must be 1 characters or more"),
        ("/dates/2024-12-15/replay", '{"reason": 1}', "body.reason: must be a text"),
        ("/dates/2024-12-15/replay", '{"reason": "x", "by": 1}', "body.by: is not known here; leave it out"),
        ("/dates/someday/replay", '{"reason": "x"}', "path.analysis_date: must be a date like 2024-12-15"),
    ],
)
def test_every_kind_of_wrong_input_has_its_words(service: Service, path: str, content: str, told: str) -> None:
    answer = service.client.post(path, content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert told in answer.json()["detail"].split("; ") or answer.json()["detail"] == told


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    ["/dates/2024-12-15/", "/dates/", "/livez/", "/process/", "/dates/2024-12-15/replay/", "/dates%2F2024-12-15"],
)
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1"])
def test_a_path_that_is_not_quite_ours_sends_nobody_elsewhere(
    night: Service, method: str, path: str, host: str
) -> None:
    answer = night.client.request(method, path, headers={"Host": host})

    assert (404, None) == (answer.status_code, answer.headers.get("location"))


def test_head_is_get_without_the_body(night: Service) -> None:
    paths = [
        path.replace("{analysis_date}", NIGHT.isoformat())
        for path, operations in night.client.get("/openapi.json").json()["paths"].items()
        if "get" in operations
    ]
    assert len(paths) > 5

    for path in [*paths, "/openapi.json", "/nothing", "/dates/nonsense"]:
        get, head = night.client.get(path), night.client.head(path)
        assert (path, get.status_code, b"") == (path, head.status_code, head.content)
        assert get.headers["content-type"] == head.headers["content-type"]
    assert night.client.head("/process").status_code == 405
