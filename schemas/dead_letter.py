"""Dead letters: reason, and the original message.

Model: two senders share the dead-letter topic. The worker parks messages that can never become a completion, with
`mlfs_…` attributes for the reason. Pub/Sub forwards messages without an acknowledgement by the dead-letter policy of
the subscription, with attributes beginning with `CloudPubSubDeadLetterSource`. Both senders keep body and attributes of
the original message.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from schemas.completion import (
    FIRST_MESSAGE_ID,
    FIRST_PUBLISHED_AT,
    REDRIVEN,
    TRACE_ATTRIBUTES,
    Delivery,
    Refusal,
    first_message_id,
    first_published_at,
    redriven_count,
    trace_of,
)

REASON = "mlfs_reason"
DETAIL = "mlfs_detail"
TRUNCATED = "mlfs_truncated"
LEFT_OUT = "mlfs_left_out"
OURS = frozenset({REASON, DETAIL, TRUNCATED, LEFT_OUT, FIRST_MESSAGE_ID, FIRST_PUBLISHED_AT, REDRIVEN})
FORWARDED_PREFIX = "CloudPubSubDeadLetterSource"
# A forwarded message was never refused: the policy's number of deliveries passed without an acknowledgement.
UNDELIVERED = "undelivered"
# Published by another program.
UNKNOWN = "unknown"

# Pub/Sub allows 100 attributes, names of 256 bytes, values of 1,024 bytes, and 10,000,000 bytes a message; ours must
# fit in, too. Names that begin with `goog` are Google's own: a publisher must not use them.
ATTRIBUTES_KEPT_MAX = 90
NAME_BYTES_MAX = 256
VALUE_BYTES_MAX = 1024
RESERVED_PREFIX = "goog"
DETAIL_BYTES_MAX = 1000
NAME_CHARS_SHOWN = 40
DATA_BYTES_MAX = 9_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message of the dead-letter topic.

    Attributes:
        message_id: The id of this copy on the bus.
        published_at: Publish time of the copy. UTC.
        data: The body of the original.
        attributes: All attributes of the copy.
        ordering_key: The ordering key of the original, if kept by the bus.
    """

    message_id: str
    published_at: datetime
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""

    @property
    def reason(self) -> str:
        """Return the reason of the refusal, `undelivered` for a forwarded message, else `unknown`."""
        forwarded = any(name.startswith(FORWARDED_PREFIX) for name in self.attributes)
        return UNDELIVERED if forwarded else self.attributes.get(REASON, UNKNOWN)

    @property
    def detail(self) -> str:
        """Return the fault in a sentence; empty without a known fault."""
        if self.reason == UNDELIVERED:
            count = self.attributes.get(f"{FORWARDED_PREFIX}DeliveryCount", "several")
            return f"not acknowledged in {count} deliveries to {self.source_subscription or 'its subscription'}"
        left_out = self.attributes.get(LEFT_OUT)
        return self.attributes.get(DETAIL, "") + (f"; attributes left out of this copy: {left_out}" if left_out else "")

    @property
    def source_subscription(self) -> str | None:
        """Return the subscription from which Pub/Sub forwarded the message; None for a parked message."""
        return self.attributes.get(f"{FORWARDED_PREFIX}Subscription")

    @property
    def original_message_id(self) -> str:
        """Return the id of the first message on the bus, if known; else the id of this copy."""
        return self.attributes.get(FIRST_MESSAGE_ID, self.message_id)

    @property
    def redriven(self) -> int:
        """Return the number of redrives."""
        return redriven_count(self.attributes)

    @property
    def truncated(self) -> bool:
        """Return whether the copy holds only the beginning of the body."""
        return TRUNCATED in self.attributes

    @property
    def first_published_at(self) -> str:
        """Return the publish time of the first message, if known, else of this copy; ISO 8601."""
        forwarded = self.attributes.get(f"{FORWARDED_PREFIX}TopicPublishTime", self.published_at.isoformat())
        return self.attributes.get(FIRST_PUBLISHED_AT, forwarded)

    def attributes_to_resend(self) -> dict[str, str]:
        """Return the attributes of the original, the next redrive count, and the first id and publish time."""
        original = {
            name: value
            for name, value in self.attributes.items()
            if name not in OURS and not name.startswith(FORWARDED_PREFIX)
        }
        return {
            **original,
            FIRST_MESSAGE_ID: self.original_message_id,
            FIRST_PUBLISHED_AT: self.first_published_at,
            REDRIVEN: str(self.redriven + 1),
        }


def parked_attributes(delivery: Delivery, refusal: Refusal) -> dict[str, str]:
    """Return the attributes of the parked copy, within the limits of Pub/Sub.

    A redriven message keeps redrive count, first id and first publish time. Attributes beyond Pub/Sub's limits are left
    out and named in `mlfs_left_out`.
    """
    ours = {
        REASON: refusal.reason.value,
        DETAIL: _cut(refusal.detail),
        FIRST_MESSAGE_ID: first_message_id(delivery),
        FIRST_PUBLISHED_AT: first_published_at(delivery).isoformat(),
    }
    if redriven_count(delivery.attributes):
        ours[REDRIVEN] = str(redriven_count(delivery.attributes))
    if len(delivery.data) > DATA_BYTES_MAX:
        ours[TRUNCATED] = str(len(delivery.data))
    theirs = {name: value for name, value in delivery.attributes.items() if name not in OURS}
    fitting = [(name, value) for name, value in theirs.items() if _fits(name, value)]
    kept = dict(fitting[:ATTRIBUTES_KEPT_MAX])
    left_out = [name for name in theirs if name not in kept]
    if left_out:
        ours[LEFT_OUT] = _cut(", ".join(repr(name[:NAME_CHARS_SHOWN]) for name in left_out))
    trace = trace_of(delivery.attributes)
    if trace is not None:
        # Google's client names it `googclient_traceparent`, which is left out.
        kept[TRACE_ATTRIBUTES[0]] = trace
    return {**kept, **ours}


def without_senders(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes of the parked copy without the sender's, for a bus that refuses a sender's attribute."""
    ours = {name: value for name, value in attributes.items() if name in OURS}
    theirs = [repr(name[:NAME_CHARS_SHOWN]) for name in attributes if name not in OURS]
    if theirs:
        known = [ours[LEFT_OUT]] if LEFT_OUT in ours else []
        ours[LEFT_OUT] = _cut(", ".join([*known, *theirs]))
    return ours


def _fits(name: str, value: str) -> bool:
    is_named = 0 < len(name.encode()) <= NAME_BYTES_MAX and not name.startswith(RESERVED_PREFIX)
    return is_named and len(value.encode()) <= VALUE_BYTES_MAX


def _cut(text: str) -> str:
    return text.encode(errors="replace")[:DETAIL_BYTES_MAX].decode(errors="ignore")
