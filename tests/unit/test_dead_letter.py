"""A dead letter says why it lies there, and becomes the message it was before."""

from datetime import date

import pytest

from schemas.completion import Delivery, Expectation, Refusal, RefusalReason, decode
from schemas.dead_letter import (
    ATTRIBUTES_KEPT_MAX,
    DATA_BYTES_MAX,
    DETAIL_BYTES_MAX,
    UNDELIVERED,
    UNKNOWN,
    DeadLetter,
    parked_attributes,
    without_senders,
)
from tests.support.nights import CACHE, EVENING, PROCESSORS

EXPECTED = Expectation(processors=PROCESSORS, earliest=date(2000, 1, 1), latest=date(2100, 1, 1))
GOOD = b'{"processor": "player_daily_cache", "analysis_date": "2024-12-15", "status": "success"}'
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
BAD = Refusal(RefusalReason.BAD_DATE, "no such day")


def delivery(data: bytes = GOOD, message_id: str = "first", **attributes: str) -> Delivery:
    return Delivery(data=data, attributes=attributes, message_id=message_id, published_at=EVENING)


def copy(attributes: dict[str, str], data: bytes = GOOD) -> DeadLetter:
    return DeadLetter(message_id="copy", published_at=EVENING, data=data, attributes=attributes)


def parked(refused: Delivery, refusal: Refusal = BAD) -> DeadLetter:
    return copy(parked_attributes(refused, refusal), refused.data)


def test_a_parked_message_says_why_and_who_it_was() -> None:
    letter = parked(delivery(tenant="nba"))

    assert ("bad_date", "no such day", "first", 0) == (
        letter.reason,
        letter.detail,
        letter.original_message_id,
        letter.redriven,
    )


def test_sent_again_it_has_its_own_attributes_its_first_id_and_a_count() -> None:
    letter = parked(delivery(tenant="nba", traceparent="00-1"))

    assert letter.attributes_to_resend() == {
        "tenant": "nba",
        "traceparent": "00-1",
        "mlfs_message_id": "first",
        "mlfs_published_at": EVENING.isoformat(),
        "mlfs_redriven": "1",
    }


def test_the_count_rises_each_time_it_is_refused_and_the_first_id_stays() -> None:
    letter = parked(delivery())
    for count in (1, 2, 3):
        again = delivery(message_id=f"resent-{count}", **letter.attributes_to_resend())
        letter = parked(again)

        assert (count, "first") == (letter.redriven, letter.original_message_id)


def test_sent_twice_by_accident_it_is_one_completion() -> None:
    resent = parked(delivery()).attributes_to_resend()

    identities = {
        decode(delivery(message_id=message_id, **resent), EXPECTED, EVENING)[1].identity for message_id in ("a", "b")
    }

    assert identities == {"message:first"}


@pytest.mark.parametrize(
    "attributes",
    [{"mlfs_message_id": "x"}, {"mlfs_message_id": "x", "mlfs_redriven": "-1"}, {"mlfs_redriven": "1"}],
    ids=["not redriven", "no count", "no id"],
)
def test_attributes_that_are_not_ours_change_no_identity(attributes: dict[str, str]) -> None:
    assert decode(delivery(**attributes), EXPECTED, EVENING)[1].identity == "message:first"


def test_what_pubsub_forwarded_is_shown_and_loses_pubsubs_attributes() -> None:
    letter = copy(
        {
            "tenant": "nba",
            "CloudPubSubDeadLetterSourceDeliveryCount": "5",
            "CloudPubSubDeadLetterSourceSubscription": "worker",
            "CloudPubSubDeadLetterSourceSubscriptionProject": "nba",
            "CloudPubSubDeadLetterSourceTopicPublishTime": "2024-12-16T04:00:00.000+00:00",
        }
    )

    assert (UNDELIVERED, "worker", "not acknowledged in 5 deliveries to worker") == (
        letter.reason,
        letter.source_subscription,
        letter.detail,
    )
    assert letter.attributes_to_resend() == {
        "tenant": "nba",
        "mlfs_message_id": "copy",
        "mlfs_published_at": "2024-12-16T04:00:00.000+00:00",
        "mlfs_redriven": "1",
    }


