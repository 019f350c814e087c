"""Messages in the dead-letter topic: why each lies there, and what it was before.

Two senders share the topic. The worker parks what can never become a completion, with `mlfs_…` attributes that say why.
A dead-letter policy of the subscription lets Pub/Sub itself forward what was never acknowledged, with attributes that
begin with `CloudPubSubDeadLetterSource`. Both keep the body and the attributes of the original beside their own.
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
# What Pub/Sub forwarded was never refused: it was delivered as often as its policy allows, and never acknowledged.
UNDELIVERED = "undelivered"
# Somebody else put it there.
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
    """One message of the dead-letter topic.

    Attributes:
        message_id: The bus's id of this copy.
        published_at: When the copy was published. UTC.
        data: The body, as it first came.
        attributes: All of the copy's attributes.
        ordering_key: Of the original, where the bus has kept it.
    """

    message_id: str
    published_at: datetime
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""

    @property
    def reason(self) -> str:
        """A refusal's reason, `undelivered` where Pub/Sub forwarded it, else `unknown`."""
        forwarded = any(name.startswith(FORWARDED_PREFIX) for name in self.attributes)
        return UNDELIVERED if forwarded else self.attributes.get(REASON, UNKNOWN)

    @property
    def detail(self) -> str:
        """What was wrong, in a sentence; empty where nobody said."""
        if self.reason == UNDELIVERED:
            count = self.attributes.get(f"{FORWARDED_PREFIX}DeliveryCount", "several")
            return f"not acknowledged in {count} deliveries to {self.source_subscription or 'its subscription'}"
        left_out = self.attributes.get(LEFT_OUT)
        return self.attributes.get(DETAIL, "") + (f"; attributes left out of this copy: {left_out}" if left_out else "")

    @property
    def source_subscription(self) -> str | None:
        """The subscription from which Pub/Sub forwarded it; None for what the worker parked."""
        return self.attributes.get(f"{FORWARDED_PREFIX}Subscription")

    @property
    def original_message_id(self) -> str:
        """The bus's id of the message that was first sent, as far as it is known."""
        return self.attributes.get(FIRST_MESSAGE_ID, self.message_id)

    @property
    def redriven(self) -> int:
        """How often it was already sent again."""
        return redriven_count(self.attributes)

    @property
    def truncated(self) -> bool:
        """Whether the copy holds only the beginning of the body."""
        return TRUNCATED in self.attributes

    @property
    def first_published_at(self) -> str:
        """When the message that was first sent was published, as far as it is known; ISO 8601."""
        forwarded = self.attributes.get(f"{FORWARDED_PREFIX}TopicPublishTime", self.published_at.isoformat())
        return self.attributes.get(FIRST_PUBLISHED_AT, forwarded)

    def attributes_to_resend(self) -> dict[str, str]:
        """Return the original's attributes, the count raised by one, and what keeps it the same message."""
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
    """Return the attributes of the copy that is parked, all of which Pub/Sub takes.

    A message that was sent again keeps its count, its first id and its first publish time. Attributes beyond Pub/Sub's
    limits are left out and named in `mlfs_left_out`.
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
    """Return the parked copy's attributes without the sender's own, for a bus that refuses one of them."""
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
