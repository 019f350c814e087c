"""Unary calls of the Pub/Sub v1 API on the broker: a request, an answer, no waiting.

Calls whose effect the caller relies on (publishing, administration, exactly-once acknowledgements) return only after
the commit of the journal. The service commits other acknowledgements a moment later: a crash in between only causes
another delivery. Each method takes the request and the present instant, and raises `CallRefused`.
"""

import sqlite3
from collections.abc import Sequence
from typing import TypeVar

import structlog
from google.pubsub_v1 import types

from worker.local.pubsub.broker import Broker, Subscription
from worker.local.pubsub.faults import FaultHooks
from worker.local.pubsub.journal import Journal
from worker.local.pubsub.model import CallRefused, RefusalCode
from worker.local.pubsub.resources import (
    repushed_subscription,
    subscription_from_proto,
    subscription_to_proto,
    topic_from_proto,
    topic_to_proto,
    updated_subscription,
    updated_topic,
)
from worker.local.pubsub.wire import MODIFY_RANGE_S, Wire, check_range, drafts_from_proto, seconds_from_proto

PAGE_SIZE_MAX = 1000
_log = structlog.get_logger(__name__)

# An empty message of any type has the same bytes, and this type comes with the client.
_EMPTY = types.SeekResponse.pb()()
_Item = TypeVar("_Item")


