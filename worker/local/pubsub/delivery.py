"""Calls that wait for messages: Pull and StreamingPull.

A consumer takes messages, sends the messages and takes again; without messages the consumer sleeps on an event that is
set as soon as a message may be deliverable. No loop polls. Messages of an ended stream stay leased, as in the real
service: the server delivers the messages again when the lease ends.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import grpc.aio
from google.pubsub_v1 import types

from worker.local.pubsub.broker import Broker
from worker.local.pubsub.calls import Calls
from worker.local.pubsub.faults import FaultHooks
from worker.local.pubsub.model import CallRefused, Consumer, LeasedMessage, RefusalCode
from worker.local.pubsub.wire import ACK_DEADLINE_RANGE_S, Wire, check_range, delivery_to_proto

# A unary pull without messages ends empty after this time, or earlier by the deadline of the call.
PULL_WAIT_MAX_S = 20.0

# Subtracted from the deadline of a pull, so that the empty answer arrives before the client gives up.
PULL_ANSWER_S = 0.5


Context: TypeAlias = grpc.aio.ServicerContext[Wire, Wire]


class Pulse(Protocol):
    """Functions of the service that deliveries need."""

    def now(self) -> float:
        """Return the present instant in seconds since the epoch."""

    def settle(self) -> None:
        """Wake consumers, set the timer and schedule the commit after a change of the broker."""


class Deliverer:
    """Delivery of messages to the consumers of all subscriptions."""

    def __init__(self, broker: Broker, calls: Calls, faults: FaultHooks, pulse: Pulse) -> None:
        self._broker = broker
        self._calls = calls
        self._faults = faults
        self._pulse = pulse
        self._sleepers: dict[str, deque[asyncio.Event]] = {}
        self._consumers = 0
        self._is_closing = False

    def wake(self, subscription: str) -> None:
        """Wake the consumers of *subscription*.

        The first consumer awake takes all available messages, so the consumers take turns at being first.
        """
        events = self._sleepers.get(subscription)
        if events is not None:
            for event in events:
                event.set()
            events.rotate(1)

    def close(self) -> None:
        """End every waiting call with `UNAVAILABLE`; the real client then tries again."""
        self._is_closing = True
        for subscription in list(self._sleepers):
            self.wake(subscription)

    async def pull(self, request: Wire, context: Context) -> Wire:
        """Answer Pull with the waiting messages, with the first new message, or empty after a while."""
        if request.max_messages <= 0:
            raise CallRefused(RefusalCode.INVALID_ARGUMENT, "No max_messages specified")
        name = request.subscription
        self._check_is_pulled(name)
        consumer = Consumer(name=self._new_name(), ack_deadline_s=self._broker.subscription(name).spec.ack_deadline_s)
        remaining_s = context.time_remaining()
        wait_s = min(PULL_WAIT_MAX_S, (math.inf if remaining_s is None else remaining_s) - PULL_ANSWER_S)
        deliveries: list[LeasedMessage] = []
        with self.sleeper(name) as event, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if request.return_immediately else max(0, wait_s)):
                while not deliveries:
                    event.clear()
                    deliveries = self.take(name, consumer, request.max_messages)
                    if not deliveries:
                        await event.wait()
        sent = self.sent(name, deliveries)
        return types.PullResponse.pb()(received_messages=[delivery_to_proto(delivery) for delivery in sent])

    async def streaming_pull(self, context: Context) -> None:
        """Serve a StreamingPull until the client half-closes the stream, a refusal, or the end of the server."""
        first = await context.read()
        if first is grpc.aio.EOF:
            return
        name = first.subscription
        self._check_is_pulled(name)
        check_range("stream_ack_deadline_seconds", first.stream_ack_deadline_seconds, ACK_DEADLINE_RANGE_S)
        consumer = Consumer(
            name=first.client_id or self._new_name(),
            ack_deadline_s=first.stream_ack_deadline_seconds,
            messages_max=first.max_outstanding_messages,
            bytes_max=first.max_outstanding_bytes,
        )
        with self.sleeper(name) as event:
            listener = asyncio.create_task(self._listen(name, consumer, first, context))
            listener.add_done_callback(lambda _: event.set())
            try:
                await self._feed(name, consumer, event, listener, context)
            finally:
                listener.cancel()
        if not listener.cancelled():
            await listener

    async def _feed(
        self,
        name: str,
        consumer: Consumer,
        event: asyncio.Event,
        listener: asyncio.Task[None],
        context: Context,
    ) -> None:
        """Send messages to the consumer until the listener ends."""
        while not listener.done():
            event.clear()
            taken = self.take(name, consumer, 0) if self._faults.on_stream(name, consumer.name) else []
            if not taken:
                await event.wait()
                continue
            spec = self._broker.subscription(name).spec
            sent = self.sent(name, taken)
            await context.write(
                types.StreamingPullResponse.pb()(
                    received_messages=[delivery_to_proto(delivery) for delivery in sent],
                    subscription_properties={
                        "exactly_once_delivery_enabled": spec.exactly_once,
                        "message_ordering_enabled": spec.ordered,
                    },
                )
            )

    async def _listen(self, name: str, consumer: Consumer, first: Wire, context: Context) -> None:
        """Handle the requests of the client until the client half-closes the stream."""
        request = first
        while request is not grpc.aio.EOF:
            self._hear(name, consumer, request)
            self._pulse.settle()
            request = await context.read()

    def _hear(self, name: str, consumer: Consumer, request: Wire) -> None:
        if request.stream_ack_deadline_seconds:
            check_range("stream_ack_deadline_seconds", request.stream_ack_deadline_seconds, ACK_DEADLINE_RANGE_S)
            consumer.ack_deadline_s = request.stream_ack_deadline_seconds
        if len(request.modify_deadline_ack_ids) != len(request.modify_deadline_seconds):
            detail = "modify_deadline_ack_ids and modify_deadline_seconds differ in length"
            raise CallRefused(RefusalCode.INVALID_ARGUMENT, detail)
        subscription = self._broker.subscription(name)
        if request.ack_ids:
            self._calls.settle_deliveries(subscription, request.ack_ids, self._pulse.now())
        for ack_id, seconds in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True):
            self._calls.modify_deliveries(subscription, [ack_id], seconds, self._pulse.now())

    def sent(self, name: str, taken: Sequence[LeasedMessage]) -> Sequence[LeasedMessage]:
        """Return the deliveries that are sent after planned faults."""
        return self._faults.on_deliver(name, taken)

    def take(self, name: str, consumer: Consumer, limit: int) -> list[LeasedMessage]:
        """Lease messages to *consumer*; a *limit* of 0 means the limit of the server.

        Raises:
            CallRefused: `UNAVAILABLE`, the server closes; `NOT_FOUND`, the subscription no longer exists.
        """
        if self._is_closing:
            raise CallRefused(RefusalCode.UNAVAILABLE, "The server is closing.")
        backlog = self._broker.subscription(name).backlog
        now = self._pulse.now()
        taken = backlog.take(consumer, now, limit) if limit else backlog.take(consumer, now)
        self._pulse.settle()
        return taken

    def _check_is_pulled(self, name: str) -> None:
        if self._broker.subscription(name).spec.push_endpoint:
            detail = "This method is not supported for this subscription type: its messages are pushed."
            raise CallRefused(RefusalCode.FAILED_PRECONDITION, detail)

    def _new_name(self) -> str:
        self._consumers += 1
        return f"consumer-{self._consumers}"

    @contextlib.contextmanager
    def sleeper(self, name: str) -> Iterator[asyncio.Event]:
        """Return an event that is set whenever the subscription may have a deliverable message."""
        event = asyncio.Event()
        events = self._sleepers.setdefault(name, deque())
        events.append(event)
        try:
            yield event
        finally:
            events.remove(event)
            if not events:
                del self._sleepers[name]
