"""The calls of the Pub/Sub v1 API, answered by the broker.

Everything runs on one event loop, so the broker needs no locks. After each call `_settle` does what the call brought
about: it wakes the consumers of subscriptions with something to deliver, sets the loop's one timer to the next lease,
delay or retention that ends, and has the journal written. Calls whose effect the caller will rely on (publishing,
administration, exactly-once acknowledgements) are answered after the commit; other acknowledgements are committed
within `LAZY_COMMIT_S`, because losing one only brings a redelivery.
"""

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import grpc
import grpc.aio
from google.protobuf import any_pb2, empty_pb2
from google.pubsub_v1 import types
from google.rpc import error_details_pb2, status_pb2

from worker.local.pubsub_broker import Broker, Subscription
from worker.local.pubsub_faults import Faults
from worker.local.pubsub_model import CallRefused, Consumer, Delivery, RefusalCode
from worker.local.pubsub_wire import (
    ACK_DEADLINE_RANGE_S,
    Wire,
    check_range,
    delivery_to_proto,
    drafts_from_proto,
    instant_from_proto,
    refuse,
    subscription_from_proto,
    subscription_to_proto,
    topic_from_proto,
    topic_to_proto,
    updated_subscription,
    updated_topic,
)

# Long enough to gather the acknowledgements of a busy stream into one commit; what a crash in between costs is that
# much work done twice.
LAZY_COMMIT_S = 0.02

# A unary pull with nothing to give ends empty after this long, or earlier by its own deadline.
PULL_WAIT_MAX_S = 20.0

# Left of a pull's deadline for the empty answer to arrive.
PULL_ANSWER_S = 0.5

PAGE_SIZE_DEFAULT = 1000

Handler = Callable[[Wire, float], Wire]
_Context = grpc.aio.ServicerContext


class CommittingJournal(Protocol):
    """The part of a journal that the service drives."""

    @property
    def is_dirty(self) -> bool:
        """Whether a commit has anything to write."""

    def commit(self) -> None:
        """Write what the broker reported; `sqlite3.Error` where that fails."""


@dataclass(slots=True)
class _Waiters:
    """The consumers of one subscription, each with the event that wakes it."""

    events: deque[asyncio.Event] = field(default_factory=deque)

    def wake(self) -> None:
        for event in self.events:
            event.set()
        # Whoever is woken first takes what there is; turn by turn, every stream is first.
        self.events.rotate(1)


class PubSubService:
    """The handlers of both gRPC services, over one broker.

    Args:
        broker: Owned by this service from now on; nobody else may call it.
        journal: The one the broker reports to.
        faults: What goes wrong on the way to and from consumers.
        clock: Seconds since the epoch; must not jump.
    """

    def __init__(
        self, broker: Broker, journal: CommittingJournal, faults: Faults, clock: Callable[[], float]
    ) -> None:
        self._broker = broker
        self._journal = journal
        self._faults = faults
        self._clock = clock
        self._waiters: dict[str, _Waiters] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._commit_timer: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._pulls = 0
        self._empty = empty_pb2.Empty()

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Give what a gRPC server needs to serve the calls. Methods not named here answer `UNIMPLEMENTED`."""
        publisher = {
            "CreateTopic": self._durable(self._create_topic, types.Topic),
            "GetTopic": self._unary(self._get_topic, types.GetTopicRequest),
            "ListTopics": self._unary(self._list_topics, types.ListTopicsRequest),
            "UpdateTopic": self._durable(self._update_topic, types.UpdateTopicRequest),
            "DeleteTopic": self._durable(self._delete_topic, types.DeleteTopicRequest),
            "ListTopicSubscriptions": self._unary(self._list_of_topic, types.ListTopicSubscriptionsRequest),
            "Publish": self._durable(self._publish, types.PublishRequest),
        }
        subscriber = {
            "CreateSubscription": self._durable(self._create_subscription, types.Subscription),
            "GetSubscription": self._unary(self._get_subscription, types.GetSubscriptionRequest),
            "ListSubscriptions": self._unary(self._list_subscriptions, types.ListSubscriptionsRequest),
            "UpdateSubscription": self._durable(self._update_subscription, types.UpdateSubscriptionRequest),
            "DeleteSubscription": self._durable(self._delete_subscription, types.DeleteSubscriptionRequest),
            "Acknowledge": self._unary(self._acknowledge, types.AcknowledgeRequest),
            "ModifyAckDeadline": self._unary(self._modify_ack_deadline, types.ModifyAckDeadlineRequest),
            "Seek": self._durable(self._seek, types.SeekRequest),
            "Pull": grpc.unary_unary_rpc_method_handler(
                self._pull, types.PullRequest.pb().FromString, types.PullResponse.pb().SerializeToString
            ),
            "StreamingPull": grpc.stream_stream_rpc_method_handler(
                self._streaming_pull,
                types.StreamingPullRequest.pb().FromString,
                types.StreamingPullResponse.pb().SerializeToString,
            ),
        }
        return (
            grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
            grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber),
        )

    def start(self) -> None:
        """Set the first timer, for what a restored broker has due."""
        self._settle()

    def close(self) -> None:
        """End all waiting calls with `UNAVAILABLE`, which makes real clients try again, and write the journal."""
        self._is_closing = True
        for waiters in self._waiters.values():
            waiters.wake()
        for timer in (self._timer, self._commit_timer):
            if timer is not None:
                timer.cancel()
        self._journal.commit()
