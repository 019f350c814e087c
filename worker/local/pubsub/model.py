"""Values of the local Pub/Sub server: messages, settings, deliveries, and refusals of a call.

Instants (`*_at`) are seconds since the Unix epoch, UTC, as floats, because a broker handles thousands of messages a
second. Durations end in `_s`. Message, batch, lease and subscription numbers come from a single rising counter that
starts at the microsecond of the server's start, so no number repeats across restarts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from worker.errors import Refused

DELETED_TOPIC = "_deleted-topic_"
"""Topic name of a subscription whose topic was deleted. Source: `Subscription.topic` in the v1 API."""

DAY_S = 86_400.0

# Defaults of the v1 API for missing fields.
ACK_DEADLINE_DEFAULT_S = 10
RETENTION_DEFAULT_S = 7 * DAY_S
EXPIRATION_DEFAULT_S = 31 * DAY_S
MIN_BACKOFF_DEFAULT_S = 10.0
MAX_BACKOFF_DEFAULT_S = 600.0
ATTEMPTS_DEFAULT_MAX = 5

NO_LABELS: Mapping[str, str] = MappingProxyType({})


class RefusalCode(StrEnum):
    """Reason of a refusal; the values are names of gRPC status codes."""

    ABORTED = "ABORTED"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    INTERNAL = "INTERNAL"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAVAILABLE = "UNAVAILABLE"
    UNIMPLEMENTED = "UNIMPLEMENTED"


class CallRefused(Refused):
    """Refusal of a call that changed no state, except for acknowledgements outside `ack_failures`.

    A refusal is a fault of the caller, or with `UNAVAILABLE` of the server.

    Attributes:
        code: gRPC status of the answer.
        detail: Next step, for a person.
        ack_failures: Stale ack ids of an exactly-once subscription, each with the text that the real client
            understands.
    """

    def __init__(self, code: RefusalCode, detail: str, ack_failures: Mapping[str, str] = NO_LABELS) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.ack_failures = ack_failures


class Draft(NamedTuple):
    """Message of a publish call, without a number."""

    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str


class Message(NamedTuple):
    """Published message. `number` is the message id; `batch` the number of the first message of the publish call."""

    number: int
    batch: int
    published_at: float
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str

    @property
    def size(self) -> int:
        """Bytes counted by flow control: the body and the attributes."""
        return len(self.data) + sum(len(key) + len(value) for key, value in self.attributes.items())


class Batch(NamedTuple):
    """Messages of a publish call, stored and deleted together. `number` is the number of the first message."""

    number: int
    topic: str
    messages: tuple[Message, ...]


class LeasedMessage(NamedTuple):
    """Message leased to a consumer. `attempt` is 0 unless the subscription has a dead-letter policy."""

    ack_id: str
    message: Message
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """Settings of a topic."""

    name: str
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential wait between a failed delivery and the next delivery, in seconds, 0 to 600."""

    min_backoff_s: float = MIN_BACKOFF_DEFAULT_S
    max_backoff_s: float = MAX_BACKOFF_DEFAULT_S

    def backoff_s(self, attempt: int) -> float:
        """Return the wait after the failure of delivery number *attempt*, which is 1 or more."""
        # Two to the 32nd seconds is past any maximum; the bound keeps the power from overflowing.
        return min(self.max_backoff_s, self.min_backoff_s * 2.0 ** min(attempt - 1, 32))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterPolicy:
    """Topic for a message after *attempts_max* deliveries, 5 to 100, without an acknowledgement."""

    topic: str
    attempts_max: int = ATTEMPTS_DEFAULT_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSpec:
    """Settings of a subscription.

    Attributes:
        name: `projects/P/subscriptions/S`.
        topic: `projects/P/topics/T`, or `_deleted-topic_`.
        labels: Stored, without effect.
        ack_deadline_s: Lease of a delivery by unary pull, 10 to 600 seconds.
        retention_s: Seconds for which a message is kept, 600 seconds to 31 days.
        retain_acked: Keep acknowledged messages too, for a seek.
        ordered: Deliver messages of an ordering key in order.
        exactly_once: Refuse stale ack ids instead of ignoring them.
        filter: Expression over the attributes; an empty filter accepts every message.
        push_endpoint: URL for push requests; empty for a pull subscription.
        retry: None means redeliver at once.
        dead_letter: None means retry until the retention ends.
        expiration_s: Stored, never enforced; None means never.
    """

    name: str
    topic: str
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    ack_deadline_s: int = ACK_DEADLINE_DEFAULT_S
    retention_s: float = RETENTION_DEFAULT_S
    retain_acked: bool = False
    ordered: bool = False
    exactly_once: bool = False
    filter: str = ""
    push_endpoint: str = ""
    retry: RetryPolicy | None = None
    dead_letter: DeadLetterPolicy | None = None
    expiration_s: float | None = EXPIRATION_DEFAULT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSubscription:
    """Subscription in the journal.

    The subscription owns the messages of *source_topic* with numbers in `[since, until)` that pass the filter and are
    not acknowledged. *until* is None while the topic exists.
    """

    number: int
    spec: SubscriptionSpec
    source_topic: str
    since: int
    until: int | None = None


@dataclass(slots=True, kw_only=True)
class Consumer:
    """Stream or unary pull that takes messages; counts the held messages.

    Attributes:
        name: Id of the client. Messages of an ordering key stay with a consumer while any message is unacknowledged.
        ack_deadline_s: Lease of each delivery, 10 to 600 seconds.
        messages_max: Maximal number of held deliveries; 0 or less means no limit.
        bytes_max: Maximal number of held bytes; 0 or less means no limit.
    """

    name: str
    ack_deadline_s: float
    messages_max: int = 0
    bytes_max: int = 0
    messages_held: int = 0
    bytes_held: int = 0

    @property
    def has_room(self) -> bool:
        """Whether flow control allows another delivery."""
        return (self.messages_max <= 0 or self.messages_held < self.messages_max) and (
            self.bytes_max <= 0 or self.bytes_held < self.bytes_max
        )


class Keeper(Protocol):
    """Owner of a backlog, called for each change of a message."""

    def on_ready(self) -> None:
        """Handle a possibly deliverable message."""

    def on_acked(self, message: Message) -> None:
        """Handle an acknowledged *message* that is kept for a seek."""

    def on_unacked(self, message: Message) -> None:
        """Handle an acknowledged *message* that a seek made deliverable again."""

    def on_gone(self, message: Message) -> None:
        """Handle a *message* that left the subscription for good."""

    def on_exhausted(self, message: Message, attempt: int, now: float) -> bool:
        """Handle a *message* after the last attempt; return whether the dead-letter topic took the message."""
