"""The exported contract says what the code does: schemas, AsyncAPI document, the examples of docs/events.md."""

import json
import re
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from pydantic import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from ops.commands.schemas import as_text, contract
from schemas.completion import Delivery, Expectation, Refusal, decode
from schemas.contract import ASYNCAPI_FILE, COMPLETION_FILE, OUTCOME_FILE
from schemas.outcome import outcome_message
from statemachine.decision import PublishOutcome
from statemachine.model import DateRecord, State
from tests.support.nights import CACHE, EVENING, PROCESSORS, degraded, done, doubted, failed
from worker.pipelines.shipped import SHIPPED
from worker.settings import Settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # the library calls a field of its models `schema`
    from asyncapi3 import AsyncAPI3

ROOT = Path(__file__).parents[2]
EXPORT = ROOT / "schemas" / "export"
EXPECTED = Expectation(processors=PROCESSORS, earliest=date(2000, 1, 1), latest=date(2100, 1, 1))
DOCUMENTS = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in EXPORT.glob("*.json")}
COMPLETION = Draft7Validator(DOCUMENTS[COMPLETION_FILE])
OUTCOME = Draft7Validator(DOCUMENTS[OUTCOME_FILE])
GOOD = {"processor": CACHE, "analysis_date": "2024-12-15", "status": "success", "row_count": 449}


def examples(name: str) -> list[dict[str, Any]]:
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    return [json.loads(text) for text in re.findall(rf"<!-- example: {name} -->\n```json\n(.*?)```", page, re.DOTALL)]


def is_read(body: Any) -> bool:
    delivery = Delivery(data=json.dumps(body).encode(), attributes={}, message_id="m", published_at=EVENING)
    try:
        decode(delivery, EXPECTED, EVENING)
    except Refusal:
        return False
    return True


def told(record: DateRecord, supersedes: int | None = None) -> dict[str, Any]:
    message = outcome_message(PublishOutcome(record=record, supersedes=supersedes), "ml_feature_store_v2")
    body: dict[str, Any] = json.loads(message.model_dump_json())
    return body


def test_the_exported_files_are_what_the_code_says() -> None:
    """After a change of the messages: make schemas."""
    said = {name: field.default for name, field in Settings.model_fields.items() if not field.is_required()}
    defaults = Settings.model_construct(**SHIPPED.settings, **said)  # whatever the environment says

    made = contract(defaults)

    assert {name: as_text(document) for name, document in made.items()} == {
        file.name: file.read_text(encoding="utf-8") for file in EXPORT.iterdir()
    }


@pytest.mark.parametrize("name", [COMPLETION_FILE, OUTCOME_FILE])
def test_the_schemas_are_schemas_in_the_old_and_the_new_dialect(name: str) -> None:
    Draft7Validator.check_schema(DOCUMENTS[name])
    Draft202012Validator.check_schema({**DOCUMENTS[name], "$schema": Draft202012Validator.META_SCHEMA["$id"]})
    assert "$ref" not in json.dumps(DOCUMENTS[name])


def test_the_asyncapi_document_is_one() -> None:
    document = DOCUMENTS[ASYNCAPI_FILE]

    AsyncAPI3.model_validate(document)

    broken = json.loads(json.dumps(document))
    broken["operations"]["sendSuccess"]["action"] = "emit"
    with pytest.raises(ValidationError):
        AsyncAPI3.model_validate(broken)


def test_the_attributes_of_every_message_have_a_sound_schema() -> None:
    messages = DOCUMENTS[ASYNCAPI_FILE]["components"]["messages"]

    for message in messages.values():
        Draft7Validator.check_schema(message["headers"])
    assert {"completion", "outcome", "deadLetter"} == set(messages)


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return here + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_whatever_the_asyncapi_document_refers_to_is_there() -> None:
    resources = [(name, Resource.from_contents(document, DRAFT7)) for name, document in DOCUMENTS.items()]
    resolver = Registry().with_resources(resources).resolver(base_uri=ASYNCAPI_FILE)

    found = {text: resolver.lookup(text).contents for text in references(DOCUMENTS[ASYNCAPI_FILE])}

    assert found[f"./{OUTCOME_FILE}"] == DOCUMENTS[OUTCOME_FILE]
    assert found[f"./{COMPLETION_FILE}"] == DOCUMENTS[COMPLETION_FILE]
    assert all(isinstance(contents, dict) and contents for contents in found.values())


