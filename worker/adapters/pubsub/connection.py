"""Clients for Pub/Sub: Google's client library, for Google or for a local server.

Only this package imports the untyped client library. A crash closes the connections; Pub/Sub then delivers every
unacknowledged message again.
"""

from typing import Any

import grpc
from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import pubsub_v1
from google.pubsub_v1 import PublisherClient as PlainPublisherClient
from google.pubsub_v1.services.publisher.transports.grpc import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports.grpc import SubscriberGrpcTransport

from worker.adapters.direct import NO_PROXY
from worker.errors import Fatal, Unavailable

# Time limit of a call, and of all tries of a call together.
CALL_TIMEOUT_S = 10.0
# Google's default retry sends for ten minutes; a command or a start needs the answer sooner.
CALL_RETRY = Retry(timeout=CALL_TIMEOUT_S)
_LOCAL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    # A restarted local server is back within a second; gRPC's own pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    NO_PROXY,
)


def _signed_in(client: Any, **options: Any) -> Any:  # noqa: ANN401 - the client is untyped
    """Return a client of Google's library with the credentials of the machine."""
    try:
        return client(**options)
    except GoogleAuthError as exc:
        raise Unavailable(f"Google accepts no credentials of this process: {exc}") from exc


class CountingSubscriber(pubsub_v1.SubscriberClient):
    """Subscriber client with a count of stream openings: Google's client reconnects silently.

    Attributes:
        openings: Streams opened so far.
    """

    openings = 0

    def streaming_pull(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the client is untyped
        """Open a stream; the client calls this method at the start and after each temporary fault."""
        self.openings += 1
        return super().streaming_pull(*arguments, **options)


def subscriber_client(local_address: str | None, kind: Any = pubsub_v1.SubscriberClient) -> Any:  # noqa: ANN401 - the client is untyped
    """Return a subscriber client of class *kind*, for Google or for the server at `host:port`."""
    if local_address is None:
        return _signed_in(kind)
    # Separate connections: gRPC shares connections among similar channels, and the client that replaces a broken stream
    # must not get the connection of the broken stream again.
    options = (*_LOCAL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    channel = grpc.insecure_channel(local_address, options=options)
    transport = SubscriberGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    return kind(transport=transport)


def publisher_client(local_address: str | None, **options: Any) -> Any:  # noqa: ANN401 - the client is untyped
    """Return a publisher client for Google, or for the server at `host:port`."""
    if local_address is None:
        return _signed_in(pubsub_v1.PublisherClient, **options)
    channel = grpc.insecure_channel(local_address, options=_LOCAL_OPTIONS)
    transport = PublisherGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    return pubsub_v1.PublisherClient(transport=transport, **options)


def plain_publisher_client(local_address: str | None) -> Any:  # noqa: ANN401 - the client is untyped
    """Return a publisher client without batching, order or threads: each call has an answer."""
    if local_address is None:
        return _signed_in(PlainPublisherClient)
    channel = grpc.insecure_channel(local_address, options=_LOCAL_OPTIONS)
    transport = PublisherGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    return PlainPublisherClient(transport=transport)


def translated(error: Exception, doing: str) -> Unavailable | Fatal:
    """Return an error of the client as an error of `worker.errors`."""
    lasting = (
        google_errors.NotFound,
        google_errors.PermissionDenied,
        google_errors.Unauthenticated,
        google_errors.InvalidArgument,
        google_errors.FailedPrecondition,
    )
    family = Fatal if isinstance(error, lasting) else Unavailable
    return family(f"{doing}: {type(error).__name__}: {error}")


def ensure_topology(
    local_address: str | None,
    project: str,
    *,
    topics: tuple[str, ...],
    subscriptions: dict[str, str],
    ack_deadline_s: int = 60,
    at_once: frozenset[str] = frozenset(),
) -> None:
    """Create missing topics and subscriptions of a local server; cloud resources are deployed instead.

    Args:
        local_address: `host:port` of the server.
        project: Project id.
        topics: Short topic names.
        subscriptions: Short subscription name -> short topic name.
        ack_deadline_s: Seconds until an unacknowledged message is delivered again.
        at_once: Subscriptions that deliver returned messages again without a pause, for commands that inspect messages.

    Raises:
        Unavailable: The server does not answer.
    """
    pause = {"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 60}}
    publisher = publisher_client(local_address)
    subscriber = subscriber_client(local_address)
    try:
        for topic in topics:
            _create(publisher.create_topic, {"name": publisher.topic_path(project, topic)})
        for subscription, topic in subscriptions.items():
            _create(
                subscriber.create_subscription,
                {
                    "name": subscriber.subscription_path(project, subscription),
                    "topic": publisher.topic_path(project, topic),
                    "ack_deadline_seconds": ack_deadline_s,
                    # `mlfs recover` seeks the subscription to a time before the loss of the store.
                    "retain_acked_messages": True,
                    **({} if subscription in at_once else {"retry_policy": pause}),
                },
            )
    finally:
        publisher.stop()
        publisher.transport.close()
        subscriber.close()


def _create(call: Any, request: dict[str, Any]) -> None:  # noqa: ANN401 - the client is untyped
    try:
        call(request=request, timeout=CALL_TIMEOUT_S, retry=CALL_RETRY)
    except google_errors.AlreadyExists:
        return
    except (google_errors.GoogleAPIError, grpc.RpcError) as exc:
        raise translated(exc, f"cannot create {request['name']}") from exc
