"""Conversion of topics and subscriptions between Google's Pub/Sub v1 API and the broker.

An unsupported setting is refused with `UNIMPLEMENTED`, never silently ignored. Fields that only the service may set are
ignored, as in the real service. If the documentation of a limit names no status code, the status code of Google's
emulator 0.8.20 is used.
"""

import re
from dataclasses import replace
from urllib.parse import urlsplit

from google.pubsub_v1 import types

from worker.local.pubsub.model import (
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
    RefusalCode,
    RetryPolicy,
    SubscriptionSpec,
    TopicSpec,
)
from worker.local.pubsub.wire import (
    ACK_DEADLINE_RANGE_S,
    Wire,
    check_range,
    invalid,
    seconds_from_proto,
    seconds_to_proto,
)

RETENTION_RANGE_S = (600.0, 31 * DAY_S)
BACKOFF_RANGE_S = (0.0, 600.0)
ATTEMPTS_RANGE = (5, 100)

_NAME = re.compile(r"projects/[^/]+/(topics|subscriptions)/(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_TOPIC_FIELDS = frozenset({"name", "labels", "state", "satisfies_pzs"})
_SUBSCRIPTION_FIELDS = frozenset(
    {
        "name", "topic", "labels", "ack_deadline_seconds", "retain_acked_messages", "message_retention_duration",
        "enable_message_ordering", "enable_exactly_once_delivery", "filter", "expiration_policy", "retry_policy",
        "dead_letter_policy", "push_config", "detached", "state", "topic_message_retention_duration",
        "analytics_hub_subscription_info",
    }
)  # fmt: skip
# Only Google could sign an OIDC token; `x-goog-version` is v1 for any value.
_PUSH_FIELDS = frozenset({"push_endpoint", "attributes"})
_TOPIC_UPDATES = frozenset({"labels"})
_IMMUTABLE = frozenset({"name", "topic", "filter", "enable_message_ordering"})
_SUBSCRIPTION_UPDATES = _SUBSCRIPTION_FIELDS - {
    "name", "detached", "state", "topic_message_retention_duration", "analytics_hub_subscription_info",
}  # fmt: skip


_Subscription = types.Subscription.pb()
_RetryPolicy = types.RetryPolicy.pb()
_Topic = types.Topic.pb()


# Topics


def topic_from_proto(topic: Wire) -> TopicSpec:
    """Read and check a topic.

    Raises:
        CallRefused: `INVALID_ARGUMENT` for a bad name, `UNIMPLEMENTED` for an unsupported setting.
    """
    _check_fields(topic, _TOPIC_FIELDS)
    _check_name(topic.name, "topics")
    return TopicSpec(name=topic.name, labels=dict(topic.labels))


def topic_to_proto(topic: TopicSpec) -> Wire:
    """Return *topic* in the form of the v1 API."""
    return _Topic(name=topic.name, labels=topic.labels, state=types.Topic.State.ACTIVE)


# Subscriptions


def subscription_from_proto(subscription: Wire) -> SubscriptionSpec:
    """Read and check a subscription.

    Raises:
        CallRefused: `INVALID_ARGUMENT` or `OUT_OF_RANGE` for a bad value, `UNIMPLEMENTED` for an unsupported setting.
    """
    _check_fields(subscription, _SUBSCRIPTION_FIELDS)
    _check_name(subscription.name, "subscriptions")
    if subscription.topic != DELETED_TOPIC:
        _check_name(subscription.topic, "topics")
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
        push_endpoint=_push_endpoint(subscription.push_config),
        retry=_retry_from_proto(subscription),
        dead_letter=_dead_letter_from_proto(subscription),
        expiration_s=_expiration_s(subscription),
    )
    check_range("ack_deadline_seconds", spec.ack_deadline_s, ACK_DEADLINE_RANGE_S)
    check_range("message_retention_duration", spec.retention_s, RETENTION_RANGE_S)
    return spec