def test_what_somebody_else_put_there_is_named_so() -> None:
    assert (UNKNOWN, "") == (copy({}).reason, copy({}).detail)


def test_a_copy_always_fits_into_what_pubsub_takes() -> None:
    """One that does not fit could never be parked, and would come back for ever."""
    refused = delivery(b"x" * 10_000_000, mlfs_redriven="2", **{f"attribute-{number}": "x" for number in range(100)})

    attributes = parked_attributes(refused, Refusal(RefusalReason.BAD_FIELD, "球" * 2000))

    assert len(attributes) <= 100
    assert len(attributes) > ATTRIBUTES_KEPT_MAX
    assert max(len(value.encode()) for value in attributes.values()) <= DETAIL_BYTES_MAX
    assert ("2", True) == (attributes["mlfs_redriven"], copy(attributes, refused.data[:DATA_BYTES_MAX]).truncated)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("big", "x" * 1_000_000),
        ("big", "x" * 1025),
        ("wide", "球" * 342),
        ("n" * 257, "x"),
        ("球" * 86, "x"),
        ("", "x"),
        ("goog", "x"),
        ("googclient_schemaencoding", "BINARY"),
    ],
    ids=["1 MB", "1,025 bytes", "wide", "long name", "wide name", "no name", "reserved", "google's client"],
)
def test_an_attribute_that_pubsub_refuses_is_left_out_of_the_copy_and_named(name: str, value: str) -> None:
    refused = delivery(**{name: value, "tenant": "nba", "edge": "x" * 1024, "e" * 256: "x"})

    letter = parked(refused)

    assert {"tenant", "edge", "e" * 256} <= set(letter.attributes)
    assert name not in letter.attributes
    assert letter.attributes["mlfs_left_out"] == repr(name[:40])
    assert letter.detail == f"no such day; attributes left out of this copy: {name[:40]!r}"
    assert name not in letter.attributes_to_resend()
    assert "mlfs_left_out" not in letter.attributes_to_resend()


def test_the_trace_of_googles_client_is_kept_under_the_name_that_a_publisher_may_use() -> None:
    letter = parked(delivery(googclient_traceparent=TRACE))

    assert (TRACE, "'googclient_traceparent'") == (letter.attributes["traceparent"], letter.attributes["mlfs_left_out"])


def test_without_the_senders_attributes_the_copy_still_says_why_and_what_it_was() -> None:
    full = parked_attributes(delivery(tenant="nba", goog="x"), BAD)

    bare = without_senders(full)

    assert set(bare) == {"mlfs_reason", "mlfs_detail", "mlfs_message_id", "mlfs_published_at", "mlfs_left_out"}
    assert bare["mlfs_left_out"] == "'goog', 'tenant'"


def test_the_sender_s_trace_and_unknown_fields_are_kept() -> None:
    body = GOOD[:-1] + b', "schema_version": 2, "region": {"name": "eu"}}'

    completion = decode(delivery(body, traceparent=TRACE), EXPECTED, EVENING)[1]

    assert (CACHE, TRACE, '{"schema_version":2,"region":{"name":"eu"}}') == (
        completion.processor,
        completion.traceparent,
        completion.unknown_fields,
    )


@pytest.mark.parametrize(
    ("attributes", "trace"),
    [
        ({"googclient_traceparent": TRACE}, TRACE),
        (
            {"traceparent": "1", "googclient_traceparent": TRACE},
            TRACE,
        ),
        ({"traceparent": f"00-{'0' * 32}-{'b' * 16}-00"}, None),
        ({"traceparent": f"ff-{'a' * 32}-{'b' * 16}-00"}, None),
        ({}, None),
    ],
    ids=["google's client", "broken and google's", "no trace id", "no version", "none"],
)
def test_a_trace_that_cannot_be_read_is_no_trace(attributes: dict[str, str], trace: str | None) -> None:
    assert decode(delivery(**attributes), EXPECTED, EVENING)[1].traceparent == trace


def test_unknown_fields_without_bound_are_not_kept() -> None:
    body = GOOD[:-1] + b', "log": "' + b"x" * 1000 + b'"}'

    assert decode(delivery(body), EXPECTED, EVENING)[1].unknown_fields is None
