"""`Publisher` port with Google's client: each message is a call with a confirmation.

The client without batches is used on purpose. The batching client keeps a failed batch for a topic and raises
AssertionError on every later publish, so a topic that was missing for a moment would stay unusable in the process. A
crash before the confirmation leaves the message in the outbox; the relay then publishes the message again.
"""

from typing import Any

import grpc
from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry

from worker.adapters.pubsub.connection import plain_publisher_client, translated
from worker.errors import Fatal, PublishRefused, Unavailable
from worker.ports import OutgoingMessage

# Google's default keeps a publish pending for up to ten minutes; the outbox retries sooner.
PUBLISH_RETRY_S = 20.0
ATTEMPT_TIMEOUT_S = 10.0
_FAULTS = (google_errors.GoogleAPIError, grpc.RpcError)


class PubSubPublisher:
    """Publisher with confirmation. Thread-safe."""

    def __init__(self, project: str, local_address: str | None, *, patience_s: float | None = None) -> None:
        """Connect to Pub/Sub.

        Args:
            project: Project of the topics.
            local_address: `host:port` of a local server; None for Google.
            patience_s: Seconds for which a publish is tried again; None for the value of the relay.
        """
        self._project = project
        patience_s = PUBLISH_RETRY_S if patience_s is None else patience_s
        self._retry = Retry(timeout=patience_s)
        self._attempt_timeout_s = min(ATTEMPT_TIMEOUT_S, patience_s)
        self._client: Any = plain_publisher_client(local_address)

    def publish(self, message: OutgoingMessage) -> str:
        """Publish a message and return the message id given by the bus."""
        content = {
            "data": message.data,
            "attributes": dict(message.attributes),
            "ordering_key": message.ordering_key,
        }
        request = {"topic": self._client.topic_path(self._project, message.topic), "messages": [content]}
        try:
            answer = self._client.publish(request=request, retry=self._retry, timeout=self._attempt_timeout_s)
        except _FAULTS as exc:
            cause = translated(exc, f"{message.event_id} not published to {message.topic}")
            raise (PublishRefused if isinstance(cause, Fatal) else Unavailable)(str(cause)) from exc
        return str(answer.message_ids[0])

    def close(self) -> None:
        """Close the connection."""
        self._client.transport.close()
