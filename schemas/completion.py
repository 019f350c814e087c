"""Completion events: the bytes of a Pub/Sub message become a `Completion`, or are refused with a reason.

Model: the wire form is `{processor, analysis_date, status, row_count}` of the pipeline document plus optional `run_id`,
`completed_at` (or `timestamp`) and `error`. Unknown fields are kept for people and have no effect.

Guarantees: types are strict, so `"400"` is no row count and `true` is no number; a wrong field is refused. The JSON is
strict, too: UTF-8, no NaN, no key twice in one object, a bounded depth.

A text nested deeper than `DEPTH_MAX` is refused before the parser reads the text. The parser is recursive: without
this bound, the caller's place on the stack would decide whether the parser refuses a text, or returns a value that no
encoder can write again.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from statemachine.model import Completion, CompletionStatus

# The pipeline's own messages are one deep. A newer sender's fields have room, and every stack has room for 64 levels.
DEPTH_MAX = 64
# A text from its quotation mark to its end, also where the end is missing. Possessive, so that a hostile body costs one
# pass over its bytes.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

# The document's events are about 150 bytes; 64 KiB leaves room for any error text and bounds the parser's work.
MESSAGE_BYTES_MAX = 64 * 1024
ERROR_CHARS_MAX = 2000
IDENTITY_CHARS_MAX = 200
# Fields that a newer sender adds are kept for people, as far as a record has room for them.
UNKNOWN_CHARS_MAX = 500
PROCESSOR_CHARS_MAX = 100
ROW_COUNT_MAX = 10**12
# A time zone left out of a time shifts the time by 14 hours at most; a time further ahead comes from a wrong clock.
AHEAD_MAX = timedelta(days=1)
EPOCH = datetime.fromtimestamp(0, UTC)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Attributes of a message that was sent again from the dead-letter topic: how often, the id and the publish time of the
# message that first came.
REDRIVEN = "mlfs_redriven"
FIRST_MESSAGE_ID = "mlfs_message_id"
FIRST_PUBLISHED_AT = "mlfs_published_at"
_COUNT = re.compile(r"[0-9]{1,4}")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
# W3C Trace Context, where the sender's own tracing or Google's client puts it.
TRACE_ATTRIBUTES = ("traceparent", "googclient_traceparent")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class RefusalReason(StrEnum):
    """Reasons for parking a message; docs/reasons.md explains each reason."""

    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    BAD_FIELD = "bad_field"
    BAD_DATE = "bad_date"
    DATE_OUT_OF_RANGE = "date_out_of_range"
    UNKNOWN_PROCESSOR = "unknown_processor"
    ATTRIBUTE_MISMATCH = "attribute_mismatch"
    BAD_ENVELOPE = "bad_envelope"
    UNREADABLE = "unreadable"


class Refusal(ValueError):
    """The message can never become an event, also after a retry. The sender's fault."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message as delivered by the bus.

    Attributes:
        data: The body, untrusted.
        attributes: The attributes, untrusted.
        message_id: The id on the bus.
        published_at: Instant at which the bus accepted the message. UTC.
    """

    data: bytes
    attributes: Mapping[str, str]
    message_id: str
    published_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Processors and analysis dates accepted by the pipeline.

    Attributes:
        processors: Names that may report.
        earliest: First analysis date accepted.
        latest: Last analysis date accepted, so that a wrong clock cannot open a thousand dates.
    """

    processors: tuple[str, ...]
    earliest: date
    latest: date


def as_utc(value: datetime) -> datetime:
    """Read a time without zone as UTC: `datetime.utcnow().isoformat()` is what Python services send.

    Raises:
        ValueError: Before 1970, as several languages write a time without a value (the year 1); or beyond the year
            9999 in UTC.
    """
    try:
        instant = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("must lie between the years 1970 and 9999 in UTC") from exc
    if instant < EPOCH:
        raise ValueError("must lie between the years 1970 and 9999 in UTC")
    return instant


def _iso_instant(value: object) -> object:
    """Accept text with a date only: for a number, quoted or not, the unit (s or ms) would be a guess."""
    if value is not None and not (isinstance(value, str) and _DATE.match(value)):
        raise ValueError("must be an ISO 8601 text")
    return value


