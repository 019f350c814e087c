"""Whoever sends a completion, in the form of whatever year: four of them make the night."""

import json
from typing import Any

import pytest

from schemas.completion import Delivery, Expectation, Refusal, RefusalReason, decode
from statemachine.events import CompletionReceived
from statemachine.model import State, Trigger
from tests.support.nights import EVENING, NIGHT, PROCESSORS
from tests.support.rigs import Rig

EXPECTED = Expectation(processors=PROCESSORS, earliest=NIGHT, latest=NIGHT)

Shape = tuple[dict[str, Any], dict[str, str]]
# Fields and attributes that a sender adds to processor, analysis_date and status.
SHAPES: dict[str, Shape] = {
    "the document's": ({"row_count": 450}, {}),
    "the document's, without a count": ({}, {}),
    "the document's stored form": ({"completed_at": "2024-12-15T23:05:00Z", "row_count": 450}, {}),
    "utcnow().isoformat() + 'Z'": ({"completed_at": "2024-12-16T04:05:00.123456Z"}, {}),
    "utcnow().isoformat()": ({"timestamp": "2024-12-16T04:05:00.123456"}, {}),
    "mlfs emit": ({"run_id": "nightly-1", "completed_at": "2024-12-16T04:05:00+00:00"}, {}),
    "with attributes": ({"row_count": 450}, {"analysis_date": "2024-12-15", "traceparent": "no trace"}),
    "with nulls": ({"row_count": None, "run_id": None, "completed_at": None, "error": None}, {}),
    "newer": (
        {"schema_version": 2, "run_id": "r", "row_count": 450, "tables": [{"name": "t", "rows": 450}]},
        {"schema_version": "2", "content-type": "application/json"},
    ),
    "much newer": ({"schema_version": 9, "log": "x" * 20_000}, {"region": "eu"}),
}


def deliver(processor: str, shape: Shape, **changes: Any) -> Delivery:
    fields, attributes = shape
    body = {"processor": processor, "analysis_date": "2024-12-15", "status": "success", **fields, **changes}
    return Delivery(
        data=json.dumps(body).encode(), attributes=attributes, message_id=f"id-{processor}", published_at=EVENING
    )


def fold(*deliveries: Delivery) -> Rig:
    rig = Rig()
    for delivery in deliveries:
        day, completion = decode(delivery, EXPECTED, EVENING)
        rig.engine.apply(day, CompletionReceived(completion=completion))
    return rig


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_four_events_of_one_form_make_the_night(shape: Shape) -> None:
    rig = fold(*(deliver(name, shape) for name in PROCESSORS))

    record = rig.store.load(NIGHT)
    assert record is not None
    assert (State.READY, Trigger.JOIN, set(PROCESSORS)) == (record.state, record.trigger, record.counted)


def test_senders_of_every_age_make_one_night_together() -> None:
    shapes = list(SHAPES.values())
    for first in range(len(shapes)):
        chosen = [shapes[(first + step * 3) % len(shapes)] for step in range(4)]

        rig = fold(*(deliver(name, shape) for name, shape in zip(PROCESSORS, chosen, strict=True)))

        assert [NIGHT] == rig.started


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_failure_of_any_form_never_counts(shape: Shape) -> None:
    rig = fold(*(deliver(name, shape, status="failed") for name in PROCESSORS))

    record = rig.store.load(NIGHT)
    assert record is not None
    assert (State.WAITING, frozenset()) == (record.state, record.counted)


def test_the_document_s_trigger_message_is_refused_and_does_no_harm() -> None:
    """What its four-way join sent on to the feature store; here nobody needs it."""
    trigger = deliver(
        "ml_feature_store_v2",
        (
            {
                "trigger_source": "four_way_dependency_complete",
                "upstream_completions": {name: {"status": "success"} for name in PROCESSORS},
            },
            {},
        ),
    )

    with pytest.raises(Refusal) as refused:
        decode(trigger, EXPECTED, EVENING)

    assert refused.value.reason is RefusalReason.UNKNOWN_PROCESSOR
