"""Contract with other programs: JSON Schemas of the messages, and an AsyncAPI document of the topics.

Model: the documents are made from the models that read and write the messages, so documents and messages agree. The
files in `schemas/export/` are for the default topics; `mlfs schemas --out DIR` writes files for the settings in force.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from schemas.completion import FIRST_MESSAGE_ID, REDRIVEN, CompletionMessage, RefusalReason
from schemas.dead_letter import DETAIL, REASON, TRUNCATED
from schemas.outcome import SCHEMA_VERSION, OutcomeMessage

COMPLETION_FILE = "completion.v1.schema.json"
OUTCOME_FILE = f"outcome.v{SCHEMA_VERSION}.schema.json"
ASYNCAPI_FILE = "asyncapi.json"
# Of the contract: the first number is the outcomes' schema version, the second rises with each new field or topic.
CONTRACT_VERSION = f"{SCHEMA_VERSION}.2.0"

_DIALECT = "http://json-schema.org/draft-07/schema#"
_FORMAT = "application/schema+json;version=draft-07"
_TRACE = {
    "type": "string",
    "description": "W3C Trace Context.",
    "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicNames:
    """Short names of the topics."""

    completions: str
    success: str
    failure: str
    dead_letters: str


def documents(topics: TopicNames, processors: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """Return every document by file name.

    Args:
        topics: Names of the topics.
        processors: Processors that may report.
    """
    return {
        COMPLETION_FILE: completion_schema(processors),
        OUTCOME_FILE: outcome_schema(),
        ASYNCAPI_FILE: asyncapi(topics),
    }


def completion_schema(processors: Sequence[str]) -> dict[str, Any]:
    """Return the JSON Schema of a completion event; *processors* may report."""
    schema = _schema(CompletionMessage, "completion", "validation")
    schema["properties"]["processor"] = {
        "type": "string",
        "enum": list(processors),
        "description": schema["properties"]["processor"]["description"],
    }
    return schema


def outcome_schema() -> dict[str, Any]:
    """Return the JSON Schema of an outcome message."""
    return _schema(OutcomeMessage, "outcome", "serialization")


def _schema(model: type[BaseModel], name: str, mode: Any) -> dict[str, Any]:  # noqa: ANN401 - pydantic's literal
    made = model.model_json_schema(mode=mode)
    body = _inlined({key: value for key, value in made.items() if key != "$defs"}, made.get("$defs", {}))
    return {"$schema": _DIALECT, "$id": f"urn:mlfs:schema:{name}:1", **body}


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Put definitions in the place of their names: draft 7 and newer drafts keep definitions in different places."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    target = definitions.get(str(node.get("$ref", "")).removeprefix("#/$defs/"), {})
    merged = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    # The titles that pydantic makes up repeat the names.
    return {key: _inlined(value, definitions) for key, value in merged.items() if key != "title"}


def asyncapi(topics: TopicNames) -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document: topics, messages and attributes, from the view of the worker."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ml-feature-store-worker",
            "version": CONTRACT_VERSION,
            "description": "Four completions a night come in, one outcome a generation goes out, at least once.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"pubsub": {"host": "pubsub.googleapis.com", "protocol": "googlepubsub"}},
        "channels": {
            "completions": _channel(topics.completions, "completion", "Reports of the processors."),
            "success": _channel(topics.success, "outcome", "Generations that are done or degraded."),
            "failure": _channel(topics.failure, "outcome", "Generations that failed."),
            "deadLetters": _channel(topics.dead_letters, "deadLetter", "Messages that can never become a completion."),
        },
        "operations": {
            "receiveCompletion": _operation("receive", "completions", "completion"),
            "sendSuccess": _operation("send", "success", "outcome"),
            "sendFailure": _operation("send", "failure", "outcome"),
            "sendDeadLetter": _operation("send", "deadLetters", "deadLetter"),
        },
        "components": {"messages": _messages()},
    }


def _channel(address: str, message: str, description: str) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _operation(action: str, channel: str, message: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _messages() -> dict[str, Any]:
    text = {"type": "string"}
    outcome = OutcomeMessage.model_fields
    told = ("schema_version", "processor", "analysis_date", "state", "generation", "event_id")
    return {
        "completion": {
            "title": "A processor completed",
            "headers": _headers(
                {"processor": text, "analysis_date": text, "traceparent": _TRACE},
                "Optional; what stands here and in the body must be the same.",
            ),
            "payload": {"schemaFormat": _FORMAT, "schema": {"$ref": f"./{COMPLETION_FILE}"}},
        },
        "outcome": {
            "title": "A generation ended",
            "description": "The ordering key is the date: generations of one date come in order.",
            "headers": _headers(
                {**{name: {**text, "description": outcome[name].description} for name in told}, "traceparent": _TRACE},
                "Attributes, for subscription filters.",
            ),
            "payload": {"schemaFormat": _FORMAT, "schema": {"$ref": f"./{OUTCOME_FILE}"}},
        },
        "deadLetter": {
            "title": "A message was refused",
            "description": "The body is the refused one's, whatever it is; so are the other attributes.",
            "contentType": "application/octet-stream",
            "headers": _headers(
                {
                    REASON: {**text, "enum": [reason.value for reason in RefusalReason]},
                    DETAIL: {**text, "description": "What is wrong, in a sentence."},
                    FIRST_MESSAGE_ID: {**text, "description": "Id of the message that was first sent."},
                    REDRIVEN: {**text, "description": "How often it was sent again."},
                    TRUNCATED: {**text, "description": "Full length in bytes of a body that was cut."},
                },
                "Attributes that the worker adds.",
            ),
        },
    }


def _headers(properties: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {"type": "object", "description": description, "properties": dict(properties)}
