"""The `Publisher` port through Google's client: one message, one confirmed publish."""

import concurrent.futures
from contextlib import suppress
from typing import Any

from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry
from google.cloud.pubsub_v1.publisher import exceptions as publisher_errors
from google.cloud.pubsub_v1.types import BatchSettings, PublisherOptions

from worker.adapters.pubsub_connection import publisher_client, translated
from worker.errors import Fatal, PublishRefused, Unavailable
from worker.ports import OutgoingMessage

# The client's own default keeps a publish pending for up to ten minutes; the outbox retries better than that.
PUBLISH_RETRY_S = 20.0
CONFIRM_TIMEOUT_S = 25.0
ATTEMPT_TIMEOUT_S = 10.0
# A key stays paused when a publish fails only after we stopped waiting for it: the next one is then told so.
NOT_CONFIRMED = (
    google_errors.GoogleAPIError,
    concurrent.futures.TimeoutError,
    concurrent.futures.CancelledError,
    publisher_errors.PublishToPausedOrderingKeyException,
    publisher_errors.FlowControlLimitError,
    publisher_errors.MessageTooLargeError,
    RuntimeError,
)
# Arguments of the client's publish: a message's attribute of such a name would be taken for one.
TAKEN_NAMES = frozenset({"self", "topic", "data", "ordering_key", "retry", "timeout"})
RENAMED_PREFIX = "original_"


class PubSubPublisher:
    """Publishes with confirmation. Thread-safe."""

    def __init__(self, project: str, local_address: str | None, *, patience_s: float | None = None) -> None:
        """Connect.

        Args:
            project: Project of the topics.
            local_address: Where a local server listens; None for Google's.
            patience_s: A publish is tried again for so long; None for the relay's, which has nothing else to do.
        """
        self._project = project
        retry_s = PUBLISH_RETRY_S if patience_s is None else patience_s
        self._confirm_s = CONFIRM_TIMEOUT_S if patience_s is None else patience_s
        self._client: Any = publisher_client(
            local_address,
            # A batch of one: four messages a night gain nothing by waiting for company.
            batch_settings=BatchSettings(max_messages=1),
            publisher_options=PublisherOptions(
                enable_message_ordering=True, retry=Retry(timeout=retry_s), timeout=min(ATTEMPT_TIMEOUT_S, retry_s)
            ),
        )

    def publish(self, message: OutgoingMessage) -> str:
        """Publish and wait for the bus's message id."""
        topic = self._client.topic_path(self._project, message.topic)
        attributes = {
            f"{RENAMED_PREFIX}{name}" if name in TAKEN_NAMES else name: value
            for name, value in message.attributes.items()
        }
        try:
            future = self._client.publish(topic, message.data, ordering_key=message.ordering_key, **attributes)
            return str(future.result(timeout=self._confirm_s))
        except NOT_CONFIRMED as exc:
            if message.ordering_key:
                # After a failure the client refuses a key until told otherwise; while it still tries, there is none.
                with suppress(RuntimeError):
                    self._client.resume_publish(topic, message.ordering_key)
            raise _not_published(exc, message) from exc

    def close(self) -> None:
        """Send what is pending and close the connection."""
        self._client.stop()
        self._client.transport.close()


def _not_published(error: Exception, message: OutgoingMessage) -> Unavailable:
    cause = translated(error, f"{message.event_id} not published to {message.topic}")
    refused = isinstance(cause, Fatal) or isinstance(error, publisher_errors.MessageTooLargeError)
    return PublishRefused(str(cause)) if refused else Unavailable(str(cause))
