"""Any bytes in; a completion or a refusal out, and nothing else."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.completion import (
    ERROR_CHARS_MAX,
    FIELD_RULES,
    MESSAGE_BYTES_MAX,
    CompletionMessage,
    Delivery,
    Expectation,
    Refusal,
    RefusalReason,
    decode,
)
from statemachine.model import Completion, CompletionStatus
from tests.support.nights import CACHE, EVENING, NIGHT, PROCESSORS, SECOND

EXPECTED = Expectation(processors=PROCESSORS, earliest=date(2000, 1, 1), latest=NIGHT + timedelta(days=7))
PUBLISHED_AT = EVENING - SECOND
GOOD: dict[str, Any] = {
    "processor": CACHE,
    "analysis_date": "2024-12-15",
    "status": "success",
    "row_count": 446,
}


def delivery(data: bytes, **attributes: str) -> Delivery:
    return Delivery(data=data, attributes=attributes, message_id="message-7", published_at=PUBLISHED_AT)


def read(body: object = GOOD, **attributes: str) -> tuple[date, Completion]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode(delivery(data, **attributes), EXPECTED, EVENING)


def refusal(body: object, **attributes: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(body, **attributes)
    return caught.value


def test_the_documents_event_is_read_as_it_stands() -> None:
    wanted = Completion(
        processor=CACHE,
        status=CompletionStatus.SUCCESS,
        identity="message:message-7",
        completed_at=PUBLISHED_AT,
        received_at=EVENING,
        row_count=446,
        message_id="message-7",
    )

    assert (NIGHT, wanted) == read()


def test_a_row_count_may_be_absent_and_zero_is_a_count() -> None:
    assert read({name: value for name, value in GOOD.items() if name != "row_count"})[1].row_count is None
    assert read(GOOD | {"row_count": 0})[1].row_count == 0


def test_unknown_fields_do_not_disturb() -> None:
    day, completion = read(GOOD | {"duration_s": 3.5, "host": {"name": "a"}})

    assert read() == (day, replace(completion, unknown_fields=None))
    assert completion.unknown_fields == '{"duration_s":3.5,"host":{"name":"a"}}'


@pytest.mark.parametrize(
    ("said", "identity"),
    [
        ({"run_id": "r-1", "completed_at": "2024-12-16T03:00:00Z"}, "run:r-1"),
        ({"completed_at": "2024-12-16T03:00:00Z", "timestamp": "2024-12-16T04:00:00Z"}, "at:2024-12-16T03:00:00+00:00"),
        ({"timestamp": "2024-12-15T22:00:00-05:00"}, "at:2024-12-16T03:00:00+00:00"),
        ({}, "message:message-7"),
    ],
)
def test_a_report_is_identified_by_its_run_else_its_time_else_its_message(said: dict[str, str], identity: str) -> None:
    assert identity == read(GOOD | said)[1].identity


@pytest.mark.parametrize(
    "text",
    ["2024-12-16T03:00:00", "2024-12-16T03:00:00Z", "2024-12-15T22:00:00-05:00", "2024-12-16 03:00:00.000"],
)
def test_a_time_without_a_zone_is_utc_and_every_other_is_turned_into_it(text: str) -> None:
    completed_at = read(GOOD | {"completed_at": text})[1].completed_at

    assert datetime(2024, 12, 16, 3, tzinfo=UTC) == completed_at
    assert completed_at.tzinfo is UTC


@pytest.mark.parametrize("ahead", [timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)])
@pytest.mark.parametrize("field", ["completed_at", "timestamp"])
def test_a_run_counts_as_ended_when_its_message_was_published_at_the_latest(field: str, ahead: timedelta) -> None:
    said = (EVENING + ahead).isoformat()

    completion = read(GOOD | {field: said})[1]

    assert (PUBLISHED_AT, f"at:{said}") == (completion.completed_at, completion.identity), "the identity is as sent"


@pytest.mark.parametrize("field", ["completed_at", "timestamp"])
def test_a_time_more_than_a_day_ahead_is_refused_and_named(field: str) -> None:
    for said in (EVENING + timedelta(days=1, seconds=1), datetime(9999, 12, 31, tzinfo=UTC)):
        caught = refusal(GOOD | {field: said.isoformat()})

        assert caught.reason is RefusalReason.BAD_FIELD
        assert caught.detail.startswith(f"{field}: {said.isoformat()} is more than a day ahead")


def test_a_run_sent_again_from_the_dead_letters_counts_as_ended_when_it_was_first_published() -> None:
    first = PUBLISHED_AT - timedelta(hours=3)
    again = {"mlfs_redriven": "1", "mlfs_message_id": "first", "mlfs_published_at": first.isoformat()}
    ahead = GOOD | {"run_id": "r", "completed_at": EVENING.isoformat()}

    assert [first, first] == [read(body, **again)[1].completed_at for body in (GOOD, ahead)]
    for broken in ("", "soon", "2999-01-01T00:00:00Z", "0001-01-01T00:00:00+23:00", "0001-01-01T00:00:00Z"):
        assert read(GOOD, **{**again, "mlfs_published_at": broken})[1].completed_at == PUBLISHED_AT
    assert read(GOOD, mlfs_published_at=first.isoformat())[1].completed_at == PUBLISHED_AT, "never sent again"


def test_a_long_error_is_cut_and_an_empty_one_is_none() -> None:
    failed = GOOD | {"status": "failed", "error": "x" * 5000}

    assert read(failed)[1].error == "x" * ERROR_CHARS_MAX
    assert read(GOOD | {"error": ""})[1].error is None


def test_attributes_that_agree_or_say_something_else_are_fine() -> None:
    assert read() == read(GOOD, processor=CACHE, analysis_date="2024-12-15", traceparent="00-1-2-01")


@pytest.mark.parametrize(
    ("attribute", "value"), [("analysis_date", "2024-12-14"), ("processor", PROCESSORS[0]), ("processor", "")]
)
def test_an_attribute_that_contradicts_the_body_is_refused(attribute: str, value: str) -> None:
    assert refusal(GOOD, **{attribute: value}).reason is RefusalReason.ATTRIBUTE_MISMATCH


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", RefusalReason.NOT_JSON),
        (b"\xff\xfe", RefusalReason.NOT_JSON),
        (b"\xef\xbb\xbf{}", RefusalReason.NOT_JSON),
        (json.dumps(GOOD).encode("utf-16"), RefusalReason.NOT_JSON),
        (json.dumps(GOOD).encode()[:-1], RefusalReason.NOT_JSON),
        (json.dumps(GOOD).encode() + b"{}", RefusalReason.NOT_JSON),
        (b'{"row_count": NaN}', RefusalReason.NOT_JSON),
        (b'{"row_count": -Infinity}', RefusalReason.NOT_JSON),
        (b"[" * 50_000, RefusalReason.NOT_JSON),
        (b'{"row_count": ' + b"9" * 5000 + b"}", RefusalReason.NOT_JSON),
        (b'{"status": "failed", "status": "success"}', RefusalReason.NOT_JSON),
        (b'{"a": {"b": 1, "b": 2}}', RefusalReason.NOT_JSON),
        (b" " * (MESSAGE_BYTES_MAX + 1), RefusalReason.TOO_LARGE),
        (b"x" * 10_000_000, RefusalReason.TOO_LARGE),
        (b"null", RefusalReason.NOT_AN_OBJECT),
        (b"[]", RefusalReason.NOT_AN_OBJECT),
        (b'"success"', RefusalReason.NOT_AN_OBJECT),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, reason: RefusalReason) -> None:
    assert reason is refusal(body).reason


@pytest.mark.parametrize("missing", ["processor", "analysis_date", "status"])
def test_a_missing_field_is_named(missing: str) -> None:
    caught = refusal({name: value for name, value in GOOD.items() if name != missing})

    assert (RefusalReason.BAD_FIELD, f"{missing}: is missing") == (caught.reason, caught.detail)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("row_count", True),
        ("row_count", "400"),
        ("row_count", 400.0),
        ("row_count", 1e309),
        ("row_count", -1),
        ("row_count", 10**13),
        ("status", "SUCCESS"),
        ("status", "found"),
        ("status", "running"),
        ("status", None),
        ("processor", 7),
        ("processor", ""),
        ("processor", "p" * 101),
        ("analysis_date", 20241215),
        ("run_id", ""),
        ("run_id", 5),
        ("run_id", "r" * 201),
        pytest.param("completed_at", 1734300000, id="completed_at-number"),
        ("completed_at", "1734300000"),
        ("completed_at", "20241216"),
        ("completed_at", "yesterday"),
        ("completed_at", "2024-02-30T00:00:00Z"),
        ("completed_at", "0001-01-01T00:00:00+14:00"),
        ("completed_at", "0001-01-01T00:00:00Z"),
        ("timestamp", "1969-12-31T23:59:59Z"),
        ("timestamp", "9999-12-31T23:59:59-12:00"),
        ("error", ["a"]),
    ],
)
def test_a_wrong_field_is_refused_and_named(field: str, value: object) -> None:
    data = json.dumps(GOOD | {field: value}).replace("Infinity", "1e309").encode()

    caught = refusal(data)

    assert caught.reason is RefusalReason.BAD_FIELD
    assert caught.detail.startswith(f"{field}: must be ")
    assert "Input should" not in caught.detail
    assert "Value error" not in caught.detail


@pytest.mark.parametrize("status", ["SUCCESS", "found", "", None])
def test_a_wrong_status_is_told_what_is_accepted_and_nothing_else(status: object) -> None:
    assert refusal(GOOD | {"status": status}).detail == "status: must be 'success' or 'failed'"


def test_every_field_of_a_completion_has_its_rule_in_words() -> None:
    assert set(CompletionMessage.model_fields) == set(FIELD_RULES)


@pytest.mark.parametrize(
    "body",
    [
        b"Obj\x01\x04\x16avro.schema",
        b"\xc3\x01" + bytes(8) + b"4team_defense_zone_analysis",
        b"4player_composite_factors__\x142024-12-15\x0esuccess",
        b"\x00\x00\x00\x00\x07{}",
    ],
    ids=["object container", "single object", "bare record", "registry"],
)
def test_an_avro_message_is_called_by_its_name(body: bytes) -> None:
    caught = refusal(body)

    assert caught.reason is RefusalReason.NOT_JSON
    assert "Avro" in caught.detail
    assert body[:4].hex() in caught.detail


@pytest.mark.parametrize("body", [b"completed!", b'{"status": "success"\n', "café".encode("latin-1")])
def test_a_text_that_is_no_json_is_not_called_avro(body: bytes) -> None:
    assert "Avro" not in refusal(body).detail


@pytest.mark.parametrize("value", ["1e999", "-1e999", '{"a": [1e999]}'])
def test_an_unknown_field_that_no_json_can_hold_is_not_kept(value: str) -> None:
    body = json.dumps(GOOD)[:-1] + f', "more": {value}}}'

    assert read(body.encode())[1].unknown_fields is None


def test_an_unknown_field_with_half_a_character_is_kept_as_it_was_spelt() -> None:
    assert read(GOOD | {"more": "\ud800"})[1].unknown_fields == '{"more":"\\ud800"}'


@pytest.mark.parametrize("field", ["processor", "run_id", "error"])
def test_a_lone_surrogate_is_no_text(field: str) -> None:
    assert refusal(GOOD | {field: "\ud800"}).reason is RefusalReason.BAD_FIELD


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2024-02-30", RefusalReason.BAD_DATE),
        ("2024-13-01", RefusalReason.BAD_DATE),
        ("0000-01-01", RefusalReason.BAD_DATE),
        ("2024-12-15\n", RefusalReason.BAD_DATE),
        (" 2024-12-15", RefusalReason.BAD_DATE),
        ("2024-12-15T00:00:00", RefusalReason.BAD_DATE),
        ("20241215", RefusalReason.BAD_DATE),
        ("2024-W50-7", RefusalReason.BAD_DATE),
        ("２０２４-１２-１５", RefusalReason.BAD_DATE),  # noqa: RUF001 - digits that are not ASCII
        ("2024-12-15' OR 1=1", RefusalReason.BAD_DATE),
        ("", RefusalReason.BAD_DATE),
        ("0001-01-01", RefusalReason.DATE_OUT_OF_RANGE),
        ("9999-12-31", RefusalReason.DATE_OUT_OF_RANGE),
        ("1999-12-31", RefusalReason.DATE_OUT_OF_RANGE),
        ("2024-12-23", RefusalReason.DATE_OUT_OF_RANGE),
    ],
)
def test_one_night_has_one_spelling_and_a_bounded_range(text: str, reason: RefusalReason) -> None:
    assert reason is refusal(GOOD | {"analysis_date": text}).reason


@pytest.mark.parametrize("text", ["2000-01-01", "2024-12-22", "2024-02-29"])
def test_the_range_includes_its_ends(text: str) -> None:
    assert date.fromisoformat(text) == read(GOOD | {"analysis_date": text})[0]


@pytest.mark.parametrize(
    "name",
    [f"`{CACHE}`", CACHE.upper(), CACHE.replace("a", "а"), f"{CACHE}\x00", f"{CACHE} "],  # noqa: RUF001 - Cyrillic
)
def test_a_name_that_only_looks_like_a_processor_is_refused(name: str) -> None:
    assert refusal(GOOD | {"processor": name}).reason is RefusalReason.UNKNOWN_PROCESSOR


def test_a_refusal_never_repeats_more_than_a_glimpse_of_the_message() -> None:
    secret = "hunter2" * 100

    for body in (GOOD | {"analysis_date": secret}, GOOD | {"run_id": secret}, secret.encode()):
        assert secret not in str(refusal(body))


# --- fuzz ------------------------------------------------------------------------------------------------------------

ZONE_MAX = timedelta(hours=23)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
near_misses = st.fixed_dictionaries(
    {},
    optional={
        "processor": st.sampled_from(PROCESSORS) | json_values,
        "analysis_date": st.dates().map(date.isoformat) | json_values,
        "status": st.sampled_from(["success", "failed", "found"]) | json_values,
        "row_count": st.integers(-5, 10**14) | json_values,
        "run_id": json_values,
        "completed_at": st.datetimes(timezones=st.none() | st.builds(timezone, st.timedeltas(-ZONE_MAX, ZONE_MAX))).map(
            datetime.isoformat
        )
        | json_values,
        "timestamp": json_values,
        "error": json_values,
    },
)


def answer(given_delivery: Delivery) -> tuple[date, Completion] | Refusal:
    try:
        return decode(given_delivery, EXPECTED, EVENING)
    except Refusal as caught:
        return caught


@given(data=st.binary(max_size=400))
@example(data=b'{"processor": "\\ud800"}')
def test_any_bytes_are_a_completion_or_a_refusal(data: bytes) -> None:
    assert isinstance(answer(delivery(data)), tuple | Refusal)


@given(body=near_misses)
def test_anything_like_an_event_is_a_sound_completion_or_a_refusal(body: dict[str, Any]) -> None:
    given_answer = answer(delivery(json.dumps(body).encode()))

    if isinstance(given_answer, Refusal):
        assert given_answer.detail
        return
    day, completion = given_answer
    assert EXPECTED.earliest <= day <= EXPECTED.latest
    assert completion.processor in PROCESSORS
    assert completion.status in {CompletionStatus.SUCCESS, CompletionStatus.FAILED}
    assert completion.completed_at.utcoffset() == timedelta(0)


@given(attributes=st.dictionaries(st.sampled_from(["processor", "analysis_date", "x"]), st.text(max_size=30)))
def test_attributes_can_refuse_a_message_but_never_change_it(attributes: dict[str, str]) -> None:
    given_answer = answer(delivery(json.dumps(GOOD).encode(), **attributes))

    if isinstance(given_answer, Refusal):
        assert given_answer.reason is RefusalReason.ATTRIBUTE_MISMATCH
    else:
        assert read() == given_answer