def _unicode(value: str) -> str:
    """Refuse half a character (a lone surrogate): JSON can spell a surrogate, and no store takes a surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8") from None
    return value


Text = Annotated[str, AfterValidator(_unicode)]
Instant = Annotated[
    datetime,
    BeforeValidator(_iso_instant),
    AfterValidator(as_utc),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}"}),
]
Reported = Annotated[CompletionStatus, WithJsonSchema({"type": "string", "enum": ["success", "failed"]})]


class CompletionMessage(BaseModel):
    """The wire form of a completion event, version 1."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    processor: str = Field(min_length=1, max_length=PROCESSOR_CHARS_MAX, description="Who completed.")
    analysis_date: str = Field(
        description="The night, YYYY-MM-DD, in the zone of the pipeline.",
        json_schema_extra={"format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    )
    status: Reported = Field(strict=False, description="`success` counts; `failed` is stored and shown.")
    row_count: int | None = Field(default=None, ge=0, le=ROW_COUNT_MAX, description="Rows written.")
    run_id: str | None = Field(
        default=None, min_length=1, max_length=IDENTITY_CHARS_MAX, description="Names the run: a repeat counts once."
    )
    completed_at: Instant | None = Field(
        default=None,
        strict=False,
        description="When the run ended, ISO 8601; without a zone it is UTC; at most a day ahead.",
    )
    timestamp: Instant | None = Field(default=None, strict=False, description="Read when completed_at is absent.")
    error: Text | None = Field(default=None, description="What went wrong; 2,000 characters are kept.")


_INSTANT_RULE = "must be an ISO 8601 time such as 2024-12-16T04:15:00Z, between the years 1970 and 9999 in UTC, or null"
# Accepted values of each field, for the person repairing the sender.
FIELD_RULES = {
    "processor": f"must be a text of 1 to {PROCESSOR_CHARS_MAX} characters",
    "analysis_date": "must be a text YYYY-MM-DD",
    "status": "must be 'success' or 'failed'",
    "row_count": f"must be a whole number from 0 to {ROW_COUNT_MAX}, without quotation marks, or null",
    "run_id": f"must be a text of 1 to {IDENTITY_CHARS_MAX} characters, or null",
    "completed_at": _INSTANT_RULE,
    "timestamp": _INSTANT_RULE,
    "error": "must be a text in valid Unicode, or null",
}


def parse_analysis_date(text: str, earliest: date, latest: date) -> date:
    """Read `YYYY-MM-DD` only: with a single form an analysis date has a single key.

    Raises:
        Refusal: Not that form, no such day, or outside the accepted range.
    """
    if not _DATE.fullmatch(text):
        raise Refusal(RefusalReason.BAD_DATE, f"analysis_date {text[:40]!r} is not YYYY-MM-DD")
    try:
        parsed = date.fromisoformat(text)
    except ValueError as exc:
        raise Refusal(RefusalReason.BAD_DATE, f"analysis_date {text!r} is no day of the calendar") from exc
    if not earliest <= parsed <= latest:
        raise Refusal(RefusalReason.DATE_OUT_OF_RANGE, f"analysis_date {text} is outside {earliest} to {latest}")
    return parsed


def decode(delivery: Delivery, expected: Expectation, received_at: datetime) -> tuple[date, Completion]:
    """Return the analysis date and the completion reported by a delivery.

    Args:
        delivery: The delivery from the bus.
        expected: Processors and analysis dates accepted by the pipeline.
        received_at: Now, aware, UTC.

    Raises:
        Refusal: The message can never be an event, with the class of fault.
    """
    body = _json_object(delivery)
    try:
        message = CompletionMessage.model_validate(body)
    except ValidationError as exc:
        fault = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        raise _bad_field(str(fault["loc"][0]), missing=fault["type"] == "missing") from exc
    if message.status is CompletionStatus.FOUND:
        raise _bad_field("status")
    analysis_date = parse_analysis_date(message.analysis_date, expected.earliest, expected.latest)
    if message.processor not in expected.processors:
        raise Refusal(RefusalReason.UNKNOWN_PROCESSOR, f"processor {message.processor[:100]!r} is not awaited")
    for name in ("analysis_date", "processor"):
        claimed = delivery.attributes.get(name)
        if claimed is not None and claimed != body[name]:
            raise Refusal(RefusalReason.ATTRIBUTE_MISMATCH, f"attribute {name} contradicts the body")
    return analysis_date, _completion(message, body, delivery, received_at)


def _bad_field(name: str, *, missing: bool = False) -> Refusal:
    return Refusal(RefusalReason.BAD_FIELD, f"{name}: {'is missing' if missing else FIELD_RULES[name]}")


def _completion(
    message: CompletionMessage, body: Mapping[str, Any], delivery: Delivery, received_at: datetime
) -> Completion:
    said_at = _said_at(message, received_at)
    published_at = first_published_at(delivery)
    if message.run_id is not None:
        identity = f"run:{message.run_id}"
    elif said_at is not None:
        identity = f"at:{said_at.isoformat()}"
    else:
        identity = f"message:{first_message_id(delivery)}"
    return Completion(
        processor=message.processor,
        status=message.status,
        identity=identity,
        # A run has ended when its message is published. A sender's clock that is ahead would outrank later runs.
        completed_at=published_at if said_at is None else min(said_at, published_at),
        received_at=received_at,
        row_count=message.row_count,
        error=message.error[:ERROR_CHARS_MAX] if message.error else None,
        message_id=delivery.message_id,
        traceparent=trace_of(delivery.attributes),
        unknown_fields=_unknown_fields(body),
    )


def _said_at(message: CompletionMessage, received_at: datetime) -> datetime | None:
    """Return the time at which the run ended by the sender's clock; None where the sender names no time."""
    name = "timestamp" if message.completed_at is None else "completed_at"
    said_at = message.completed_at or message.timestamp
    if said_at is not None and said_at - received_at > AHEAD_MAX:
        ahead = f"{said_at.isoformat()} is more than a day ahead of the state store's clock"
        raise Refusal(RefusalReason.BAD_FIELD, f"{name}: {ahead} ({received_at.isoformat()}); set the sender's clock")
    return said_at


def redriven_count(attributes: Mapping[str, str]) -> int:
    """Return the number of redrives of the message from the dead-letter topic."""
    text = attributes.get(REDRIVEN, "")
    return int(text) if _COUNT.fullmatch(text) else 0


def first_message_id(delivery: Delivery) -> str:
    """Return the id of the first delivery: a redriven message has a new id."""
    first = delivery.attributes.get(FIRST_MESSAGE_ID, "")
    known = redriven_count(delivery.attributes) and 0 < len(first) <= IDENTITY_CHARS_MAX
    return first if known else delivery.message_id


def first_published_at(delivery: Delivery) -> datetime:
    """Return the publish time of the first delivery: a redriven message is published later."""
    first = delivery.attributes.get(FIRST_PUBLISHED_AT, "") if redriven_count(delivery.attributes) else ""
    try:
        return min(as_utc(datetime.fromisoformat(first)), delivery.published_at)
    except ValueError:
        return delivery.published_at


def trace_of(attributes: Mapping[str, str]) -> str | None:
    """Return the sender's W3C traceparent; None without a readable traceparent, which is never refused."""
    found = (attributes[name] for name in TRACE_ATTRIBUTES if _TRACEPARENT.fullmatch(attributes.get(name, "")))
    return next(found, None)


def _unknown_fields(body: Mapping[str, Any]) -> str | None:
    unknown = {name: value for name, value in body.items() if name not in CompletionMessage.model_fields}
    if not unknown:
        return None
    try:
        text = json.dumps(unknown, separators=(",", ":"), allow_nan=False)
    except ValueError:
        # 1e999 is JSON, and infinite as a number.
        return None
    return text if len(text) <= UNKNOWN_CHARS_MAX else None


def _json_object(delivery: Delivery) -> dict[str, Any]:
    """Return the body: strict JSON, an object at the top."""
    data = delivery.data
    if len(data) > MESSAGE_BYTES_MAX:
        raise Refusal(RefusalReason.TOO_LARGE, f"{len(data)} bytes, at most {MESSAGE_BYTES_MAX} are read")
    try:
        body = parse_strict(data)
    except ValueError as exc:
        detail = _binary(data) or str(exc)[:200]
        raise Refusal(RefusalReason.NOT_JSON, detail) from exc
    if not isinstance(body, dict):
        raise Refusal(RefusalReason.NOT_AN_OBJECT, f"the body is a JSON {type(body).__name__}, not an object")
    return body


def _binary(data: bytes) -> str | None:
    """Return a description of binary data, None for text. JSON text holds no control character but white space."""
    if not _CONTROL.search(data):
        return None
    return f"binary data (it begins with the bytes {data[:4].hex()}), for example Avro, not JSON text; publish JSON"


def parse_strict(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a JSON text.

    Raises:
        ValueError: The bytes are no strict JSON; the message names the fault.
    """
    if nests_too_deep(data):
        raise ValueError(f"lists and objects are nested more than {DEPTH_MAX} levels deep, or are not closed")
    return json.loads(data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique_keys)


def nests_too_deep(data: bytes) -> bool:
    """Return whether lists and objects are nested more than `DEPTH_MAX` levels deep, or unbalanced beyond so many."""
    if data.count(b"[") + data.count(b"{") <= DEPTH_MAX:
        return False
    brackets = _TEXT.sub(b"", data).translate(_ONE_KIND, _NO_BRACKETS)
    for _level in range(DEPTH_MAX):
        # Each round removes the innermost level of every branch.
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse `{"status": "failed", "status": "success"}`: the parser, not the sender, would choose the value."""
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return body
