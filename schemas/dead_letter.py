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
    REDRIVEN,
    Delivery,
    Refusal,
    first_message_id,
    redriven_count,
)

REASON = "mlfs_reason"
DETAIL = "mlfs_detail"
TRUNCATED = "mlfs_truncated"
FORWARDED_PREFIX = "CloudPubSubDeadLetterSource"
# What Pub/Sub forwarded was never refused: it was delivered as often as its policy allows, and never acknowledged.
UNDELIVERED = "undelivered"
# Somebody else put it there.
UNKNOWN = "unknown"

# Pub/Sub allows 100 attributes of 1,024 bytes each, and 10,000,000 bytes a message; ours must fit in, too.
ATTRIBUTES_KEPT_MAX = 90
DETAIL_BYTES_MAX = 1000
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
        return self.attributes.get(DETAIL, "")

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

    def attributes_to_resend(self) -> dict[str, str]:
        """Give the original's attributes, the count raised by one, and the id by which it stays the same message."""
        ours = {REASON, DETAIL, FIRST_MESSAGE_ID, REDRIVEN, TRUNCATED}
        original = {
            name: value
            for name, value in self.attributes.items()
            if name not in ours and not name.startswith(FORWARDED_PREFIX)
        }
        return {**original, FIRST_MESSAGE_ID: self.original_message_id, REDRIVEN: str(self.redriven + 1)}


def parked_attributes(delivery: Delivery, refusal: Refusal) -> dict[str, str]:
    """Give the attributes of the copy that is parked; one that was sent again keeps its count and its first id."""
    ours = {
        REASON: refusal.reason.value,
        DETAIL: refusal.detail.encode(errors="replace")[:DETAIL_BYTES_MAX].decode(errors="ignore"),
        FIRST_MESSAGE_ID: first_message_id(delivery),
    }
    if redriven_count(delivery.attributes):
        ours[REDRIVEN] = str(redriven_count(delivery.attributes))
    if len(delivery.data) > DATA_BYTES_MAX:
        ours[TRUNCATED] = str(len(delivery.data))
    theirs = [(name, value) for name, value in delivery.attributes.items() if name not in ours]
    return {**dict(theirs[:ATTRIBUTES_KEPT_MAX]), **ours}
