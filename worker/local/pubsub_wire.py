"""Between Google's Pub/Sub v1 messages and the broker's nouns; the limits of the real service are checked here.

What the server does not do is refused with `UNIMPLEMENTED` when a caller asks for it, never silently ignored; fields
that only the service may set are ignored, as the real one does. Limits are those of the Pub/Sub documentation ("Quotas
and limits" and the v1 reference), or, where that gives no status code, of Google's emulator 0.8.20.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

from google.protobuf import duration_pb2, timestamp_pb2
from google.pubsub_v1 import types

from worker.local.pubsub_model import (
    ACK_DEADLINE_DEFAULT_S,
    ATTEMPTS_DEFAULT_MAX,
    DAY_S,
    DELETED_TOPIC,
    EXPIRATION_DEFAULT_S,
    MAX_BACKOFF_DEFAULT_S,
    MIN_BACKOFF_DEFAULT_S,
    RETENTION_DEFAULT_S,
    CallRefused,
    DeadLetterPolicy,
    Delivery,
    Draft,
    Message,
    RefusalCode,
    RetryPolicy,
    SubscriptionSpec,
    TopicSpec,
)

MESSAGES_PER_PUBLISH_MAX = 1000
PUBLISH_BYTES_MAX = 10_000_000
ATTRIBUTES_MAX = 100
ATTRIBUTE_KEY_BYTES_MAX = 256
ATTRIBUTE_VALUE_BYTES_MAX = 1024
ORDERING_KEY_BYTES_MAX = 1024
ACK_DEADLINE_RANGE_S = (10, 600)
RETENTION_RANGE_S = (600.0, 31 * DAY_S)
BACKOFF_RANGE_S = (0.0, 600.0)
ATTEMPTS_RANGE = (5, 100)

Wire: TypeAlias = Any
"""A message of the v1 API; its classes are made at run time and have no types."""

_NAME = re.compile(r"projects/[^/]+/(topics|subscriptions)/(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_MICROSECONDS = 1_000_000
_TOPIC_FIELDS = frozenset({"name", "labels", "state", "satisfies_pzs"})
_SUBSCRIPTION_FIELDS = frozenset(
    {
        "name", "topic", "labels", "ack_deadline_seconds", "retain_acked_messages", "message_retention_duration",
        "enable_message_ordering", "enable_exactly_once_delivery", "filter", "expiration_policy", "retry_policy",
        "dead_letter_policy", "detached", "state", "topic_message_retention_duration",
        "analytics_hub_subscription_info",
    }
)  # fmt: skip
_TOPIC_UPDATES = frozenset({"labels"})
_SUBSCRIPTION_UPDATES = _SUBSCRIPTION_FIELDS - {
    "name", "detached", "state", "topic_message_retention_duration", "analytics_hub_subscription_info",
}  # fmt: skip

# The classes of the wire itself: several times faster than the wrappers that `types` shows to users.
_PubsubMessage = types.PubsubMessage.pb()
_ReceivedMessage = types.ReceivedMessage.pb()
_Subscription = types.Subscription.pb()
_Topic = types.Topic.pb()


def refuse(code: RefusalCode, detail: str) -> CallRefused:
    """Make the error that answers a call with *code*."""
    return CallRefused(code, detail)


def _invalid(detail: str) -> CallRefused:
    return CallRefused(RefusalCode.INVALID_ARGUMENT, detail)


# Messages


def drafts_from_proto(messages: Iterable[Wire]) -> list[Draft]:
    """Read and check the messages of a publish call.

    Raises:
        CallRefused: `INVALID_ARGUMENT`, the call or one of its messages breaks a limit.
    """
    drafts = [Draft(message.data, dict(message.attributes), message.ordering_key) for message in messages]
    if not drafts:
        raise _invalid("No messages to publish")
    if len(drafts) > MESSAGES_PER_PUBLISH_MAX:
        raise _invalid(f"Too many messages to publish: {len(drafts)}, the maximum is {MESSAGES_PER_PUBLISH_MAX}")
    for draft in drafts:
        _check_draft(draft)
    if sum(len(draft.data) for draft in drafts) > PUBLISH_BYTES_MAX:
        raise _invalid(f"The request is larger than {PUBLISH_BYTES_MAX} bytes")
    return drafts


def _check_draft(draft: Draft) -> None:
    if not draft.data and not draft.attributes:
        raise _invalid("Some messages are empty")
    if len(draft.attributes) > ATTRIBUTES_MAX:
        raise _invalid(f"A message has more than {ATTRIBUTES_MAX} attributes")
    if len(draft.ordering_key.encode()) > ORDERING_KEY_BYTES_MAX:
        raise _invalid(f"An ordering key is longer than {ORDERING_KEY_BYTES_MAX} bytes")
    for key, value in draft.attributes.items():
        if not key or key.startswith("goog") or len(key.encode()) > ATTRIBUTE_KEY_BYTES_MAX:
            raise _invalid(f"An attribute key is empty, starts with 'goog' or exceeds {ATTRIBUTE_KEY_BYTES_MAX} bytes")
        if len(value.encode()) > ATTRIBUTE_VALUE_BYTES_MAX:
            raise _invalid(f"The value of attribute {key!r} is longer than {ATTRIBUTE_VALUE_BYTES_MAX} bytes")


def message_to_proto(message: Message) -> Wire:
    """Give *message* in the form of the v1 API."""
    seconds, microseconds = divmod(round(message.published_at * _MICROSECONDS), _MICROSECONDS)
    return _PubsubMessage(
        data=message.data,
        attributes=message.attributes,
        message_id=str(message.number),
        publish_time=timestamp_pb2.Timestamp(seconds=seconds, nanos=microseconds * 1000),
        ordering_key=message.ordering_key,
    )


def message_from_proto(message: Wire, *, batch: int) -> Message:
    """Read back what `message_to_proto` gave."""
    return Message(
        number=int(message.message_id),
        batch=batch,
        published_at=instant_from_proto(message.publish_time),
        data=message.data,
        attributes=dict(message.attributes),
        ordering_key=message.ordering_key,
    )


def delivery_to_proto(delivery: Delivery) -> Wire:
    """Give *delivery* in the form of the v1 API."""
    return _ReceivedMessage(
        ack_id=delivery.ack_id, message=message_to_proto(delivery.message), delivery_attempt=delivery.attempt
    )


def instant_from_proto(stamp: timestamp_pb2.Timestamp) -> float:
    """Give *stamp* as seconds since the epoch, to the microsecond."""
    return stamp.seconds + stamp.nanos // 1000 / _MICROSECONDS


# Topics


def topic_from_proto(topic: Wire) -> TopicSpec:
    """Read and check a topic.

    Raises:
        CallRefused: `INVALID_ARGUMENT` for a bad name, `UNIMPLEMENTED` for a setting this server does not have.
    """
    _check_fields(topic, _TOPIC_FIELDS)
    check_name(topic.name, "topics")
    return TopicSpec(name=topic.name, labels=dict(topic.labels))


def topic_to_proto(topic: TopicSpec) -> Wire:
    """Give *topic* in the form of the v1 API."""
    return _Topic(name=topic.name, labels=topic.labels, state=types.Topic.State.ACTIVE)


# Subscriptions


def subscription_from_proto(subscription: Wire) -> SubscriptionSpec:
    """Read and check a subscription.

    Raises:
        CallRefused: `INVALID_ARGUMENT` or `OUT_OF_RANGE` for a bad value, `UNIMPLEMENTED` for a setting this server
            does not have.
    """
    _check_fields(subscription, _SUBSCRIPTION_FIELDS)
    check_name(subscription.name, "subscriptions")
    if subscription.topic != DELETED_TOPIC:
        check_name(subscription.topic, "topics")
    spec = SubscriptionSpec(
        name=subscription.name,
        topic=subscription.topic,
        labels=dict(subscription.labels),
        ack_deadline_s=subscription.ack_deadline_seconds or ACK_DEADLINE_DEFAULT_S,
        retention_s=_retention_s(subscription),
        retain_acked=subscription.retain_acked_messages,
        ordered=subscription.enable_message_ordering,
        exactly_once=subscription.enable_exactly_once_delivery,
        filter=subscription.filter,
        retry=_retry_from_proto(subscription),
        dead_letter=_dead_letter_from_proto(subscription),
        expiration_s=_expiration_s(subscription),
    )
    check_range("ack_deadline_seconds", spec.ack_deadline_s, ACK_DEADLINE_RANGE_S)
    check_range("message_retention_duration", spec.retention_s, RETENTION_RANGE_S)
    return spec


def subscription_to_proto(spec: SubscriptionSpec) -> Wire:
    """Give *spec* in the form of the v1 API."""
    subscription = _Subscription(
        name=spec.name,
        topic=spec.topic,
        labels=spec.labels,
        ack_deadline_seconds=spec.ack_deadline_s,
        message_retention_duration=_duration(spec.retention_s),
        retain_acked_messages=spec.retain_acked,
        enable_message_ordering=spec.ordered,
        enable_exactly_once_delivery=spec.exactly_once,
        filter=spec.filter,
        state=types.Subscription.State.ACTIVE,
    )
    subscription.expiration_policy.SetInParent()
    if spec.expiration_s is not None:
        subscription.expiration_policy.ttl.CopyFrom(_duration(spec.expiration_s))
    if spec.retry is not None:
        subscription.retry_policy.minimum_backoff.CopyFrom(_duration(spec.retry.min_backoff_s))
        subscription.retry_policy.maximum_backoff.CopyFrom(_duration(spec.retry.max_backoff_s))
    if spec.dead_letter is not None:
        subscription.dead_letter_policy.dead_letter_topic = spec.dead_letter.topic
        subscription.dead_letter_policy.max_delivery_attempts = spec.dead_letter.attempts_max
    return subscription


def _retention_s(subscription: Wire) -> float:
    if not subscription.HasField("message_retention_duration"):
        return RETENTION_DEFAULT_S
    return _seconds(subscription.message_retention_duration)


def _expiration_s(subscription: Wire) -> float | None:
    if not subscription.HasField("expiration_policy"):
        return EXPIRATION_DEFAULT_S
    policy = subscription.expiration_policy
    return _seconds(policy.ttl) if policy.HasField("ttl") else None


def _retry_from_proto(subscription: Wire) -> RetryPolicy | None:
    if not subscription.HasField("retry_policy"):
        return None
    wire = subscription.retry_policy
    policy = RetryPolicy(
        min_backoff_s=_seconds(wire.minimum_backoff) if wire.HasField("minimum_backoff") else MIN_BACKOFF_DEFAULT_S,
        max_backoff_s=_seconds(wire.maximum_backoff) if wire.HasField("maximum_backoff") else MAX_BACKOFF_DEFAULT_S,
    )
    check_range("minimum_backoff", policy.min_backoff_s, BACKOFF_RANGE_S)
    check_range("maximum_backoff", policy.max_backoff_s, (policy.min_backoff_s, BACKOFF_RANGE_S[1]))
    return policy


def _dead_letter_from_proto(subscription: Wire) -> DeadLetterPolicy | None:
    wire = subscription.dead_letter_policy
    if not wire.dead_letter_topic:
        return None
    attempts_max = wire.max_delivery_attempts or ATTEMPTS_DEFAULT_MAX
    check_range("max_delivery_attempts", attempts_max, ATTEMPTS_RANGE, RefusalCode.OUT_OF_RANGE)
    return DeadLetterPolicy(topic=wire.dead_letter_topic, attempts_max=attempts_max)


# Updates


def updated_topic(old: TopicSpec, request: Wire) -> TopicSpec:
    """Give *old* with the fields that an UpdateTopic request names; errors as `topic_from_proto`."""
    target = topic_to_proto(old)
    _merge(request.topic, request.update_mask, target, _TOPIC_UPDATES)
    return topic_from_proto(target)


def updated_subscription(old: SubscriptionSpec, request: Wire) -> SubscriptionSpec:
    """Give *old* with the fields that an UpdateSubscription request names; errors as `subscription_from_proto`."""
    target = subscription_to_proto(old)
    _merge(request.subscription, request.update_mask, target, _SUBSCRIPTION_UPDATES)
    return subscription_from_proto(target)


def _merge(source: Wire, mask: Wire, target: Wire, allowed: frozenset[str]) -> None:
    if not mask.paths:
        raise _invalid("The update_mask must be set, and must contain a non-empty paths list.")
    for path in mask.paths:
        if path not in target.DESCRIPTOR.fields_by_name:
            raise _invalid(f"Invalid update_mask: {path} is not a known field; nested paths are not understood.")
        if path not in allowed:
            raise refuse(RefusalCode.UNIMPLEMENTED, f"This server cannot update {path}.")
    mask.MergeMessage(source, target, replace_message_field=True, replace_repeated_field=True)


# Checks


def check_name(name: str, collection: str) -> None:
    """Refuse a resource name that the service would refuse."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] != collection:
        raise _invalid(f"Invalid [{collection}] name: (name={name})")


def check_range(
    what: str, value: float, bounds: tuple[float, float], code: RefusalCode = RefusalCode.INVALID_ARGUMENT
) -> None:
    """Refuse a number outside *bounds*, both included."""
    low, high = bounds
    if not low <= value <= high:
        raise refuse(code, f"{what} is out of bounds: {value:g}, it must be between {low:g} and {high:g}.")


def _check_fields(resource: Wire, known: frozenset[str]) -> None:
    for descriptor, value in resource.ListFields():
        is_empty = hasattr(value, "ByteSize") and value.ByteSize() == 0
        if descriptor.name not in known and not is_empty:
            raise refuse(RefusalCode.UNIMPLEMENTED, f"This server does not do {descriptor.name}.")


def _duration(seconds: float) -> duration_pb2.Duration:
    whole, microseconds = divmod(round(seconds * _MICROSECONDS), _MICROSECONDS)
    return duration_pb2.Duration(seconds=whole, nanos=microseconds * 1000)


def _seconds(duration: duration_pb2.Duration) -> float:
    return float(duration.seconds) + duration.nanos / 1e9
