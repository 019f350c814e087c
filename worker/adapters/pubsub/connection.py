"""How the worker reaches Pub/Sub: Google's real client, pointed at Google or at a local server.

All of the untyped client library is imported here and in the two adapters beside it.
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

# One call may take this long, and be tried again for this long in all.
CALL_TIMEOUT_S = 10.0
# Google's default retry re-sends for ten minutes; a command or a start wants to know sooner.
CALL_RETRY = Retry(timeout=CALL_TIMEOUT_S)
_LOCAL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    # A local server that restarts is back in a moment; gRPC's own pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    NO_PROXY,
)


def _signed_in(client: Any, **options: Any) -> Any:  # noqa: ANN401 - the client is untyped
    """Make one of Google's clients with the machine's own credentials."""
    try:
        return client(**options)
    except GoogleAuthError as exc:
        raise Unavailable(f"Google does not let this process in: {exc}") from exc


class CountingSubscriber(pubsub_v1.SubscriberClient):
    """Google's subscriber client, which also tells how often it opened its stream: it opens it again without a word.

    Attributes:
        openings: Streams opened so far.
    """

    openings = 0

    def streaming_pull(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the client is untyped
        """Open a stream; the client calls this at first and after each passing fault."""
        self.openings += 1
        return super().streaming_pull(*arguments, **options)


def subscriber_client(local_address: str | None, kind: Any = pubsub_v1.SubscriberClient) -> Any:  # noqa: ANN401 - the client is untyped
    """Make a subscriber client, of a *kind* that derives from Google's, for Google or for the server at `host:port`."""
    if local_address is None:
        return _signed_in(kind)
    # A channel of its own: gRPC shares connections among channels that look alike, and who leaves a broken stream
    # behind must not get its connection again.
    options = (*_LOCAL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    channel = grpc.insecure_channel(local_address, options=options)
    transport = SubscriberGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    return kind(transport=transport)


def publisher_client(local_address: str | None, **options: Any) -> Any:  # noqa: ANN401 - the client is untyped
    """Make a publisher client for Google, or for the server at `host:port`."""
    if local_address is None:
        return _signed_in(pubsub_v1.PublisherClient, **options)
    channel = grpc.insecure_channel(local_address, options=_LOCAL_OPTIONS)
    transport = PublisherGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    return pubsub_v1.PublisherClient(transport=transport, **options)


def plain_publisher_client(local_address: str | None) -> Any:  # noqa: ANN401 - the client is untyped
    """Make a publisher client without batching, order or threads: one call, one answer, attributes of any name."""
    if local_address is None:
        return _signed_in(PlainPublisherClient)
    channel = grpc.insecure_channel(local_address, options=_LOCAL_OPTIONS)
    transport = PublisherGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    return PlainPublisherClient(transport=transport)


def translated(error: Exception, what: str) -> Unavailable | Fatal:
    """Sort one of the client's errors into ours."""
    lasting = (
        google_errors.NotFound,
        google_errors.PermissionDenied,
        google_errors.Unauthenticated,
        google_errors.InvalidArgument,
        google_errors.FailedPrecondition,
    )
    family = Fatal if isinstance(error, lasting) else Unavailable
    return family(f"{what}: {type(error).__name__}: {error}")


def ensure_topology(
    local_address: str | None,
    project: str,
    *,
    topics: tuple[str, ...],
    subscriptions: dict[str, str],
    ack_deadline_s: int = 60,
    at_once: frozenset[str] = frozenset(),
) -> None:
    """Create topics and subscriptions that do not exist yet. For local servers; in the cloud they are deployed.

    Args:
        local_address: Where the server listens.
        project: Project id.
        topics: Short topic names.
        subscriptions: Short subscription name -> short topic name.
        ack_deadline_s: Seconds until an unacknowledged message is delivered again.
        at_once: Subscriptions that deliver again without a pause what was given back: people look into them.

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
                    # Recovery turns the subscription back to what was acknowledged before the store was lost.
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
