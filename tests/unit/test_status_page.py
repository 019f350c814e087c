"""The page that the person on call looks at: right, harmless whatever it shows, and acting for the right people."""

import base64
import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import httpx
import pytest

from statemachine.events import BuildFailed, CompletionReceived, ReplayRequested
from statemachine.model import CompletionStatus, Failure, FailureKind, Finding, FindingSeverity, Retraction
from tests.support.memory_store import MemoryStore
from tests.support.nights import (
    CACHE,
    CALENDAR,
    DEADLINE,
    DEFENSE,
    EVENING,
    NIGHT,
    POLICY,
    PROCESSORS,
    claimed,
    committed,
    completion,
    degraded,
    done,
    failed,
    running,
    success,
    unseen,
    waiting,
)
from tests.support.services import Service
from tests.support.tokens import Issuer, Key, token
from worker.errors import Unavailable
from worker.http.page_model import night_to_show, timeline
from worker.ports import Commit, HistoryEntry

AUDIENCE = "https://mlfs.example"
PAGE, FORM = f"/nights/{NIGHT}", f"/nights/{NIGHT}/replay"
OWN = {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"}
WISH = {"reason": "daily cache was repaired", "key": "key-1"}
RECORDS = {
    "waiting": waiting(DEFENSE, CACHE),
    "running": running(),
    "done": done(),
    "degraded": degraded(CACHE),
    "failed": failed(),
}
TAB_COLOURS = {
    "waiting": "%23667788",
    "running": "%231f5fa8",
    "done": "%231a6b3a",
    "degraded": "%23c98500",
    "failed": "%23c5221f",
}
# Elements that have no end.
VOID = {"meta", "link", "input", "col"}
INLINE = {"a", "b", "bdi", "code", "span", "time"}


class Read(HTMLParser):
    """What a browser would make of a page: elements with attributes, in order, and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop(), f"</{tag}> ends another element"
        self.texts.append("" if tag in INLINE else " ")

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


class AbsentStore(MemoryStore):
    def dates(self, limit: int) -> Any:
        raise Unavailable(f"no server for {limit}")


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running_service:
        yield running_service


@pytest.fixture
def night(service: Service) -> Service:
    """A night that was published in full."""
    for event in (*(success(name) for name in PROCESSORS), claimed(), committed()):
        service.worker.engine.apply(NIGHT, event)
    return service


def holding(service: Service, state: str) -> Read:
    """Store a record of that state and read its page."""
    assert service.store.commit(Commit(record=replace(RECORDS[state], version=1), operation_id="1"))
    service.clock.instant = DEADLINE + timedelta(minutes=15)
    answer = service.client.get("/")
    assert 200 == answer.status_code, answer.text
    return Read(answer.text)


@pytest.mark.parametrize("state", RECORDS)
def test_a_glance_tells_the_state_by_word_and_what_happens_next(service: Service, state: str) -> None:
    page = holding(service, state)

    assert f"Tonight, Sunday 2024-12-15 {state}" in page.text
    assert service.client.get(f"/dates/{NIGHT}").json()["next"].split(". ")[0] in page.text
    assert [state] == [main["data-state"] for main in page.every("main")]
    assert TAB_COLOURS[state] in (page.every("link")[0]["href"] or "")


@pytest.mark.parametrize("state", RECORDS)
def test_a_page_can_be_read_without_eyes_or_mouse(service: Service, state: str) -> None:
    page = holding(service, state)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    named = [
        value for _, attributes in page.elements for name, value in attributes.items() if name == "aria-labelledby"
    ]
    inputs = [one["id"] for one in page.every("input") if one["type"] != "hidden"]

    assert [] == page.open
    assert 1 == levels.count(1)
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(ids) == len(set(ids))
    assert set(named) <= set(ids)
    assert inputs == [label["for"] for label in page.every("label")]
    assert all(svg.get("aria-hidden") == "true" or svg.get("aria-label") for svg in page.every("svg") if "x" not in svg)
    assert all(re.match(r"\d{4}-\d\d-\d\d", time["datetime"] or "") for time in page.every("time"))
    assert "en" == page.every("html")[0]["lang"]


def test_reports_are_told_with_time_distance_and_rows(service: Service) -> None:
    service.worker.engine.apply(NIGHT, success(CACHE))
    broken = replace(completion(DEFENSE, CompletionStatus.FAILED, rows=None), error="quota exceeded")
    service.worker.engine.apply(NIGHT, CompletionReceived(completion=broken))
    service.clock.forward(timedelta(minutes=12))
    text = Read(service.client.get(PAGE).text).text

    assert "player_daily_cache reported 23:00 EST 12 min ago 400" in text
    assert "team_defense_zone_analysis failed: quota exceeded 23:00 EST 12 min ago \N{EN DASH}" in text
    assert "player_shot_zone_analysis not reported awaited since 23:00 EST 12 min ago \N{EN DASH}" in text
    assert "1 of 4 completions, deadline 23:25 EST (in 13 min)" in text


def test_published_figures_parts_and_history_are_shown(night: Service) -> None:
    text = Read(night.client.get(PAGE).text).text

    assert "Generation 1 Rows 450 Score 99.9 Fallback 0.0% Missing 0.0% Left out 3" in text
    assert "phase4_availability 40.0 / 40" in text
    assert re.search(r"When What Why Who .*published as done: .* running → done committed_done", text)


def found(severity: FindingSeverity, subject: str = CACHE) -> Finding:
    return Finding(
        check="unchanged",
        severity=severity,
        subject=subject,
        observed="<b>97 %</b> since 2024-12-16 04:25Z",
        expected="less than 60 %",
        next_step="mlfs profile 2024-12-15",
        processor=CACHE,
    )


def with_findings(service: Service, findings: tuple[Finding, ...] | None) -> Read:
    """Store a degraded record with these findings and read the page of the date."""
    record = RECORDS["degraded"]
    assert record.result is not None
    record = replace(record, version=1, result=replace(record.result, findings=findings))
    assert service.store.commit(Commit(record=record, operation_id="1"))
    return Read(service.client.get(PAGE).text)


def test_the_page_shows_each_finding_with_its_evidence_and_the_next_step(service: Service) -> None:
    page = with_findings(service, (found(FindingSeverity.CRITICAL), found(FindingSeverity.NOTE, "pace")))

    assert (
        f"published as generation 1, but 1 critical finding: unchanged {CACHE}; 1 note; 450 rows" in page.text.lower()
    )
    assert (
        f"Findings critical unchanged {CACHE}: <b>97 %</b> since 2024-12-15 23:25 EST, expected less than 60 % "
        "Next: mlfs profile 2024-12-15 note unchanged pace:" in page.text
    )
    assert "score 82.0 1 critical" in page.text  # in the strip, below the score
    assert ["f-critical", "f-note"] == [item["class"] for item in page.every("li") if "class" in item]


@pytest.mark.parametrize(
    ("findings", "words"),
    [((), "Findings No findings: the checks of the build"), (None, "Findings Not judged: the publication is older")],
)
def test_the_page_says_no_findings_of_judged_rows_alone(
    service: Service, findings: tuple[Finding, ...] | None, words: str
) -> None:
    page = with_findings(service, findings)

    assert words in page.text
    assert [] == [span for span in page.every("span") if span.get("class") == "doubt"]


def test_the_page_explains_a_score_beside_the_sum_of_the_components(service: Service) -> None:
    assert (
        "component_total 70.5 / 100 The score is the higher of two counts: the sum of the components, 70.5, or, as "
        "models can use the rows, 100 less the penalty for a fallback rate of 50.0%, 82.0."
        in holding(service, "degraded").text
    )


def test_the_strip_shows_the_latest_dates_and_leads_to_them(night: Service) -> None:
    for day in range(1, 15):
        night.worker.engine.apply(date(2024, 12, day), success(CACHE))
    links = Read(night.client.get(PAGE).text).every("a")
    strip = [link for link in links if re.fullmatch("/nights/[0-9-]+", link["href"] or "")]

    assert [f"/nights/2024-12-{day:02}" for day in range(2, 16)] == [link["href"] for link in strip]
    assert ["page"] == [link["aria-current"] for link in strip if "aria-current" in link]
    assert [200] * 14 == [night.client.get(link["href"] or "").status_code for link in strip]


@pytest.mark.parametrize(
    ("now", "night_shown"),
    [
        (datetime(2024, 12, 16, 4, 40, tzinfo=UTC), date(2024, 12, 15)),
        (datetime(2024, 12, 16, 5, 10, tzinfo=UTC), date(2024, 12, 15)),
        (datetime(2024, 12, 16, 16, 59, tzinfo=UTC), date(2024, 12, 15)),
        (datetime(2024, 12, 16, 17, 1, tzinfo=UTC), date(2024, 12, 16)),
        (datetime(2025, 7, 1, 4, 40, tzinfo=UTC), date(2024, 12, 17)),
        (datetime(2024, 1, 1, tzinfo=UTC), date(2024, 12, 17)),
    ],
    ids=str,
)
def test_tonight_is_the_evening_before_until_noon(now: datetime, night_shown: date) -> None:
    known = [date(2024, 12, day) for day in (17, 16, 15)]

    assert night_shown == night_to_show(CALENDAR.tonight(now), known)
    assert night_to_show(CALENDAR.tonight(now), []) is None


def test_only_tonight_is_called_tonight_on_the_first_page(service: Service) -> None:
    titles = []
    service.store.commit(Commit(record=replace(RECORDS["waiting"], version=1), operation_id="1"))
    for days in (-1, 0, 1):
        service.clock.instant = EVENING + timedelta(days=days)
        titles.append(Read(service.client.get("/").text).text.partition(", Sunday 2024-12-15")[0].split()[-1])

    assert ["Night", "Tonight", "Night"] == titles


UNLIKE_THE_PAGE = re.compile(r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}| UTC)")


@pytest.mark.parametrize("state", ["failed", "running", "degraded", "waiting"])
def test_every_instant_on_the_page_is_on_the_wall_clock_of_the_page(service: Service, state: str) -> None:
    """Whoever stored it, in whatever form: the core, the ledger's refusals, BigQuery, a sender, a run without an id."""
    words = "nothing since 2024-12-16 04:25Z; told at 2024-12-16T04:26:01.5+00:00, asked at 2024-12-16 04:27:00 UTC"
    run = replace(completion(CACHE), identity="at:2024-12-16T04:15:00+00:00")
    ill = replace(completion(DEFENSE, CompletionStatus.FAILED), error="out of memory at 2024-12-15T20:10:00-08:00")
    retraction = Retraction(
        processor=CACHE, identity=run.identity, completed_at=EVENING, actor="ana", reason="wrong rows", at=EVENING
    )
    entry = HistoryEntry(
        at=EVENING,
        event="opened",
        before="",
        after="waiting",
        reason="opened",
        generation=0,
        attempt=0,
        actor="sweep",
        detail="opened; deadline 2024-12-16 04:25Z",
    )
    record = replace(
        RECORDS[state],
        version=1,
        failure=Failure(because="no_data", message=words, at=DEADLINE),
        completions={DEFENSE: ill},
        retractions=(retraction,),
    )
    service.store.commit(Commit(record=record, operation_id=state, history=entry))
    service.clock.instant = DEADLINE + timedelta(minutes=15)

    text = Read(service.client.get(PAGE).text).text

    assert "opened; deadline 2024-12-15 23:25 EST" in text
    assert "out of memory at 2024-12-15 23:10:00 EST" in text
    assert "run of 2024-12-15 23:15:00 EST was taken back by ana" in text
    assert (
        "nothing since 2024-12-15 23:25 EST; told at 2024-12-15 23:26:01 EST, asked at 2024-12-15 23:27:00 EST" in text
    )
    assert UNLIKE_THE_PAGE.findall(text) == []


@pytest.mark.parametrize("hours", [-24 * 365 * 50, -7, -2, 0, 3, 24 * 365])
def test_a_report_of_any_time_stays_on_the_time_line(hours: int) -> None:
    report = replace(completion(CACHE), completed_at=EVENING + timedelta(hours=hours))
    line = timeline(replace(unseen(), completions={CACHE: report}), EVENING, POLICY)
    lane = {lane.processor: lane for lane in line.lanes}[CACHE]

    assert lane.position is not None
    assert 0 <= lane.position <= 100
    assert lane.outside is (abs(hours) > 6)
    assert line.ends_at - line.starts_at <= timedelta(hours=13)
    assert {"deadline", "cutoff", "now"} == {mark.name for mark in line.marks}


def test_a_page_lets_nothing_in_from_outside(night: Service) -> None:
    answer = night.client.get("/")
    headers, policy = answer.headers, answer.headers["content-security-policy"]
    page = Read(answer.text)
    inline = re.findall(r"<(script|style)>(.*?)</\1>", answer.text, re.DOTALL)
    hashes = {
        kind: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for kind, text in inline
    }

    assert ["style", "script"] == [kind for kind, _ in inline]
    assert all(f"{kind}-src {digest};" in policy for kind, digest in hashes.items())
    assert "unsafe" not in policy
    assert {"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'"} <= set(
        policy.split("; ")
    )
    assert ("no-store", "nosniff", "same-origin") == (
        headers["cache-control"],
        headers["x-content-type-options"],
        headers["referrer-policy"],
    )
    addresses = [
        value or "" for _, one in page.elements for name, value in one.items() if name in {"src", "href", "action"}
    ]
    assert all(address.startswith(("/", "#", "data:image/svg+xml,")) for address in addresses)
    assert not [name for _, one in page.elements for name in one if name == "style" or name.startswith("on")]


HOSTILE = (
    "<script>document.title='pwned'</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></script></title><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; \x00\x1b[2J \N{RIGHT-TO-LEFT OVERRIDE}txt.exe",
    "javascript:alert(1)",
)


def test_texts_from_outside_stay_texts(service: Service) -> None:
    everything = " ".join(HOSTILE)
    report = replace(completion(DEFENSE, CompletionStatus.FAILED), error=everything)
    for event in (
        CompletionReceived(completion=report),
        ReplayRequested(actor=HOSTILE[1], reason=everything, request_id="1"),
        claimed(HOSTILE[2]),
        BuildFailed(generation=1, attempt=1, failure=FailureKind.UNAVAILABLE, message=everything),
    ):
        service.worker.engine.apply(NIGHT, event)
    seen = service.client.get(PAGE)
    asked = service.client.post(FORM, data={**WISH, "reason": everything.replace("\x00", " ")}, headers=OWN)

    for answer in (seen, asked):
        page = Read(answer.text)
        assert [] == page.open
        assert 1 == len(page.every("script"))
        assert [] == page.every("img")
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", answer.text)
        assert "<script>document.title='pwned'</script>" in page.text
        assert "{{ 7 * 7 }}{% raw %}" in page.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:81"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://[::1"},
        {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {**OWN, "Host": "mlfs.evil.example"},
        {**OWN, "X-Forwarded-For": "203.0.113.9"},
    ],
    ids=str,
)
def test_another_site_cannot_send_the_form(night: Service, headers: dict[str, str]) -> None:
    answers = [night.client.post(FORM, data=form, headers=headers) for form in (WISH, {**WISH, "confirmed": "on"})]

    assert ([403, 403], []) == ([answer.status_code for answer in answers], night.warehouse.audits)
    assert 1 == night.store.load(NIGHT).generation


