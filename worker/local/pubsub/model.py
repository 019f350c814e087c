"""The nouns of the local Pub/Sub server: messages, settings, deliveries, and how a call is refused.

Instants (`*_at`) are seconds since the Unix epoch, UTC, as floats: a broker handles thousands a second. Durations end
in `_s`. Message, batch, lease and subscription numbers come from one rising counter that starts at the microsecond of
the server's start, so none of them repeats across restarts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from worker.errors import Refused

DELETED_TOPIC = "_deleted-topic_"
"""What a subscription names as its topic once that topic is gone. Source: `Subscription.topic` in the v1 API."""

DAY_S = 86_400.0

# Defaults of the v1 API, for a field that a caller leaves out.
ACK_DEADLINE_DEFAULT_S = 10
RETENTION_DEFAULT_S = 7 * DAY_S
EXPIRATION_DEFAULT_S = 31 * DAY_S
MIN_BACKOFF_DEFAULT_S = 10.0
MAX_BACKOFF_DEFAULT_S = 600.0
ATTEMPTS_DEFAULT_MAX = 5

NO_LABELS: Mapping[str, str] = MappingProxyType({})


class RefusalCode(StrEnum):
    """Why a call is refused; the values are names of gRPC status codes."""

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
    """The caller's fault (or, for `UNAVAILABLE`, ours): the call changed nothing but what `ack_failures` leaves out.

    Attributes:
        code: The gRPC status to answer with.
        detail: What to do about it, for a person.
        ack_failures: For an exactly-once subscription, the ack ids that were not honoured, each with the word the
            real client understands.
    """

    def __init__(self, code: RefusalCode, detail: str, ack_failures: Mapping[str, str] = NO_LABELS) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.ack_failures = ack_failures


class Draft(NamedTuple):
    """What a publisher hands over."""

    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str


class Message(NamedTuple):
    """A published message. `number` is the message id; `batch` the number of the first message published with it."""

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
    """The messages of one publish call, stored and forgotten together. `number` is the first message's number."""

    number: int
    topic: str
    messages: tuple[Message, ...]


class LeasedMessage(NamedTuple):
    """One message handed to one consumer. `attempt` is 0 unless the subscription has a dead-letter policy."""

    ack_id: str
    message: Message
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as its owner configured it."""

    name: str
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential wait between a failed delivery and the next, in seconds, 0 to 600."""

    min_backoff_s: float = MIN_BACKOFF_DEFAULT_S
    max_backoff_s: float = MAX_BACKOFF_DEFAULT_S

    def backoff_s(self, attempt: int) -> float:
        """Give the wait after the failure of delivery number *attempt*, which is 1 or more."""
        # Two to the 32nd seconds is past any maximum; the bound keeps the power from overflowing.
        return min(self.max_backoff_s, self.min_backoff_s * 2.0 ** min(attempt - 1, 32))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterPolicy:
    """Where a message goes after *attempts_max* deliveries, 5 to 100, without an acknowledgement."""

    topic: str
    attempts_max: int = ATTEMPTS_DEFAULT_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSpec:
    """A subscription as its owner configured it.

    Attributes:
        name: `projects/P/subscriptions/S`.
        topic: `projects/P/topics/T`, or `_deleted-topic_`.
        labels: Stored, without effect.
        ack_deadline_s: Lease of a delivery by unary pull, 10 to 600 seconds.
        retention_s: How long a message is kept, 600 seconds to 31 days.
        retain_acked: Keep acknowledged messages too, for a seek.
        ordered: Deliver messages of one ordering key in order.
        exactly_once: Refuse stale ack ids instead of ignoring them.
        filter: Expression over the attributes; empty takes everything.
        push_endpoint: URL to which messages are pushed; empty where they are pulled.
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
    """A subscription as the journal keeps it.

    It owns the messages of *source_topic* whose number lies in `[since, until)`, passes the filter and was not
    acknowledged. *until* is None while the topic exists.
    """

    number: int
    spec: SubscriptionSpec
    source_topic: str
    since: int
    until: int | None = None


@dataclass(slots=True, kw_only=True)
class Consumer:
    """One stream, or one unary pull, that takes messages; counts what it holds.

    Attributes:
        name: The client's id. Messages of one ordering key stay with one name while any is unacknowledged.
        ack_deadline_s: Lease of each delivery, 10 to 600 seconds.
        messages_max: Deliveries it may hold; 0 or less means no limit.
        bytes_max: Bytes it may hold; 0 or less means no limit.
    """

    name: str
    ack_deadline_s: float
    messages_max: int = 0
    bytes_max: int = 0
    messages_held: int = 0
    bytes_held: int = 0

    @property
    def has_room(self) -> bool:
        """Whether flow control allows one more delivery."""
        return (self.messages_max <= 0 or self.messages_held < self.messages_max) and (
            self.bytes_max <= 0 or self.bytes_held < self.bytes_max
        )


class Keeper(Protocol):
    """Who owns a backlog: hears what happens to its messages."""

    def on_ready(self) -> None:
        """Something may be deliverable now."""

    def on_acked(self, message: Message) -> None:
        """*message* was acknowledged and is kept for a seek."""

    def on_unacked(self, message: Message) -> None:
        """A seek brought an acknowledged *message* back."""

    def on_gone(self, message: Message) -> None:
        """*message* left this subscription for good."""

    def on_exhausted(self, message: Message, attempt: int, now: float) -> bool:
        """*message* has used up its attempts; say whether the dead-letter topic took it."""
