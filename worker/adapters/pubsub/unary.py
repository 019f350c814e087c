"""Unary calls to the bus: checks of topics and subscriptions, a single pull, and seek.

`BusLook` reports missing or wrongly configured topics and subscriptions: `mlfs doctor` checks all, and a pull worker
checks the subscription every minute for `/readyz`. `PullCheck` pulls a message over a second connection, which
distinguishes an idle stream from a broken stream; the pull needs no further right and works alike on Google's service,
the emulator and the local server. `receive_waiting` takes all waiting messages, for commands. `seek` delivers
acknowledged messages again, for `mlfs recover`; the subscription must retain acknowledged messages, or the topic must
retain messages. Repeated messages change no outcome, so an instant that is too early is harmless.

A pulled message must be settled. A crash before settling leaves the lease to end, and the bus delivers the message
again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import grpc
import structlog
from google.api_core import exceptions as google_errors
from google.pubsub_v1.types import PullRequest

from schemas.completion import Delivery
from worker.adapters.pubsub.connection import CALL_TIMEOUT_S, plain_publisher_client, subscriber_client, translated
from worker.errors import Fatal, Unavailable

log = structlog.get_logger(__name__)

# A subscription is moved to another topic by hand, and rarely.
WATCH_PAUSE_S = 60.0
PUBLISH, CONSUME = "pubsub.topics.publish", "pubsub.subscriptions.consume"


class BusLook:
    """Checks of the topics and subscriptions of a project. The caller closes the connections.

    Every method may raise `Unavailable`, or `Fatal` if a right is missing.
    """

    def __init__(self, project: str, local_address: str | None) -> None:
        """Connect to the bus.

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
        """Return a sentence for each topic that does not exist."""
        return [
            f"topic {name} does not exist"
            for name in names
            if _found(self._topics.get_topic, {"topic": self._topic(name)}) is None
        ]

    def subscription_faults(self, subscriptions: Mapping[str, str], dead_letters: Mapping[str, str]) -> list[str]:
        """Return a sentence for each fault of the subscriptions.

        Args:
            subscriptions: Short subscription name -> short name of the topic it must belong to.
            dead_letters: Short subscription name -> short name of the topic to which Pub/Sub must forward
                unacknowledged messages. A local server is not checked: there only a worker parks messages.
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
        """Return a sentence for each permission that a worker needs and this account lacks, by `testIamPermissions`."""
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
    """Regular check that the subscription belongs to the topic; an orphaned subscription delivers no message."""

    def __init__(self, project: str, local_address: str | None, *, subscription: str, topic: str) -> None:
        """Start without faults; the arguments are short names of subscription and topic."""
        self._address = (project, local_address)
        self._wanted = {subscription: topic}
        self.faults: Sequence[str] = ()

    def run_once(self) -> float:
        """Check once; return the seconds until the next check. If the bus does not answer, the known faults stay."""
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
    """Yield the faults of a subscription; *dead_letters* None means that no dead-letter policy is needed."""
    if found.topic != topic:
        yield f"subscription {name} belongs to {found.topic}, not to {topic}"
    if dead_letters is None:
        return
    policy = found.dead_letter_policy
    if policy.dead_letter_topic != dead_letters:
        where = policy.dead_letter_topic or "nowhere"
        yield f"subscription {name} forwards unacknowledged messages to {where}, not to {dead_letters}"
    if not found.retain_acked_messages:
        yield f"subscription {name} does not retain acknowledged messages: mlfs recover could not seek back"


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except (google_errors.GoogleAPIError, grpc.RpcError) as exc:
        raise translated(exc, doing) from exc


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


PROBE_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledMessage:
    """Pulled message, leased to this process."""

    ack_id: str
    delivery: Delivery


class PullCheck:
    """Connection for a single pull, closed at the end of the `with` block."""

    def __init__(self, project: str, subscription: str, local_address: str | None) -> None:
        self._client: Any = subscriber_client(local_address)
        self._path: str = self._client.subscription_path(project, subscription)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self) -> PulledMessage | None:
        """Return a waiting message; None if no message waits.

        Raises:
            Unavailable: The bus does not answer.
            Fatal: There is no such subscription, or no right to read it.
        """
        # A waiting pull would compete with a working stream for the next message. The client's own method warns about
        # every pull without waiting, so call the transport directly, with the routing header of the client.
        request = PullRequest(subscription=self._path, max_messages=1, return_immediately=True)
        routing = (("x-goog-request-params", f"subscription={self._path}"),)
        try:
            answer = self._client.transport.pull(request, timeout=PROBE_TIMEOUT_S, metadata=routing)
        except grpc.RpcError as exc:
            raise translated(google_errors.from_grpc_error(exc), f"cannot ask {self._path}") from exc
        for item in answer.received_messages:
            message = item.message
            delivery = Delivery(
                data=message.data,
                attributes=dict(message.attributes),
                message_id=message.message_id,
                published_at=message.publish_time,
            )
            return PulledMessage(ack_id=item.ack_id, delivery=delivery)
        return None

    def settle(self, found: PulledMessage, *, stored: bool) -> None:
        """Acknowledge the message if *stored*, otherwise return the message to the bus.

        Raises:
            Unavailable: The bus does not answer; the bus delivers the message again after the lease.
        """
        request: dict[str, Any] = {"subscription": self._path, "ack_ids": [found.ack_id]}
        try:
            if stored:
                self._client.acknowledge(request=request, timeout=PROBE_TIMEOUT_S)
            else:
                self._client.modify_ack_deadline(request=request | {"ack_deadline_seconds": 0}, timeout=PROBE_TIMEOUT_S)
        except (google_errors.GoogleAPIError, grpc.RpcError) as exc:
            raise translated(exc, f"cannot settle a message of {self._path}") from exc


MESSAGES_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """Message taken from a subscription and acknowledged."""

    message_id: str
    data: bytes
    attributes: Mapping[str, str]


def receive_waiting(project: str, subscription: str, local_address: str | None) -> Sequence[ReceivedMessage]:
    """Take and acknowledge all waiting messages; return the messages in the order of delivery.

    Raises:
        Unavailable: The bus does not answer.
        Fatal: There is no such subscription, or no right to read it.
    """
    client = subscriber_client(local_address)
    path = client.subscription_path(project, subscription)
    try:
        answer = client.pull(
            request={"subscription": path, "max_messages": MESSAGES_MAX, "return_immediately": True},
            timeout=CALL_TIMEOUT_S,
        )
        received = list(answer.received_messages)
        if received:
            ids = [message.ack_id for message in received]
            client.acknowledge(request={"subscription": path, "ack_ids": ids}, timeout=CALL_TIMEOUT_S)
    except (google_errors.GoogleAPIError, grpc.RpcError) as exc:
        raise translated(exc, f"cannot read {path}") from exc
    finally:
        client.close()
    return [
        ReceivedMessage(
            message_id=item.message.message_id, data=item.message.data, attributes=dict(item.message.attributes)
        )
        for item in received
    ]


def seek(project: str, subscription: str, local_address: str | None, to: datetime) -> None:
    """Make the bus deliver all retained messages published since *to* (aware) again.

    Raises:
        Unavailable: The bus does not answer.
        Fatal: There is no such subscription, or no right to seek in it.
    """
    client = subscriber_client(local_address)
    path = client.subscription_path(project, subscription)
    try:
        client.seek(request={"subscription": path, "time": to}, timeout=CALL_TIMEOUT_S)
    except (google_errors.GoogleAPIError, grpc.RpcError) as exc:
        raise translated(exc, f"cannot seek in {path}") from exc
    finally:
        client.close()