def test_the_asyncapi_document_names_the_topics_and_attributes_of_the_settings() -> None:
    document = contract(Settings(topic="reports", success_topic="good", failure_topic="bad", dead_letter_topic="dead"))

    channels = document[ASYNCAPI_FILE]["channels"]
    assert {"reports", "good", "bad", "dead"} == {channel["address"] for channel in channels.values()}


@pytest.mark.parametrize("example", examples("completion"), ids=json.dumps)
def test_every_completion_of_the_page_is_read(example: dict[str, Any]) -> None:
    COMPLETION.validate(example)
    assert is_read(example)


@pytest.mark.parametrize("example", examples("outcome"), ids=lambda example: str(example["state"]))
def test_every_outcome_of_the_page_has_the_form_of_a_real_one(example: dict[str, Any]) -> None:
    OUTCOME.validate(example)
    real = told(failed() if example["state"] == State.FAILED else degraded(CACHE))
    assert list(example) == list(real)
    assert sum(example["components"].values()) == pytest.approx(example["component_total"])


def test_the_page_has_examples_of_both() -> None:
    assert (3, 2) == (len(examples("completion")), len(examples("outcome")))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"row_count": None},
        {"row_count": 0},
        {"status": "failed", "error": "no rows"},
        {"run_id": "r", "completed_at": "2024-12-16T04:15:00Z", "timestamp": "2024-12-16T04:15:00"},
        {"future": {"deep": [1]}, "schema_version": 7},
        {"row_count": "449"},
        {"row_count": -1},
        {"row_count": 1.5},
        {"row_count": True},
        {"status": "found"},
        {"status": "SUCCESS"},
        {"status": None},
        {"processor": "odds"},
        {"processor": 7},
        {"analysis_date": "2024-12-15T00:00:00Z"},
        {"analysis_date": "15.12.2024"},
        {"analysis_date": None},
        {"run_id": ""},
        {"run_id": 7},
        {"completed_at": 1734321300},
        {"completed_at": "1734321300"},
        {"error": 7},
    ],
    ids=json.dumps,
)
def test_schema_and_code_read_and_refuse_the_same(changes: dict[str, Any]) -> None:
    body = GOOD | changes

    assert COMPLETION.is_valid(body) == is_read(body)


@pytest.mark.parametrize("field", ["processor", "analysis_date", "status"])
def test_schema_and_code_require_the_same(field: str) -> None:
    body = {name: value for name, value in GOOD.items() if name != field}

    assert (False, False) == (COMPLETION.is_valid(body), is_read(body))


@pytest.mark.parametrize("record", [done(), degraded(CACHE), failed()], ids=lambda record: record.state)
def test_every_ending_is_told_in_the_exported_form(record: DateRecord) -> None:
    for supersedes in (None, 1):
        OUTCOME.validate(told(record, supersedes))


def test_findings_are_told_without_the_processor_that_only_the_state_machine_needs() -> None:
    body = told(doubted(CACHE))

    OUTCOME.validate(body)
    assert list(body["findings"][0]) == ["check", "severity", "subject", "observed", "expected", "next_step"]
    assert told(done())["findings"] == []


def test_a_cancelled_date_that_was_never_triggered_is_told_in_the_exported_form() -> None:
    OUTCOME.validate(told(replace(failed(), generation=0, trigger=None)))


def test_an_outcome_of_the_release_before_versions_and_of_a_newer_one_fit_the_form() -> None:
    """An outbox may hold messages of the release before; a consumer may be older than the worker."""
    older = {name: value for name, value in told(done()).items() if name != "schema_version"}
    newer = told(done()) | {"schema_version": 2, "model_hint": {"warm": True}}

    OUTCOME.validate(older)
    OUTCOME.validate(newer)


def test_a_consumer_written_for_the_pipeline_document_still_reads_an_outcome() -> None:
    body = told(done())

    assert ("ml_feature_store_v2", "2024-12-15") == (body["processor"], body["analysis_date"])
    assert (int, float) == (type(body["row_count"]), type(body["quality_score"]))
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z", body["timestamp"])
