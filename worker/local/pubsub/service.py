"""Two gRPC services of the Pub/Sub v1 API, which connect calls, deliveries, time and journal.

All code runs on a single event loop, so the broker needs no locks. After each change `settle` wakes the consumers of
subscriptions with deliverable messages, sets the timer to the next end of a lease, delay or retention, and schedules
the commit of the journal. A crash before the commit loses the last acknowledgements, and the server delivers these
messages again.
"""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
from google.pubsub_v1 import types
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from worker.local.pubsub.broker import Broker
from worker.local.pubsub.calls import Calls
from worker.local.pubsub.delivery import Context, Deliverer
from worker.local.pubsub.faults import FaultHooks
from worker.local.pubsub.journal import Journal
from worker.local.pubsub.model import CallRefused
from worker.local.pubsub.push import Pusher
from worker.local.pubsub.wire import Wire

# Long enough to collect the acknowledgements of a busy stream in a single commit; a crash in between repeats this much
# work.
LAZY_COMMIT_S = 0.02

# Pause after a failed commit: a full disk does not empty within milliseconds.
COMMIT_RETRY_S = 1.0

_Call = Callable[[Wire, float], Wire]


class PubSubService:
    """gRPC services of a broker.

    Args:
        broker: Owned by this service; no other code may call the broker afterwards.
        journal: Journal of the broker.
        faults: Faults between server and clients.
        clock: Returns seconds since the epoch; must not jump.
    """

    def __init__(self, broker: Broker, journal: Journal, faults: FaultHooks, clock: Callable[[], float]) -> None:
        self.now = clock
        self._broker = broker
        self._journal = journal
        self._calls = Calls(broker, journal, faults)
        self._deliverer = Deliverer(broker, self._calls, faults, self)
        self._pusher = Pusher(broker, self._calls, self._deliverer, self)
        self._timer: asyncio.TimerHandle | None = None
        self._commit_timer: asyncio.TimerHandle | None = None

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return the handlers for a gRPC server, which answers other methods with `UNIMPLEMENTED`."""
        calls = self._calls
        publisher = {
            "CreateTopic": self._unary(calls.create_topic, types.Topic),
            "GetTopic": self._unary(calls.get_topic, types.GetTopicRequest),
            "ListTopics": self._unary(calls.list_topics, types.ListTopicsRequest),
            "UpdateTopic": self._unary(calls.update_topic, types.UpdateTopicRequest),
            "DeleteTopic": self._unary(calls.delete_topic, types.DeleteTopicRequest),
            "ListTopicSubscriptions": self._unary(calls.list_topic_subscriptions, types.ListTopicSubscriptionsRequest),
            "Publish": self._unary(calls.publish, types.PublishRequest),
        }
        subscriber = {
            "CreateSubscription": self._unary(calls.create_subscription, types.Subscription),
            "GetSubscription": self._unary(calls.get_subscription, types.GetSubscriptionRequest),
            "ListSubscriptions": self._unary(calls.list_subscriptions, types.ListSubscriptionsRequest),
            "UpdateSubscription": self._unary(calls.update_subscription, types.UpdateSubscriptionRequest),
            "ModifyPushConfig": self._unary(calls.modify_push_config, types.ModifyPushConfigRequest),
            "DeleteSubscription": self._unary(calls.delete_subscription, types.DeleteSubscriptionRequest),
            "Acknowledge": self._unary(calls.acknowledge, types.AcknowledgeRequest),
            "ModifyAckDeadline": self._unary(calls.modify_ack_deadline, types.ModifyAckDeadlineRequest),
            "Seek": self._unary(calls.seek, types.SeekRequest),
            "Pull": grpc.unary_unary_rpc_method_handler(self._pull, types.PullRequest.pb().FromString, _serialize),
            "StreamingPull": grpc.stream_stream_rpc_method_handler(
                self._streaming_pull, types.StreamingPullRequest.pb().FromString, _serialize
            ),
        }
        return (
            grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
            grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber),
        )

    def drain(self) -> None:
        """End the calls that wait for messages, before the server stops."""
        self._pusher.close()
        self._deliverer.close()

    def close(self) -> None:
        """Stop the timers and write the remaining changes; no call may be in progress.

        Raises:
            sqlite3.Error, OSError: The journal could not be written; the last acknowledgements are lost.
        """
        for timer in (self._timer, self._commit_timer):
            if timer is not None:
                timer.cancel()
        self._journal.commit()

    def settle(self) -> None:
        """Wake consumers, set the timer and schedule the commit after a change of the broker; cheap without changes."""
        self._pusher.reconcile()
        ready = self._broker.ready
        while ready:
            self._deliverer.wake(ready.pop())
        self._set_timer()
        if self._journal.is_dirty and self._commit_timer is None:
            self._commit_timer = asyncio.get_running_loop().call_later(LAZY_COMMIT_S, self._commit_late)

    def _set_timer(self) -> None:
        due_at = self._broker.next_due_at()
        if due_at is None:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + due_at - self.now()
        # An early timer does no harm: no lease has ended, and the timer is set again.
        if self._timer is None or self._timer.cancelled() or at < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(at, self._advance)

    def _advance(self) -> None:
        self._timer = None
        self._broker.advance(self.now())
        self.settle()

    def _commit_late(self) -> None:
        self._commit_timer = None
        try:
            self._calls.commit()
        except CallRefused:
            self._commit_timer = asyncio.get_running_loop().call_later(COMMIT_RETRY_S, self._commit_late)

    def _unary(self, call: _Call, request_type: Wire) -> grpc.RpcMethodHandler:
        async def answer(request: Wire, context: Context) -> Wire:
            try:
                return call(request, self.now())
            except CallRefused as refused:
                await _abort(context, refused)
            finally:
                self.settle()

        handler: grpc.RpcMethodHandler = grpc.unary_unary_rpc_method_handler(
            answer, request_type.pb().FromString, _serialize
        )
        return handler

    async def _pull(self, request: Wire, context: Context) -> Wire:
        return await _or_abort(self._deliverer.pull(request, context), context)

    async def _streaming_pull(self, _requests: object, context: Context) -> None:
        await _or_abort(self._deliverer.streaming_pull(context), context)


def _serialize(message: Wire) -> bytes:
    body: bytes = message.SerializeToString()
    return body


async def _or_abort(answer: Awaitable[Wire], context: Context) -> Wire:
    try:
        return await answer
    except CallRefused as refused:
        await _abort(context, refused)


async def _abort(context: Context, refused: CallRefused) -> None:
    """End a call as refused, with stale ack ids in the form that the real client reads."""
    code = grpc.StatusCode[refused.code.name]
    metadata: tuple[tuple[str, bytes], ...] = ()
    if refused.ack_failures:
        status = status_pb2.Status(code=code.value[0], message=refused.detail)
        reason = "EXACTLY_ONCE_ACKID_FAILURE"
        failures = error_details_pb2.ErrorInfo(
            reason=reason, domain="pubsub.googleapis.com", metadata=refused.ack_failures
        )
        status.details.add().Pack(failures)
        metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, refused.detail, metadata)
