"""What of the bus's topics and subscriptions is missing or set so that a night would suffer.

`mlfs doctor` looks at everything once; a worker that pulls looks at its subscription every minute, for `/readyz`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import structlog
from google.api_core import exceptions as google_errors

from worker.adapters.pubsub_connection import CALL_TIMEOUT_S, plain_publisher_client, subscriber_client, translated
from worker.errors import Fatal, Unavailable

log = structlog.get_logger(__name__)

# A subscription is moved by hand, a few times in its life.
WATCH_PAUSE_S = 60.0
PUBLISH, CONSUME = "pubsub.topics.publish", "pubsub.subscriptions.consume"


class BusLook:
    """Looks at one project's bus. Close it. Every method may raise `Unavailable`, or `Fatal` for want of a right."""

    def __init__(self, project: str, local_address: str | None) -> None:
        """Connect.

        Args:
            project: Owner of topics and subscriptions.
            local_address: `host:port` of a local server; None for Google.
        """
        self._project = project
        self._local = local_address is not None
        self._topics = plain_publisher_client(local_address)
        self._subscriptions = subscriber_client(local_address)

    def close(self) -> None:
        """Close both connections."""
        self._topics.transport.close()
        self._subscriptions.close()

    def missing_topics(self, names: Sequence[str]) -> list[str]:
        """Name the topics that do not exist."""
        return [
            f"topic {name} does not exist"
            for name in names
            if _found(self._topics.get_topic, {"topic": self._topic(name)}) is None
        ]

    def subscription_faults(self, subscriptions: Mapping[str, str], dead_letters: Mapping[str, str]) -> list[str]:
        """Name what is wrong with subscriptions.

        Args:
            subscriptions: Short subscription name -> short name of the topic it must belong to.
            dead_letters: Short subscription name -> short name of the topic to which Pub/Sub must forward what nobody
                acknowledges. A local server is not asked: there the worker's own refusals are the dead letters.
        """
        faults: list[str] = []
        for name, topic in subscriptions.items():
            found = _found(self._subscriptions.get_subscription, {"subscription": self._subscription(name)})
            if found is None:
                faults.append(f"subscription {name} does not exist")
            else:
                wanted = None if self._local or name not in dead_letters else self._topic(dead_letters[name])
                faults += subscription_faults(name, found, self._topic(topic), wanted)
        return faults

    def denied(self, publish: Sequence[str], consume: Sequence[str]) -> list[str]:
        """Ask Google which of the permissions that a worker uses this account lacks, by `testIamPermissions`."""
        asked = [(self._topics, self._topic(name), PUBLISH) for name in publish]
        asked += [(self._subscriptions, self._subscription(name), CONSUME) for name in consume]
        return [
            f"{permission} on {resource} is not granted"
            for client, resource, permission in asked
            if permission not in _granted(client, resource, permission)
        ]

    def _topic(self, name: str) -> str:
        return f"projects/{self._project}/topics/{name}"

    def _subscription(self, name: str) -> str:
        return f"projects/{self._project}/subscriptions/{name}"


class SubscriptionWatch:
    """Looks now and then whether the subscription belongs to its topic: an orphan is open, and silent for ever."""

    def __init__(self, project: str, local_address: str | None, *, subscription: str, topic: str) -> None:
        """Know nothing yet; short names of subscription and topic."""
        self._address = (project, local_address)
        self._wanted = {subscription: topic}
        self.faults: Sequence[str] = ()

    def run_once(self) -> float:
        """Look once; return the seconds until the next look. Where the bus does not answer nothing changes."""
        try:
            look = BusLook(*self._address)
            try:
                self.faults = look.subscription_faults(self._wanted, {})
            finally:
                look.close()
        except (Unavailable, Fatal) as exc:
            log.info("subscription_not_looked_at", error=str(exc))
        return WATCH_PAUSE_S


def subscription_faults(name: str, found: Any, topic: str, dead_letters: str | None) -> Iterator[str]:  # noqa: ANN401 - the client is untyped
    """Say what a subscription is that a worker's must not be; *dead_letters* None: it needs no dead-letter policy."""
    if found.topic != topic:
        yield f"subscription {name} belongs to {found.topic}, not to {topic}"
    if dead_letters is None:
        return
    policy = found.dead_letter_policy
    if policy.dead_letter_topic != dead_letters:
        where = policy.dead_letter_topic or "nowhere"
        yield f"subscription {name} forwards what nobody acknowledges to {where}, not to {dead_letters}"
    if not found.retain_acked_messages:
        yield f"subscription {name} does not retain acknowledged messages: mlfs recover could not turn it back"


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (google_errors.GoogleAPIError, grpc.RpcError) as exc:
        raise translated(exc, what) from exc


def _found(call: Callable[..., Any], request: dict[str, str]) -> Any:  # noqa: ANN401 - the client is untyped
    with _translated(f"looking for {next(iter(request.values()))}"):
        try:
            return call(request=request, timeout=CALL_TIMEOUT_S)
        except google_errors.NotFound:
            return None


def _granted(client: Any, resource: str, permission: str) -> Sequence[str]:  # noqa: ANN401 - the client is untyped
    with _translated(f"asking for permissions on {resource}"):
        request = {"resource": resource, "permissions": [permission]}
        return list(client.test_iam_permissions(request=request, timeout=CALL_TIMEOUT_S).permissions)
