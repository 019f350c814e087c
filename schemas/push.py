"""Bodies of Pub/Sub push requests: a JSON envelope, or a bare message with id and publish time in headers.

Guarantees: a push becomes the same `Delivery` as a pulled message. A broken envelope is refused with a reason, like any
other message that can never become an event.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.completion import Delivery, Refusal, RefusalReason, as_utc, nests_too_deep

HEADER_PREFIX = "x-goog-pubsub-"
IDENTITY_CHARS_MAX = 200
# Pub/Sub allows a hundred attributes of a kilobyte each.
ATTRIBUTES_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A push request as read.

    Attributes:
        delivery: The delivery of the bus.
        subscription: Full name of the pushing subscription; None for a bare message without the name.
    """

    delivery: Delivery
    subscription: str | None


def read_push(body: bytes, headers: Mapping[str, str], received_at: datetime) -> Pushed:
    """Read a push request.

    Args:
        body: The body, untrusted.
        headers: Headers by lower-case name, untrusted.
        received_at: Now, aware, UTC; also the publish time of a message without a publish time.

    Raises:
        Refusal: `bad_envelope`: a broken envelope, or a missing message id.
    """
    if HEADER_PREFIX + "subscription-name" in headers:
        return _bare(body, headers, received_at)
    envelope = _envelope(body)
    if envelope is None:
        return _bare(body, headers, received_at)
    return _wrapped(envelope, received_at)


def unread(body: bytes, received_at: datetime) -> Delivery:
    """Return an unreadable body as a delivery, for parking; the id is the digest of the body."""
    return Delivery(data=body, attributes={}, message_id=_digest(body), published_at=received_at)


def _envelope(body: bytes) -> dict[str, Any] | None:
    """Return the envelope; None for any other body, which is read as a bare message."""
    if nests_too_deep(body):
        return None
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and "message" in parsed and "subscription" in parsed else None


def _wrapped(envelope: Mapping[str, Any], received_at: datetime) -> Pushed:
    message, subscription = envelope["message"], envelope["subscription"]
    if not isinstance(message, dict) or not isinstance(subscription, str):
        raise Refusal(RefusalReason.BAD_ENVELOPE, "message must be an object and subscription a text")
    delivery = Delivery(
        data=_decoded(message.get("data", "")),
        attributes=_attributes(message.get("attributes")),
        message_id=_message_id(message.get("messageId") or message.get("message_id")),
        published_at=_instant(message.get("publishTime") or message.get("publish_time"), received_at),
    )
    return Pushed(delivery=delivery, subscription=subscription)


def _bare(body: bytes, headers: Mapping[str, str], received_at: datetime) -> Pushed:
    """Read a message without envelope; headers other than Pub/Sub's are not trusted as attributes."""
    message_id = headers.get(HEADER_PREFIX + "message-id")
    delivery = Delivery(
        data=body,
        attributes={},
        message_id=_digest(body) if message_id is None else _message_id(message_id),
        published_at=_instant(headers.get(HEADER_PREFIX + "publish-time"), received_at),
    )
    return Pushed(delivery=delivery, subscription=headers.get(HEADER_PREFIX + "subscription-name"))


def _decoded(data: object) -> bytes:
    if not isinstance(data, str):
        raise Refusal(RefusalReason.BAD_ENVELOPE, "message.data must be a base64 text")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Refusal(RefusalReason.BAD_ENVELOPE, f"message.data is no base64: {exc}") from exc


def _attributes(attributes: object) -> dict[str, str]:
    if attributes is None:
        return {}
    texts = isinstance(attributes, dict) and all(isinstance(value, str) for value in attributes.values())
    if not isinstance(attributes, dict) or not texts or len(attributes) > ATTRIBUTES_MAX:
        raise Refusal(RefusalReason.BAD_ENVELOPE, f"message.attributes must be at most {ATTRIBUTES_MAX} texts by name")
    try:
        "".join((*attributes, *attributes.values())).encode()
    except UnicodeEncodeError as exc:
        raise Refusal(RefusalReason.BAD_ENVELOPE, "message.attributes hold half a character") from exc
    return attributes


def _message_id(message_id: object) -> str:
    if not isinstance(message_id, str) or not 0 < len(message_id) <= IDENTITY_CHARS_MAX or not message_id.isascii():
        raise Refusal(RefusalReason.BAD_ENVELOPE, "message.messageId must be a short ASCII text")
    return message_id


def _instant(text: object, received_at: datetime) -> datetime:
    """Return the publish time, at most *received_at*: a later time comes from a clock other than the state store's."""
    if text is None:
        return received_at
    try:
        return min(as_utc(datetime.fromisoformat(text if isinstance(text, str) else "")), received_at)
    except ValueError as exc:
        raise Refusal(RefusalReason.BAD_ENVELOPE, "message.publishTime is no RFC 3339 time") from exc


def _digest(body: bytes) -> str:
    return f"sha256-{hashlib.sha256(body).hexdigest()[:32]}"
