"""Conversion of messages and numbers between Google's Pub/Sub v1 API and the broker, with the limits of the service.

The limits come from the Pub/Sub documentation ("Quotas and limits" and the v1 reference).
"""

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from google.pubsub_v1 import types

from worker.local.pubsub.model import CallRefused, Draft, LeasedMessage, Message, RefusalCode

MESSAGES_PER_PUBLISH_MAX = 1000
PUBLISH_BYTES_MAX = 10_000_000
ATTRIBUTES_MAX = 100
ATTRIBUTE_KEY_BYTES_MAX = 256
ATTRIBUTE_VALUE_BYTES_MAX = 1024
ORDERING_KEY_BYTES_MAX = 1024
ACK_DEADLINE_RANGE_S = (10, 600)
MODIFY_RANGE_S = (0, 600)

Wire: TypeAlias = Any
"""Message of the v1 API; the classes are created at run time and have no types."""

_MICROSECONDS: Final = 1_000_000

# Raw protobuf classes, several times faster than the wrappers in `types`.
_PubsubMessage = types.PubsubMessage.pb()
_ReceivedMessage = types.ReceivedMessage.pb()


def invalid(detail: str) -> CallRefused:
    """Return the refusal of a request that breaks a rule of the service."""
    return CallRefused(RefusalCode.INVALID_ARGUMENT, detail)


def drafts_from_proto(messages: Iterable[Wire]) -> list[Draft]:
    """Read and check the messages of a publish call.

    Raises:
        CallRefused: `INVALID_ARGUMENT`, the call or a message breaks a limit.
    """
    drafts = [Draft(message.data, dict(message.attributes), message.ordering_key) for message in messages]
    if not drafts:
        raise invalid("No messages to publish")
    if len(drafts) > MESSAGES_PER_PUBLISH_MAX:
        raise invalid(f"Too many messages to publish: {len(drafts)}, the maximum is {MESSAGES_PER_PUBLISH_MAX}")
    for draft in drafts:
        _check_draft(draft)
    if sum(len(draft.data) for draft in drafts) > PUBLISH_BYTES_MAX:
        raise invalid(f"The request is larger than {PUBLISH_BYTES_MAX} bytes")
    return drafts


def _check_draft(draft: Draft) -> None:
    if not draft.data and not draft.attributes:
        raise invalid("Some messages are empty")
    if len(draft.attributes) > ATTRIBUTES_MAX:
        raise invalid(f"A message has more than {ATTRIBUTES_MAX} attributes")
    if len(draft.ordering_key.encode()) > ORDERING_KEY_BYTES_MAX:
        raise invalid(f"An ordering key is longer than {ORDERING_KEY_BYTES_MAX} bytes")
    for key, value in draft.attributes.items():
        if not key or key.startswith("goog") or len(key.encode()) > ATTRIBUTE_KEY_BYTES_MAX:
            raise invalid(f"An attribute key is empty, starts with 'goog' or exceeds {ATTRIBUTE_KEY_BYTES_MAX} bytes")
        if len(value.encode()) > ATTRIBUTE_VALUE_BYTES_MAX:
            raise invalid(f"The value of attribute {key!r} is longer than {ATTRIBUTE_VALUE_BYTES_MAX} bytes")


def message_to_proto(message: Message) -> Wire:
    """Return *message* in the form of the v1 API."""
    return _PubsubMessage(
        data=message.data,
        attributes=message.attributes,
        message_id=str(message.number),
        publish_time=seconds_to_proto(message.published_at),
        ordering_key=message.ordering_key,
    )


def message_from_proto(message: Wire, *, batch: int) -> Message:
    """Read a message written by `message_to_proto`."""
    return Message(
        number=int(message.message_id),
        batch=batch,
        published_at=seconds_from_proto(message.publish_time),
        data=message.data,
        attributes=dict(message.attributes),
        ordering_key=message.ordering_key,
    )


def delivery_to_proto(delivery: LeasedMessage) -> Wire:
    """Return *delivery* in the form of the v1 API."""
    return _ReceivedMessage(
        ack_id=delivery.ack_id, message=message_to_proto(delivery.message), delivery_attempt=delivery.attempt
    )


def seconds_to_proto(seconds: float) -> dict[str, int]:
    """Return an instant or a duration in the form of the v1 API, to the microsecond."""
    whole, microseconds = divmod(round(seconds * _MICROSECONDS), _MICROSECONDS)
    return {"seconds": whole, "nanos": microseconds * 1000}


def seconds_from_proto(stamp: Wire) -> float:
    """Read an instant or a duration, to the microsecond."""
    return float(stamp.seconds + stamp.nanos // 1000 / _MICROSECONDS)


def check_range(
    name: str, value: float, bounds: tuple[float, float], code: RefusalCode = RefusalCode.INVALID_ARGUMENT
) -> None:
    """Refuse a number outside *bounds*, both included."""
    low, high = bounds
    if not low <= value <= high:
        raise CallRefused(code, f"{name} is out of bounds: {value:g}, must be between {low:g} and {high:g}.")
