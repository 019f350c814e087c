"""A push in, a status out: 204 once it is stored or parked, anything else brings it again."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.completion import DEPTH_MAX, Refusal
from schemas.push import ATTRIBUTES_MAX, read_push
from tests.support.nights import CACHE, EVENING, NIGHT, PROCESSORS
from tests.support.services import SUBSCRIPTION, Service, envelope, event
from worker.errors import Unavailable
from worker.http import push_and_tick
from worker.http.middleware import BODY_BYTES_MAX, PUSH_BODY_BYTES_MAX

METADATA = {
    "x-goog-pubsub-subscription-name": SUBSCRIPTION,
    "x-goog-pubsub-message-id": "77",
    "x-goog-pubsub-publish-time": "2024-12-16T04:00:00Z",
}


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


def metric(service: Service, name: str, **labels: str) -> float:
    return service.worker.metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_wrapped_message_is_stored_and_acknowledged(service: Service) -> None:
    answer = service.client.post("/pubsub/push", json=envelope(event(CACHE), message_id="42"))

    kept = service.store.load(NIGHT).completions[CACHE]
    assert ((204, b""), ("42", "run:run-player_daily_cache")) == (
        (answer.status_code, answer.content),
        (kept.message_id, kept.identity),
    )


def test_a_bare_message_with_its_metadata_is_stored(service: Service) -> None:
    answer = service.client.post("/pubsub/push", content=event(CACHE), headers=METADATA)

    assert (204, "77") == (answer.status_code, service.store.load(NIGHT).completions[CACHE].message_id)


def test_a_bare_message_without_metadata_is_known_by_its_bytes(service: Service) -> None:
    for _ in range(2):
        assert service.client.post("/pubsub/push", content=event(CACHE, run_id=None)).status_code == 204

    assert 1 == len(service.store.history(NIGHT))
    assert 1 == metric(service, "mlfs_events_total", processor=CACHE, outcome="duplicate")


def test_a_repeat_is_acknowledged_and_changes_nothing(service: Service) -> None:
    assert [204, 204] == [service.push(CACHE).status_code for _ in range(2)]
    assert 1 == len(service.store.history(NIGHT))


def test_order_of_pushes_does_not_matter(service: Service) -> None:
    for processor in reversed(PROCESSORS):
        service.push(processor)

    assert ("ready", 1) == service.state()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (json.dumps(envelope(b"completed!")), "not_json"),
        (json.dumps(envelope(b"")), "not_json"),
        (json.dumps(envelope(event("odds"))), "unknown_processor"),
        (json.dumps(envelope(event(CACHE), attributes={"processor": "odds"})), "attribute_mismatch"),
        (json.dumps(envelope(b"x" * 70_000)), "too_large"),
        (json.dumps({"message": [], "subscription": SUBSCRIPTION}), "bad_envelope"),
        (json.dumps({"message": {}, "subscription": 7}), "bad_envelope"),
        (json.dumps({"message": {"data": "?"}, "subscription": SUBSCRIPTION}), "bad_envelope"),
        (json.dumps({"message": {"data": "e30="}, "subscription": SUBSCRIPTION}), "bad_envelope"),
        ("no push at all", "not_json"),
        ("{}", "bad_field"),
        ("[" * 100_000, "too_large"),
        ("", "not_json"),
    ],
)
def test_what_can_never_be_an_event_is_parked_and_acknowledged(service: Service, body: str, reason: str) -> None:
    answer = service.client.post("/pubsub/push", content=body)

    assert (204, [reason]) == (answer.status_code, [parked.reason for parked in service.store.parked(9)])
    assert [reason] == [message.attributes["mlfs_reason"] for message in service.bus.confirmed]


def test_without_the_store_it_is_to_come_again(service: Service) -> None:
    def away(*_: object) -> None:
        raise Unavailable("no server")

    service.store.load = away
    answer = service.push(CACHE)

    assert (503, "urn:mlfs:problem:unavailable") == (answer.status_code, answer.json()["type"])


def test_what_cannot_be_parked_is_to_come_again(service: Service) -> None:
    service.bus.refuse = lambda _message: True

    answers = [service.client.post("/pubsub/push", content=body) for body in ("no push", '{"message": 1}')]

    assert [503, 503] == [answer.status_code for answer in answers]


def test_a_message_that_raises_comes_twice_again_and_is_then_parked(service: Service) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    service.store.load = broken

    assert [503, 503, 204] == [service.push(CACHE).status_code for _ in range(3)]
    assert ["unreadable"] == [parked.reason for parked in service.store.parked(9)]
    assert 2 == metric(service, "mlfs_events_total", processor="other", outcome="raised")


def test_a_push_that_cannot_even_be_read_comes_twice_again_and_is_then_parked(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RecursionError("a bug")

    monkeypatch.setattr(push_and_tick, "read_push", broken)
    bodies = ("first", "second", "first", "first", "second")

    answers = [service.client.post("/pubsub/push", content=body).status_code for body in bodies]

    assert [503, 503, 503, 204, 503] == answers
    assert [(b"first", "unreadable")] == [(parked.data, parked.reason) for parked in service.store.parked(9)]


@pytest.mark.parametrize("depth", [5, DEPTH_MAX + 1, 990, 100_000])
def test_the_depth_of_an_envelope_does_not_decide_by_the_stack(service: Service, depth: int) -> None:
    body = json.dumps(envelope(event(CACHE)))[:-1] + ', "more": ' + "[" * depth + "]" * depth + "}"

    answer = service.client.post("/pubsub/push", content=body)

    reasons = [parked.reason for parked in service.store.parked(9)]
    assert (204, [] if depth < DEPTH_MAX else ["not_json"] if depth < 1000 else ["too_large"]) == (
        answer.status_code,
        reasons,
    )


def test_a_dead_letter_topic_that_refuses_brings_back_the_bad_push_alone(service: Service) -> None:
    service.bus.refuse = lambda _message: True
    labels = {"topic": "phase4-processor-success-dlq"}
    before = metric(service, "mlfs_dead_letter_topic_refuses", **labels)

    answers = [service.client.post("/pubsub/push", content="bad").status_code, service.push(CACHE).status_code]

    assert [503, 204] == answers
    assert (0.0, 1.0) == (before, metric(service, "mlfs_dead_letter_topic_refuses", **labels))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (json.dumps(envelope(event(CACHE), subscription="projects/p/subscriptions/other")), {}),
        (event(CACHE).decode(), {**METADATA, "x-goog-pubsub-subscription-name": "projects/p/subscriptions/other"}),
    ],
)
def test_another_subscription_is_not_served(service: Service, body: str, headers: dict[str, str]) -> None:
    answer = service.client.post("/pubsub/push", content=body, headers=headers)

    assert (403, None) == (answer.status_code, service.store.load(NIGHT))
    assert SUBSCRIPTION in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "limit", "declared"),
    [
        ("/pubsub/push", PUSH_BODY_BYTES_MAX, True),
        ("/pubsub/push", PUSH_BODY_BYTES_MAX, False),
        ("/process", BODY_BYTES_MAX, True),
        ("/process", BODY_BYTES_MAX, False),
        ("/tick", BODY_BYTES_MAX, True),
    ],
)
def test_a_body_over_the_limit_is_refused(service: Service, path: str, limit: int, declared: bool) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(limit // 65536 + 1):
            yield b" " * 65536

    body: Any = b"".join(chunks()) if declared else chunks()
    answer = service.client.post(path, content=body)

    assert 413 == answer.status_code


def test_attributes_reach_the_parser() -> None:
    pushed = read_push(json.dumps(envelope(b"{}", attributes={"a": "b"})).encode(), {}, EVENING)

    assert ({"a": "b"}, SUBSCRIPTION) == (pushed.delivery.attributes, pushed.subscription)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": 7},
        {"data": "e30"},
        {"data": "_-8="},
        {"data": "é"},
        {"attributes": []},
        {"attributes": {"a": 1}},
        {"attributes": {"a": "\ud800"}},
        {"attributes": {str(number): "" for number in range(ATTRIBUTES_MAX + 1)}},
        {"messageId": "", "message_id": None},
        {"messageId": 7},
        {"messageId": "é"},
        {"messageId": "7" * 201},
        {"publishTime": "yesterday"},
        {"publishTime": 1734321600},
        {"publishTime": "0001-01-01T00:00:00+23:00"},
        {"publishTime": "0001-01-01T00:00:00Z"},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_broken_envelope_is_refused_with_its_class(changes: dict[str, object]) -> None:
    body = envelope(b"{}")
    body = {**body, "message": {**body["message"], **changes}}

    with pytest.raises(Refusal, match="bad_envelope"):
        read_push(json.dumps(body).encode(), {}, EVENING)


def test_a_push_that_says_it_was_published_in_the_future_was_published_now() -> None:
    body = envelope(b"{}")
    body = {**body, "message": {**body["message"], "publishTime": "2999-01-01T00:00:00Z"}}

    assert EVENING == read_push(json.dumps(body).encode(), {}, EVENING).delivery.published_at


def test_an_envelope_needs_neither_data_nor_attributes_nor_time() -> None:
    body = json.dumps({"message": {"messageId": "1"}, "subscription": SUBSCRIPTION}).encode()

    delivery = read_push(body, {}, EVENING).delivery

    assert (b"", {}, EVENING) == (delivery.data, delivery.attributes, delivery.published_at)


def test_the_body_is_base64_as_google_writes_it() -> None:
    data = bytes(range(256))
    body = json.dumps({"message": {"data": base64.b64encode(data).decode(), "messageId": "1"}, "subscription": "s"})

    assert data == read_push(body.encode(), {}, EVENING).delivery.data
