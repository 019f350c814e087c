"""Process, replay, cancel: through the state machine, audited before they take effect, once under one key."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from statemachine.model import DateRecord, State
from tests.support.memory_requests import MemoryRequests
from tests.support.nights import CACHE, DEADLINE, EVENING, NIGHT, NO_ROWS, PROCESSORS, claimed, success
from tests.support.rigs import LedgerWarehouse, Rig, repair_of
from tests.support.services import Service
from worker.builds.queue import BackgroundBuilds, BuildQueue
from worker.errors import Fatal, Unavailable
from worker.interventions.audit import Auditor
from worker.interventions.idempotency import KEEP, PENDING, IdempotentRequests, KeyInUse, StoredResponse
from worker.interventions.process import WAITING_MAX, Processing

REPLAY, CANCEL = f"/dates/{NIGHT}/replay", f"/dates/{NIGHT}/cancel"
RETRACT = f"/dates/{NIGHT}/retract"
ASKED = {"analysis_date": NIGHT.isoformat()}
REPAIRED = {"reason": "daily cache was repaired"}


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture(scope="module")
def untouched() -> Iterator[Service]:
    """For requests that must not do anything."""
    with Service() as running:
        yield running


def process(service: Service, **fields: Any) -> httpx.Response:
    return service.client.post("/process", json={**ASKED, **fields})


def facts(answer: httpx.Response) -> tuple[int, str, int]:
    body = answer.json()
    return answer.status_code, body["state"], body["generation"]


# --- process ---------------------------------------------------------------------------------------------------------


def test_a_date_nobody_has_heard_of_is_opened_built_and_told(service: Service) -> None:
    answer = process(service)

    body = answer.json()
    assert (200, "2024-12-15", "done", 450, 1) == (
        answer.status_code,
        body["analysis_date"],
        body["state"],
        body["row_count"],
        body["generation"],
    )
    assert body["quality_score"] > 99
    assert [("done", 1)] == service.told()


def test_the_call_of_the_workflow_is_understood_as_it_is(service: Service) -> None:
    completions = dict.fromkeys(PROCESSORS, 400)

    assert (200, "done", 1) == facts(process(service, upstream_completions=completions))


def test_the_call_of_the_scheduler_is_understood_as_it_is(service: Service) -> None:
    headers = {"Content-Type": "application/octet-stream", "User-Agent": "Google-Cloud-Scheduler"}
    answer = service.client.post("/process", content=b'{"analysis_date": "2024-12-15"}', headers=headers)

    assert (200, "done", 1) == facts(answer)


@pytest.mark.parametrize(("word", "day"), [("today", date(2024, 12, 15)), ("yesterday", date(2024, 12, 14))])
def test_a_scheduler_that_cannot_compute_dates_says_today(service: Service, word: str, day: date) -> None:
    answer = process(service, analysis_date=word)

    assert day.isoformat() == answer.json()["analysis_date"]


def test_a_date_that_is_done_is_reported_and_not_built_again(service: Service) -> None:
    answers = [facts(process(service)) for _ in range(3)]

    assert [(200, "done", 1)] * 3 == answers
    assert 1 == len(service.warehouse.published)


def test_forced_fallback_always_builds_anew(service: Service) -> None:
    answers = [facts(process(service, force_phase3_fallback=forced)) for forced in (False, True, True)]

    assert [(200, "done", 1), (200, "degraded", 2), (200, "degraded", 3)] == answers


def test_a_waiting_date_is_built_with_what_is_there(service: Service) -> None:
    service.warehouse.rows[CACHE] = 0
    service.push(PROCESSORS[0])

    assert (200, "degraded", 1) == facts(process(service))


def test_a_degraded_date_is_built_again_once_an_empty_table_has_rows(service: Service) -> None:
    service.warehouse.rows[CACHE] = 0
    first, again = facts(process(service)), facts(process(service))
    service.warehouse.rows[CACHE] = 400
    filled = facts(process(service))

    assert [(200, "degraded", 1), (200, "degraded", 1), (200, "done", 2)] == [first, again, filled]


def test_a_date_that_fails_is_a_problem_that_still_tells_the_figures(service: Service) -> None:
    service.warehouse.players = 0
    answer = process(service)

    body = answer.json()
    assert (409, "urn:mlfs:problem:date-failed", "failed", None) == (
        answer.status_code,
        body["type"],
        body["state"],
        body["row_count"],
    )
    assert ("no_roster", True) == (body["failure"]["because"], REPLAY in body["next"])
    assert [("failed", 1)] == service.told()


def test_a_date_that_hangs_holds_up_no_other_and_says_so_to_its_own_callers() -> None:
    """The audit row of one night waits in a warehouse that does not answer."""
    rig, warehouse, gate, hangs = Rig(), LedgerWarehouse(), threading.Event(), threading.Event()
    other = NIGHT - timedelta(days=1)

    def log_replay(row: Mapping[str, Any]) -> None:
        if row["analysis_date"] == other:
            hangs.set()
            gate.wait(30)

    desk = Processing(
        store=rig.store,
        auditor=Auditor(engine=rig.engine, log_replay=log_replay, clock=rig.clock),
        repair=repair_of(rig, warehouse),
        builds=BackgroundBuilds(BuildQueue(), lambda _day: None, lambda _error: None),
        probe=lambda _day: {},
        clock=rig.clock,
        stopwatch=lambda: 0.0,
        pause=lambda _seconds: None,
        publish_outcomes=lambda: None,
    )

    def ask(day: date) -> DateRecord:
        return desk.process(day, forced=False, actor="ana", idempotency_key=None, wait_s=0.0)

    hanging = threading.Thread(target=ask, args=(other,), daemon=True)
    hanging.start()
    assert hangs.wait(10)
    try:
        assert State.READY is ask(NIGHT).state
        with pytest.raises(Unavailable, match="not decided yet"):
            ask(other)
    finally:
        gate.set()
        hanging.join(10)


def test_a_failed_date_is_tried_again(service: Service) -> None:
    service.warehouse.players = 0
    process(service)
    service.warehouse.players = 450

    assert (200, "done", 2) == facts(process(service))


def test_a_cancelled_date_stays_cancelled(service: Service) -> None:
    service.client.post(CANCEL, json={"reason": "bad source"})
    answer = process(service)

    assert (409, "urn:mlfs:problem:refused") == (answer.status_code, answer.json()["type"])
    assert "bad source" in answer.json()["detail"]


def test_an_attempt_that_is_minutes_away_is_not_waited_for(service: Service) -> None:
    service.warehouse.faults["stage"] = [Unavailable("the warehouse is away")]
    answer = process(service)

    assert (202, "ready", 1) == facts(answer)
    assert f"/dates/{NIGHT}" == answer.headers["location"]


def test_a_build_in_other_hands_is_waited_for_and_then_told_where_to_look() -> None:
    with Service(request_wait_s=1.0) as service:
        for name in PROCESSORS:
            service.worker.engine.apply(NIGHT, success(name))
        service.worker.engine.apply(NIGHT, claimed("another worker"))
        answer = process(service)
        forced = process(service, force_phase3_fallback=True)

    assert (202, "running", 1) == facts(answer)
    assert (409, "take over" in forced.json()["detail"]) == (forced.status_code, True)


def test_callers_at_the_same_moment_start_one_build(service: Service) -> None:
    together = threading.Barrier(4)
    answers: list[tuple[int, str, int]] = []

    def call() -> None:
        together.wait(10)
        answers.append(facts(process(service)))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)

    assert [(200, "done", 1)] * 4 == answers
    assert 1 == len(service.warehouse.published)


def test_a_build_that_another_process_starts_meanwhile_is_waited_for() -> None:
    with Service(request_wait_s=1.0) as service:

        def overtaken(_row: Any) -> None:
            for event in (*(success(name) for name in PROCESSORS), claimed("another worker")):
                service.worker.engine.apply(NIGHT, event)

        service.worker.listeners.processing._auditor._log_replay = overtaken
        answer = process(service)

    assert (202, "running", 1) == facts(answer)


def test_no_more_callers_wait_than_leave_room_for_others(service: Service) -> None:
    processing = service.worker.listeners.processing
    for _ in range(WAITING_MAX):
        assert processing._waiting.acquire(blocking=False)

    assert 503 == process(service).status_code
    assert 200 == service.client.get("/livez").status_code


def test_a_damaged_record_is_begun_anew(service: Service) -> None:
    service.push_all()
    service.store._records[NIGHT] = (4, "operation", b"damaged")

    assert (200, "done", 1) == facts(process(service))


def test_what_the_ledger_holds_is_not_built_again_after_the_store_was_lost(service: Service) -> None:
    process(service)
    with Service() as amnesiac:
        amnesiac.warehouse.ledger = service.warehouse.ledger
        answer = facts(process(amnesiac))

    assert ((200, "done", 1), []) == (answer, amnesiac.warehouse.published)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"analysis_date": "2024-02-30"}, 422),
        ({"analysis_date": "20241215"}, 422),
        ({"analysis_date": 20241215}, 422),
        ({"analysis_date": None}, 422),
        ({"analysis_date": "2024-12-15' OR 1=1"}, 422),
        ({"analysis_date": "tomorrow"}, 422),
        ({**ASKED, "force_phase3_fallback": "true"}, 422),
        ({**ASKED, "force_phase3_fallback": 1}, 422),
        ({"analysis_date": "1999-12-31"}, 409),
        ({"analysis_date": "2025-01-15"}, 409),
        ([], 422),
    ],
    ids=str,
)
def test_a_wrong_body_is_refused_and_opens_nothing(untouched: Service, body: Any, status: int) -> None:
    answer = untouched.client.post("/process", json=body)

    assert (status, []) == (answer.status_code, untouched.store.dates(9))


# --- replay and cancel -----------------------------------------------------------------------------------------------


def test_a_replay_as_of_an_instant_is_audited_stored_and_the_same_request_under_its_key(service: Service) -> None:
    def ask(as_of: str) -> httpx.Response:
        body = {"reason": "as the evening saw it", "as_of": as_of}
        return service.client.post(REPLAY, json=body, headers={"Idempotency-Key": "k1"})

    first, again, other = ask("2024-12-15T17:00:00-05:00"), ask("2024-12-15T22:00:00Z"), ask("2024-12-15T23:00:00Z")

    assert (202, "2024-12-15T22:00:00+00:00") == (first.status_code, first.json()["as_of"])
    assert (first.json(), 409) == (again.json(), other.status_code)
    assert [datetime(2024, 12, 15, 22, tzinfo=UTC)] == [row["as_of"] for row in service.warehouse.audits]


@pytest.mark.parametrize(
    ("as_of", "says"),
    [
        (1734300000, "must be an instant like"),
        ("2024-12-15", "has no zone"),
        ("0042-12-15T00:00:00Z", "is not in the years"),
        ("soon", "is no instant"),
    ],
)
def test_what_is_no_instant_limits_nothing(service: Service, as_of: object, says: str) -> None:
    answer = service.client.post(REPLAY, json={"reason": "because", "as_of": as_of})

    assert 422 == answer.status_code
    assert says in answer.json()["detail"]


def test_a_replay_is_accepted_and_built_by_the_next_tick(service: Service) -> None:
    process(service)
    answer = service.client.post(REPLAY, json=REPAIRED)
    service.tick()

    assert (202, "ready", 2) == facts(answer)
    assert (f"/dates/{NIGHT}", True) == (answer.headers["location"], answer.json()["applied"])
    assert ("done", 2) == service.state()


def test_a_dry_run_says_what_would_happen_and_changes_nothing(service: Service) -> None:
    process(service)
    answer = service.client.post(REPLAY, json={**REPAIRED, "dry_run": True})

    assert (200, "ready", 2) == facts(answer)
    assert (False, ("done", 1), 1) == (answer.json()["applied"], service.state(), len(service.warehouse.audits))


def test_a_running_build_is_taken_over_only_by_force(service: Service) -> None:
    for name in PROCESSORS:
        service.worker.engine.apply(NIGHT, success(name))
    service.worker.engine.apply(NIGHT, claimed("another worker"))
    refused = service.client.post(REPLAY, json=REPAIRED)
    forced = service.client.post(REPLAY, json={**REPAIRED, "force": True})

    assert (409, (202, "ready", 2)) == (refused.status_code, facts(forced))


def test_a_cancel_stops_a_date_and_is_told(service: Service) -> None:
    service.push_all()
    answer = service.client.post(CANCEL, json={"reason": "bad source"})

    assert (200, "failed", 1) == facts(answer)
    assert [("failed", 1)] == service.told()


def test_a_cancel_of_what_has_ended_is_refused(service: Service) -> None:
    process(service)
    answer = service.client.post(CANCEL, json={"reason": "bad source"})

    assert (409, "done") == (answer.status_code, service.state()[0])
    assert "nothing to stop" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 501}, {**REPAIRED, "x": 1}),
        *({"reason": text} for text in ("\u200b", "\u202e", "\u2060\ufeff", " \u00ad\n", "\x00", "\u3164", "\ud800x")),
    ],
)
@pytest.mark.parametrize("path", [REPLAY, CANCEL])
def test_an_intervention_needs_a_reason_and_nothing_unknown(untouched: Service, path: str, body: Any) -> None:
    assert 422 == untouched.client.post(path, content=json.dumps(body)).status_code


# --- audit -----------------------------------------------------------------------------------------------------------


def test_the_audit_says_who_why_and_on_what(service: Service) -> None:
    process(service)
    service.client.post(REPLAY, json={**REPAIRED, "force_phase3_fallback": True}, headers={"Idempotency-Key": "k1"})
    service.client.post(CANCEL, json={"reason": "bad source"})

    rows = [
        (row["requested_by"], row["mode"], row["previous_state"], row["previous_generation"], row["decision"])
        for row in service.warehouse.audits
    ]
    assert [
        ("local", "normal", "waiting", 0, "replay_accepted"),
        ("local", "forced_fallback", "done", 1, "replay_accepted"),
        ("local", "cancel", "ready", 1, "cancelled"),
    ] == rows
    assert [None, "k1", None] == [row["idempotency_key"] for row in service.warehouse.audits]
    assert {NIGHT} == {row["analysis_date"] for row in service.warehouse.audits}


@pytest.mark.parametrize("error", [Unavailable("the warehouse is away"), Fatal("access denied")])
@pytest.mark.parametrize("path", [REPLAY, CANCEL])
def test_without_an_audit_row_nothing_happens(service: Service, path: str, error: Exception) -> None:
    service.push_all()
    service.warehouse.faults["log_replay"] = [error]
    answer = service.client.post(path, json=REPAIRED)

    assert (answer.status_code >= 500, ("ready", 1)) == (True, service.state())


def test_a_crash_between_audit_and_effect_leaves_the_row_and_no_effect(service: Service) -> None:
    process(service)
    commit = service.store.commit

    def dies(_commit: object) -> bool:
        raise RuntimeError("the process dies here")

    service.store.commit = dies
    answer = service.client.post(REPLAY, json=REPAIRED)
    service.store.commit = commit

    assert (500, 2, ("done", 1)) == (answer.status_code, len(service.warehouse.audits), service.state())


# --- idempotency -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [(REPLAY, REPAIRED), (CANCEL, REPAIRED), ("/process", {**ASKED, "force_phase3_fallback": True})],
)
def test_a_request_sent_again_under_its_key_takes_effect_once(service: Service, path: str, body: Any) -> None:
    service.push_all()
    answers = [service.client.post(path, json=body, headers={"Idempotency-Key": "k1"}) for _ in range(3)]

    assert 1 == len({(answer.status_code, answer.text, answer.headers.get("location")) for answer in answers})
    assert 1 == len(service.warehouse.audits)


def test_a_run_is_taken_back_over_http_and_the_page_says_so(service: Service) -> None:
    service.push_all()
    wish = {"processor": CACHE, "reason": "it wrote last week's rows", "rebuild": False}
    answers = [service.client.post(RETRACT, json=wish, headers={"Idempotency-Key": "k1"}) for _ in range(2)]

    assert [(200, "completion_retracted", True)] * 2 == [
        (answer.status_code, answer.json()["event"], answer.json()["applied"]) for answer in answers
    ]
    assert [("retract", CACHE)] == [(row["mode"], row["processor"]) for row in service.warehouse.audits]
    page = service.client.get("/nights/2024-12-15").text
    assert "taken back" in page
    assert 409 == service.client.post(RETRACT, json={**wish, "run_id": "another"}).status_code


def test_a_key_stands_for_one_request(service: Service) -> None:
    key = {"Idempotency-Key": "k1"}
    service.client.post(REPLAY, json=REPAIRED, headers=key)
    others = [
        service.client.post(REPLAY, json={"reason": "another"}, headers=key),
        service.client.post(CANCEL, json=REPAIRED, headers=key),
        service.client.post("/process", json=ASKED, headers=key),
    ]

    assert [(409, "urn:mlfs:problem:key-reused")] * 3 == [
        (answer.status_code, answer.json()["type"]) for answer in others
    ]


def test_a_request_that_had_no_effect_leaves_its_key_free(service: Service) -> None:
    service.warehouse.faults["log_replay"] = [Unavailable("the warehouse is away")]
    answers = [service.client.post(REPLAY, json=REPAIRED, headers={"Idempotency-Key": "k1"}) for _ in range(2)]

    assert [503, 202] == [answer.status_code for answer in answers]


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 201])
def test_a_key_is_a_short_visible_text(untouched: Service, key: str) -> None:
    answer = untouched.client.post(REPLAY, json=REPAIRED, headers={"Idempotency-Key": key.encode()})

    assert 422 == answer.status_code


def test_an_answer_that_cannot_be_kept_is_told_all_the_same(service: Service) -> None:
    def away(*_: object) -> None:
        raise Unavailable("no server")

    service.parts.requests.finish = away
    key = {"Idempotency-Key": "k1"}
    first = service.client.post(REPLAY, json=REPAIRED, headers=key)
    again = service.client.post(REPLAY, json=REPAIRED, headers=key)

    assert (202, 409, "urn:mlfs:problem:request-pending") == (
        first.status_code,
        again.status_code,
        again.json()["type"],
    )
    assert 1 == len(service.warehouse.audits)


def once_and_clock() -> tuple[IdempotentRequests, Service]:
    service = Service()
    return IdempotentRequests(MemoryRequests(service.clock)), service


def answered(calls: list[int]) -> Callable[[], StoredResponse]:
    def act() -> StoredResponse:
        calls.append(1)
        return StoredResponse(status=200, body={"call": len(calls)})

    return act


def test_keys_of_different_callers_never_meet() -> None:
    once, _ = once_and_clock()
    calls: list[int] = []

    assert [1, 2] == [once.run("k", caller, {}, answered(calls)).body["call"] for caller in ("ada", "eve")]


def test_an_answer_is_kept_for_a_day() -> None:
    once, service = once_and_clock()
    calls: list[int] = []
    once.run("k", "ada", {}, answered(calls))
    service.clock.forward(KEEP - timedelta(seconds=1))
    within = once.run("k", "ada", {}, answered(calls))
    service.clock.forward(timedelta(seconds=1))
    after = once.run("k", "ada", {}, answered(calls))

    assert (1, 2) == (within.body["call"], after.body["call"])


def test_a_request_that_is_being_answered_is_not_run_beside_itself() -> None:
    once, service = once_and_clock()

    def act() -> StoredResponse:
        with pytest.raises(KeyInUse) as caught:
            once.run("k", "ada", {}, answered([]))
        service.clock.forward(PENDING)  # as if this one had died
        assert caught.value.pending
        return once.run("k", "ada", {}, answered([]))

    assert 1 == once.run("k", "ada", {}, act).body["call"]


def test_a_deadline_that_passes_while_a_request_waits_changes_nothing(service: Service) -> None:
    service.warehouse.rows = dict(NO_ROWS)
    service.push(CACHE)
    service.warehouse.meanwhile = lambda: setattr(service.clock, "instant", DEADLINE)

    assert (200, State.DEGRADED.value, 1) == facts(process(service))
    assert service.clock.now() > EVENING