def subscription_to_proto(spec: SubscriptionSpec) -> Wire:
    """Return *spec* in the form of the v1 API."""
    subscription = _Subscription(
        name=spec.name,
        topic=spec.topic,
        labels=spec.labels,
        ack_deadline_seconds=spec.ack_deadline_s,
        message_retention_duration=seconds_to_proto(spec.retention_s),
        retain_acked_messages=spec.retain_acked,
        enable_message_ordering=spec.ordered,
        enable_exactly_once_delivery=spec.exactly_once,
        filter=spec.filter,
        expiration_policy={} if spec.expiration_s is None else {"ttl": seconds_to_proto(spec.expiration_s)},
        state=types.Subscription.State.ACTIVE,
    )
    if spec.push_endpoint:
        subscription.push_config.push_endpoint = spec.push_endpoint
    if (retry := spec.retry) is not None:
        policy = _RetryPolicy(
            minimum_backoff=seconds_to_proto(retry.min_backoff_s), maximum_backoff=seconds_to_proto(retry.max_backoff_s)
        )
        subscription.retry_policy.CopyFrom(policy)
    if (dead_letter := spec.dead_letter) is not None:
        subscription.dead_letter_policy.dead_letter_topic = dead_letter.topic
        subscription.dead_letter_policy.max_delivery_attempts = dead_letter.attempts_max
    return subscription


def _push_endpoint(config: Wire) -> str:
    _check_fields(config, _PUSH_FIELDS)
    endpoint: str = config.push_endpoint
    if not endpoint:
        return ""
    try:
        parts = urlsplit(endpoint)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not endpoint.isascii() or any(character.isspace() for character in endpoint):
        raise invalid(f"Invalid push endpoint given (endpoint={endpoint}): not an http or https URL.")
    return endpoint


def _retention_s(subscription: Wire) -> float:
    if not subscription.HasField("message_retention_duration"):
        return RETENTION_DEFAULT_S
    return seconds_from_proto(subscription.message_retention_duration)


def _expiration_s(subscription: Wire) -> float | None:
    if not subscription.HasField("expiration_policy"):
        return EXPIRATION_DEFAULT_S
    policy = subscription.expiration_policy
    return seconds_from_proto(policy.ttl) if policy.HasField("ttl") else None


def _retry_from_proto(subscription: Wire) -> RetryPolicy | None:
    if not subscription.HasField("retry_policy"):
        return None
    wire = subscription.retry_policy
    policy = RetryPolicy(
        min_backoff_s=seconds_from_proto(wire.minimum_backoff)
        if wire.HasField("minimum_backoff")
        else MIN_BACKOFF_DEFAULT_S,
        max_backoff_s=seconds_from_proto(wire.maximum_backoff)
        if wire.HasField("maximum_backoff")
        else MAX_BACKOFF_DEFAULT_S,
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
    """Return *old* with the fields named by an UpdateTopic request; errors as in `topic_from_proto`."""
    target = topic_to_proto(old)
    _merge(request.topic, request.update_mask, target, _TOPIC_UPDATES)
    return topic_from_proto(target)


def repushed_subscription(old: SubscriptionSpec, request: Wire) -> SubscriptionSpec:
    """Return *old* with the endpoint of a ModifyPushConfig request; without an endpoint clients pull messages."""
    return replace(old, push_endpoint=_push_endpoint(request.push_config))


def updated_subscription(old: SubscriptionSpec, request: Wire) -> SubscriptionSpec:
    """Return *old* with the fields named by an UpdateSubscription request; errors as in `subscription_from_proto`."""
    target = subscription_to_proto(old)
    _merge(request.subscription, request.update_mask, target, _SUBSCRIPTION_UPDATES)
    return subscription_from_proto(target)


def _merge(source: Wire, mask: Wire, target: Wire, allowed: frozenset[str]) -> None:
    if not mask.paths:
        raise invalid("The update_mask must be set, and must contain a non-empty paths list.")
    for path in mask.paths:
        if path not in target.DESCRIPTOR.fields_by_name:
            raise invalid(f"Invalid update_mask: {path} is not a known field; nested paths are not understood.")
        if path in _IMMUTABLE:
            raise invalid(f"Invalid update_mask: {path} is not mutable; create another one instead.")
        if path not in allowed:
            raise CallRefused(RefusalCode.UNIMPLEMENTED, f"This server cannot update {path}.")
    mask.MergeMessage(source, target, replace_message_field=True, replace_repeated_field=True)


def _check_name(name: str, collection: str) -> None:
    """Refuse a resource name that the service would refuse."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] != collection:
        raise invalid(f"Invalid [{collection}] name: (name={name})")


def _check_fields(resource: Wire, known: frozenset[str]) -> None:
    for descriptor, value in resource.ListFields():
        is_empty = hasattr(value, "ByteSize") and value.ByteSize() == 0
        if descriptor.name not in known and not is_empty:
            raise CallRefused(RefusalCode.UNIMPLEMENTED, f"This server does not do {descriptor.name}.")