class Calls:
    """Calls by the names of the API."""

    def __init__(self, broker: Broker, journal: Journal, faults: FaultHooks) -> None:
        self._broker = broker
        self._journal = journal
        self._faults = faults
        self._is_behind = False

    def commit(self) -> None:
        """Write the journal; raise `UNAVAILABLE` after a failure, so that clients try again."""
        try:
            self._journal.commit()
        except (sqlite3.Error, OSError) as exc:
            if not self._is_behind:
                _log.error("pubsub_journal_behind", error=str(exc))
            self._is_behind = True
            raise CallRefused(RefusalCode.UNAVAILABLE, f"The journal cannot be written: {exc}") from exc
        if self._is_behind:
            _log.warning("pubsub_journal_caught_up")
        self._is_behind = False

    # Publisher

    def publish(self, request: Wire, now: float) -> Wire:
        """Answer Publish."""
        drafts = drafts_from_proto(request.messages)
        if self._is_behind:
            # Clients repeat a refused publish. Without this commit each repeat would add messages waiting for the disk.
            self.commit()
        numbers = self._broker.publish(request.topic, drafts, now)
        self.commit()
        return types.PublishResponse.pb()(message_ids=[str(number) for number in numbers])

    def create_topic(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer CreateTopic."""
        topic = topic_from_proto(request)
        self._broker.create_topic(topic)
        self.commit()
        return topic_to_proto(topic)

    def get_topic(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer GetTopic."""
        return topic_to_proto(self._broker.topic(request.topic))

    def update_topic(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer UpdateTopic."""
        topic = updated_topic(self._broker.topic(request.topic.name), request)
        self._broker.update_topic(topic)
        self.commit()
        return topic_to_proto(topic)

    def delete_topic(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer DeleteTopic."""
        self._broker.delete_topic(request.topic)
        self.commit()
        return _EMPTY

    def list_topics(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer ListTopics."""
        topics = [topic for topic in self._broker.topics() if _is_in(topic.name, request.project)]
        page, token = _page(topics, request)
        return types.ListTopicsResponse.pb()(topics=[topic_to_proto(topic) for topic in page], next_page_token=token)

    def list_topic_subscriptions(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer ListTopicSubscriptions."""
        self._broker.topic(request.topic)
        names = [spec.name for spec in self._broker.subscriptions() if spec.topic == request.topic]
        page, token = _page(names, request)
        return types.ListTopicSubscriptionsResponse.pb()(subscriptions=page, next_page_token=token)

    # Subscriber

    def create_subscription(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer CreateSubscription."""
        spec = subscription_from_proto(request)
        self._broker.create_subscription(spec)
        self.commit()
        return subscription_to_proto(spec)

    def get_subscription(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer GetSubscription."""
        return subscription_to_proto(self._broker.subscription(request.subscription).spec)

    def update_subscription(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer UpdateSubscription."""
        spec = updated_subscription(self._broker.subscription(request.subscription.name).spec, request)
        self._broker.update_subscription(spec)
        self.commit()
        return subscription_to_proto(spec)

    def modify_push_config(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer ModifyPushConfig."""
        self._broker.update_subscription(
            repushed_subscription(self._broker.subscription(request.subscription).spec, request)
        )
        self.commit()
        return _EMPTY

    def delete_subscription(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer DeleteSubscription."""
        self._broker.delete_subscription(request.subscription)
        self.commit()
        return _EMPTY

    def list_subscriptions(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer ListSubscriptions."""
        specs = [spec for spec in self._broker.subscriptions() if _is_in(spec.name, request.project)]
        page, token = _page(specs, request)
        return types.ListSubscriptionsResponse.pb()(
            subscriptions=[subscription_to_proto(spec) for spec in page], next_page_token=token
        )

    def seek(self, request: Wire, now: float) -> Wire:  # noqa: ARG002
        """Answer Seek with a time."""
        subscription = self._broker.subscription(request.subscription)
        if not request.HasField("time"):
            raise CallRefused(RefusalCode.UNIMPLEMENTED, "This server has no snapshots; seek to a time.")
        subscription.backlog.seek(seconds_from_proto(request.time))
        self.commit()
        return _EMPTY

    def acknowledge(self, request: Wire, now: float) -> Wire:
        """Answer Acknowledge."""
        subscription = self._broker.subscription(request.subscription)
        self.settle_deliveries(subscription, _some(request.ack_ids), now)
        return _EMPTY

    def modify_ack_deadline(self, request: Wire, now: float) -> Wire:
        """Answer ModifyAckDeadline."""
        subscription = self._broker.subscription(request.subscription)
        self.modify_deliveries(subscription, _some(request.ack_ids), request.ack_deadline_seconds, now)
        return _EMPTY

    def settle_deliveries(self, subscription: Subscription, ack_ids: Sequence[str], now: float) -> None:
        """Acknowledge deliveries of a unary call, a stream or a push."""
        arrived = self._faults.on_acknowledge(subscription.spec.name, ack_ids)
        failures = subscription.backlog.acknowledge(arrived, now)
        if subscription.spec.exactly_once:
            self.commit()
        _refuse_stale(failures)

    def modify_deliveries(self, subscription: Subscription, ack_ids: Sequence[str], seconds: int, now: float) -> None:
        """Extend deliveries of a unary call, a stream or a push; 0 seconds return the messages."""
        check_range("ack_deadline_seconds", seconds, MODIFY_RANGE_S)
        _refuse_stale(subscription.backlog.modify(ack_ids, seconds, now))


def _refuse_stale(failures: dict[str, str]) -> None:
    if failures:
        detail = "Some acknowledgement ids in the request were invalid: expired, or acknowledged already."
        raise CallRefused(RefusalCode.INVALID_ARGUMENT, detail, failures)


def _some(ack_ids: Sequence[str]) -> Sequence[str]:
    if not ack_ids:
        raise CallRefused(RefusalCode.INVALID_ARGUMENT, "No ack ids specified.")
    return ack_ids


def _is_in(name: str, project: str) -> bool:
    return name.startswith(f"{project}/")


def _page(items: Sequence[_Item], request: Wire) -> tuple[Sequence[_Item], str]:
    """Return the requested page; the token is the position after the page."""
    token: str = request.page_token
    if token and not token.isdecimal():
        raise CallRefused(RefusalCode.INVALID_ARGUMENT, f"Invalid page token {token!r}")
    start = int(token or 0)
    end = start + min(request.page_size or PAGE_SIZE_MAX, PAGE_SIZE_MAX)
    return items[start:end], str(end) if end < len(items) else ""
