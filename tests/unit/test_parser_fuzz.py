"""Any bytes are an event or a refusal with a class, never a crash. `make fuzz` goes on where this stops."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.completion import RefusalReason
from tests.fuzz.judge import judge_message, judge_push
from tests.fuzz.seeds import DATES, GOOD, INSTANTS, NUMBERS, PROCESSORS, messages, pushes, with_one_field

ENDS = {"accepted", *(reason.value for reason in RefusalReason)}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "processor": st.sampled_from((*PROCESSORS, GOOD["processor"])) | VALUES,
        "analysis_date": st.sampled_from(DATES) | st.dates().map(str) | VALUES,
        "status": st.sampled_from(("success", "failed", "found")) | VALUES,
        "row_count": st.integers(-(10**13), 10**13) | VALUES,
        "run_id": VALUES,
        "completed_at": st.sampled_from(INSTANTS) | st.datetimes(timezones=st.timezones()).map(str) | VALUES,
        "timestamp": st.sampled_from(INSTANTS) | VALUES,
        "error": VALUES,
    },
)


@pytest.mark.parametrize("body", [*messages()], ids=range(len([*messages()])))
def test_every_kind_of_hostile_message_ends_in_a_class(body: bytes) -> None:
    assert judge_message(body) in ENDS
    assert judge_message(body, {"processor": "odds", "analysis_date": "2024-12-16"}) in ENDS - {"accepted"}


@pytest.mark.parametrize("body", [*pushes()], ids=range(len([*pushes()])))
def test_every_kind_of_hostile_push_ends_in_a_class(body: bytes) -> None:
    assert judge_push(body) in ENDS


@given(st.binary(max_size=2000))
def test_any_bytes_end_in_a_class(body: bytes) -> None:
    assert judge_message(body) in ENDS
    assert judge_push(body) in ENDS
    assert judge_message(with_one_field(body)) in ENDS


@given(fields=FIELDS, known=st.booleans())
@example(fields={}, known=True)
def test_any_fields_end_in_a_class(fields: dict[str, Any], known: bool) -> None:
    body = {**GOOD, **fields} if known else fields

    assert judge_message(json.dumps(body).encode()) in ENDS


@given(message=FIELDS | VALUES, attributes=VALUES, publish_time=VALUES, message_id=VALUES)
def test_any_envelope_ends_in_a_class(message: Any, attributes: Any, publish_time: Any, message_id: Any) -> None:
    envelope = {"data": message, "attributes": attributes, "publishTime": publish_time, "messageId": message_id}

    assert judge_push(json.dumps({"message": envelope, "subscription": "s"}).encode()) in ENDS


@pytest.mark.parametrize("number", NUMBERS)
def test_a_strange_number_is_no_row_count(number: str) -> None:
    body = json.dumps(GOOD).replace("449", number).encode()

    assert (judge_message(body) == "accepted") is (number == "null")