@pytest.mark.parametrize("headers", [OWN, {"Origin": "http://127.0.0.1"}, {"Sec-Fetch-Site": "same-origin"}], ids=str)
def test_the_form_is_shown_first_and_done_when_confirmed(night: Service, headers: dict[str, str]) -> None:
    asked = night.client.post(FORM, data=WISH, headers=headers)
    before = night.store.load(NIGHT).generation
    fields = {one["name"]: one["value"] or "" for one in Read(asked.text).every("input") if one["name"]}
    accepted = [night.client.post(FORM, data=fields, headers=headers) for _ in range(2)]

    assert (200, 1) == (asked.status_code, before)
    assert {**WISH, "confirmed": "on"} == fields
    assert [(303, f"{PAGE}?follow=2")] * 2 == [(answer.status_code, answer.headers["location"]) for answer in accepted]
    followed = Read(night.client.get(accepted[1].headers["location"]).text)
    assert "As generation 2, asked for by local: daily cache was repaired" in followed.text
    assert (2, 1) == (night.store.load(NIGHT).generation, len(night.warehouse.audits))
    assert "daily cache was repaired" == night.warehouse.audits[0]["reason"]


def test_the_second_of_two_clicks_gets_the_answer_to_the_first(night: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    audited, second_came = threading.Event(), threading.Event()
    begin, may_fail = night.parts.requests.begin, night.warehouse._may_fail

    def begin_and_notice(*request: Any) -> Any:
        known = begin(*request)
        if known is not None:
            second_came.set()
        return known

    def answer_after_the_second_came(name: str) -> None:
        if name == "log_replay":
            audited.set()
            assert second_came.wait(30)
        may_fail(name)

    monkeypatch.setattr(night.parts.requests, "begin", begin_and_notice)
    monkeypatch.setattr(night.warehouse, "_may_fail", answer_after_the_second_came)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(night.client.post, FORM, data={**WISH, "confirmed": "on"}, headers=OWN)
        assert audited.wait(30)
        second = night.client.post(FORM, data={**WISH, "confirmed": "on"}, headers=OWN)
        locations = [answer.headers["location"] for answer in (first.result(), second)]

    assert ([f"{PAGE}?follow=2"] * 2, 1) == (locations, len(night.warehouse.audits))


def test_a_form_changed_after_it_was_sent_is_to_be_loaded_again(night: Service) -> None:
    night.client.post(FORM, data={**WISH, "confirmed": "on"}, headers=OWN)
    changed = night.client.post(FORM, data={**WISH, "reason": "another", "confirmed": "on"}, headers=OWN)

    assert (409, False) == (changed.status_code, "take a new Idempotency-Key" in changed.text)
    assert "go back, reload the page of the date and send the form again" in Read(changed.text).text


def confirmed(service: Service, act: str, night: date = NIGHT, **fields: str) -> httpx.Response:
    """Send the form of an act, then the form of the plan; return the answer to the second form."""
    address = f"/nights/{night}/{act}"
    asked = service.client.post(address, data={**WISH, **fields}, headers=OWN)
    assert 200 == asked.status_code, asked.text
    plan = {one["name"]: one["value"] or "" for one in Read(asked.text).every("input") if one["name"]}
    return service.client.post(address, data=plan, headers=OWN)


def refreshes(page: httpx.Response) -> bool:
    return any(meta.get("http-equiv") == "refresh" for meta in Read(page.text).every("meta"))


def test_the_page_follows_a_replay_until_its_generation_has_ended(night: Service) -> None:
    address = confirmed(night, "replay").headers["location"]
    underway = night.client.get(address)
    night.tick()
    ended = night.client.get(address)

    assert "This page follows the date until a build has ended" in Read(underway.text).text
    assert "Generation 2 has ended: done" in Read(ended.text).text
    assert [True, False] == [refreshes(underway), refreshes(ended)]
    assert not refreshes(night.client.get(PAGE))


def test_a_generation_that_the_date_has_not_reached_was_accepted_by_no_request(night: Service) -> None:
    page = night.client.get(f"{PAGE}?follow=9")

    assert (200, False, False) == (page.status_code, refreshes(page), "Accepted" in Read(page.text).text)


def test_a_run_taken_back_after_a_replay_is_no_request_of_the_replays_person(night: Service) -> None:
    confirmed(night, "replay", name="ana")
    night.tick()
    run = {"processor": CACHE, "name": "ben"}
    followed = Read(night.client.get(confirmed(night, "retract", key="key-2", **run).headers["location"]).text)
    again = night.client.post(f"{PAGE}/retract", data={**WISH, **run, "key": "3", "confirmed": "on"}, headers=OWN)

    assert (True, False) == ("Accepted and audited" in followed.text, "As generation" in followed.text)
    assert (303, PAGE) == (again.status_code, again.headers["location"]), "the run was taken back before"


def test_a_date_that_was_never_opened_is_built_from_its_page(service: Service) -> None:
    day = NIGHT - timedelta(days=3)
    seen = service.client.get(f"/nights/{day}")
    page = Read(seen.text)
    address = confirmed(service, "replay", day).headers["location"]
    service.tick()

    assert (404, [], True) == (seen.status_code, page.open, f"Thursday {day} was never opened" in page.text)
    assert (True, False) == ("Build now" in page.text, "openapi" in seen.text)
    assert "Generation 1 has ended: done" in Read(service.client.get(address).text).text
    assert [(None, "replay_accepted")] == [(row["previous_state"], row["decision"]) for row in service.warehouse.audits]


def test_a_date_that_cannot_be_opened_has_no_form(night: Service) -> None:
    page = Read(night.client.get("/nights/1999-12-31").text)

    assert ([], True) == (page.every("form"), "never opened" in page.text)


def test_the_name_of_a_person_stands_in_audit_and_history(night: Service) -> None:
    confirmed(night, "replay", name=" ana ")

    assert ["ana"] == [row["requested_by"] for row in night.warehouse.audits]
    assert "ana" == night.store.history(NIGHT)[-1].actor


def test_a_date_is_stopped_from_its_page(service: Service) -> None:
    service.push(CACHE)
    answer = confirmed(service, "cancel", name="ana")

    assert (303, ("failed", 0)) == (answer.status_code, service.state())
    assert [("cancel", "ana")] == [(row["mode"], row["requested_by"]) for row in service.warehouse.audits]
    assert "by ana: daily cache was repaired" in Read(service.client.get(answer.headers["location"]).text).text
    assert 409 == service.client.post(f"{PAGE}/cancel", data=WISH, headers=OWN).status_code


def test_a_run_is_taken_back_from_its_page_and_only_the_run_that_was_shown(service: Service) -> None:
    service.push(CACHE)
    asked = service.client.post(f"{PAGE}/retract", data={**WISH, "processor": CACHE}, headers=OWN)
    fields = {one["name"]: one["value"] or "" for one in Read(asked.text).every("input") if one["name"]}
    missing = service.client.post(f"{PAGE}/retract", data=WISH, headers=OWN)
    answers = [service.client.post(f"{PAGE}/retract", data=fields, headers=OWN) for _ in range(2)]

    assert f"it waits for another run of {CACHE}" in Read(asked.text).text
    assert (f"run:run-{CACHE}", 422) == (fields["run_id"], missing.status_code)
    assert [303, 303] == [answer.status_code for answer in answers]
    assert [("retract", CACHE)] == [(row["mode"], row["processor"]) for row in service.warehouse.audits]
    service.push(CACHE, run_id="another")
    refused = service.client.post(f"{PAGE}/retract", data={**fields, "run_id": "old", "key": "2"}, headers=OWN)
    assert (409, 1) == (refused.status_code, len(service.warehouse.audits))


@pytest.mark.parametrize("act", ["replay", "cancel", "retract"])
def test_the_address_of_a_form_leads_back_to_the_date(night: Service, act: str) -> None:
    answer = night.client.get(f"{PAGE}/{act}")

    assert (303, PAGE) == (answer.status_code, answer.headers["location"])


def test_older_dates_are_reached_block_by_block_and_newer_ones_again(service: Service) -> None:
    days = [NIGHT - timedelta(days=back) for back in range(30)]
    for day in days:
        service.worker.engine.apply(day, success(CACHE))

    def blocks(relation: str, address: str) -> Iterator[list[str]]:
        while True:
            links = Read(service.client.get(address).text).every("a")
            yield [(link["href"] or "")[-10:] for link in links if "/nights/" in (link["href"] or "")]
            following = [link["href"] or "" for link in links if link.get("rel") == relation]
            if not following:
                return
            address = following[0]

    back = list(blocks("prev", "/"))
    assert [14, 14, 2] == [len(block) for block in back]
    assert [str(day) for day in days] == [day for block in back for day in block[::-1]]
    assert back[::-1] == list(blocks("next", f"/nights/{days[-1]}"))
    assert back[1] == next(blocks("prev", f"/nights/{days[20]}"))


def test_each_form_has_a_key_of_its_own(night: Service) -> None:
    keys = {
        field["value"]
        for _ in range(2)
        for field in Read(night.client.get(PAGE).text).every("input")
        if field["name"] == "key"
    }

    assert 2 == len(keys)


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"key": "k"}, 422, "form.reason"),
        ({"key": "k", "reason": "  "}, 422, "form.reason"),
        ({"key": "k", "reason": "x" * 501}, 422, "form.reason"),
        ({"reason": "repaired"}, 422, "form.key"),
        ({f"field{number}": "1" for number in range(11)}, 400, "form is not valid UTF-8"),
        ({**WISH, "confirmed": "on", "reason": "another"}, 409, "take a new"),
    ],
    ids=str,
)
def test_a_wrong_form_is_told_as_a_page(night: Service, fields: dict[str, str], status: int, told: str) -> None:
    assert 303 == night.client.post(FORM, data={**WISH, "confirmed": "on"}, headers=OWN).status_code
    answer = night.client.post(FORM, data=fields, headers=OWN)

    assert (status, "text/html; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    assert told in Read(answer.text).text


def test_bytes_that_are_no_text_are_no_form(night: Service) -> None:
    assert 400 == night.client.post(FORM, content=b"reason=\xff", headers=OWN).status_code


def test_what_makes_no_sense_is_refused_before_it_is_confirmed(service: Service) -> None:
    for event in (*(success(name) for name in PROCESSORS), claimed()):
        service.worker.engine.apply(NIGHT, event)
    refused = service.client.post(FORM, data=WISH, headers=OWN)
    takes_over = service.client.post(FORM, data={**WISH, "force": "on"}, headers=OWN)

    assert (409, 200) == (refused.status_code, takes_over.status_code)
    assert "take over" in Read(refused.text).text
    assert "Running build is fenced off" in Read(takes_over.text).text


@pytest.fixture(scope="module")
def key() -> Key:
    return Key("key-1")


@pytest.mark.parametrize(
    ("who", "looks", "sees_form", "asks", "takes_over"),
    [
        ("vera", 200, False, 403, 403),
        ("olga", 200, True, 200, 403),
        ("ada", 200, True, 200, 200),
        ("eve", 403, False, 403, 403),
        (None, 401, False, 401, 401),
    ],
)
def test_a_role_opens_the_form_and_no_more(
    key: Key, who: str | None, looks: int, sees_form: bool, asks: int, takes_over: int
) -> None:
    roles = {"viewers": "vera@x.example", "operators": "olga@x.example", "admins": "ada@x.example"}
    headers = {} if who is None else {"Authorization": f"Bearer {token(key, aud=AUDIENCE, email=f'{who}@x.example')}"}
    with Issuer(key) as issuer, Service(oidc_certs_url=issuer.url, api_audiences=AUDIENCE, **roles) as service:
        service.worker.engine.apply(NIGHT, success(CACHE))
        seen = service.client.get("/", headers=headers)
        asked = service.client.post(FORM, data=WISH, headers={**OWN, **headers})
        forced = service.client.post(FORM, data={**WISH, "force": "on"}, headers={**OWN, **headers})
        forged = service.client.post(FORM, data=WISH, headers={"Origin": "https://evil.example", **headers})

    assert (looks, asks, takes_over) == (seen.status_code, asked.status_code, forced.status_code)
    assert sees_form is bool(Read(seen.text).every("form"))
    assert forged.status_code in {401, 403}


def test_the_name_in_a_form_never_stands_in_for_a_verified_caller(key: Key) -> None:
    headers = {"Authorization": f"Bearer {token(key, aud=AUDIENCE, email='olga@x.example')}", **OWN}
    form = {**WISH, "name": "ana", "confirmed": "on"}
    with (
        Issuer(key) as issuer,
        Service(oidc_certs_url=issuer.url, api_audiences=AUDIENCE, operators="olga@x.example") as service,
    ):
        seen = Read(service.client.get(PAGE, headers=headers).text)
        answer = service.client.post(FORM, data=form, headers=headers)

    assert 303 == answer.status_code
    assert "name" not in {field.get("name") for field in seen.every("input")}
    assert ["olga@x.example"] == [row["requested_by"] for row in service.warehouse.audits]


def test_a_damaged_record_is_shown_as_such_and_hides_no_other_date(night: Service) -> None:
    night.store._records[date(2024, 12, 14)] = (1, "operation", b"damaged")
    night.store._records[date(2024, 12, 13)] = (1, "operation", b"damaged")
    start, damaged = Read(night.client.get("/").text), Read(night.client.get("/nights/2024-12-14").text)

    assert "Sunday 2024-12-15 done" in start.text
    assert 2 == start.text.count("corrupt")
    assert "Saturday 2024-12-14 corrupt" in damaged.text
    assert "unreadable" in damaged.text
    assert [] == damaged.every("form")


def test_without_the_store_the_page_says_so_and_asks_again() -> None:
    with Service(store=AbsentStore()) as away:
        answer = away.client.get("/")

    page = Read(answer.text)
    assert (503, "5") == (answer.status_code, answer.headers["retry-after"])
    assert "no server" in page.text
    assert "data-live" in page.every("main")[0]


def test_before_the_first_date_the_page_says_so(service: Service) -> None:
    answer = service.client.get("/")

    assert (200, True) == (answer.status_code, "No date yet" in Read(answer.text).text)


@pytest.mark.parametrize(("path", "status"), [("/nights/2024-12-14", 404), ("/nights/2024-02-30", 422)])
def test_a_date_that_is_not_there_is_told_as_a_page(night: Service, path: str, status: int) -> None:
    answer = night.client.get(path)

    assert (status, "Back to tonight" in answer.text) == (answer.status_code, True)
    assert answer.headers["cache-control"] == "no-store"


def test_the_page_lives_where_people_look() -> None:
    with Service(admin_port=0, listens=True) as service:
        front, back = service.client, service.worker.addresses[1]
        outside: Mapping[str, Any] = {path: front.get(path) for path in ("/", "/nights/2024-12-15")}
        inside = httpx.get(f"{back}/", trust_env=False)

    assert ("/livez", 404) == (outside["/"].headers["location"], outside["/nights/2024-12-15"].status_code)
    assert (200, True) == (inside.status_code, "<main" in inside.text)
