"""Streaming pull through Google's client.

The handler lets no exception out: a message that is neither acknowledged nor given back would be held until its lease
ends. Shutdown waits for the groups in hand, or their acknowledgements never reach the server.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from google.cloud.pubsub_v1.types import FlowControl

from schemas.completion import Delivery
from worker.adapters.pubsub_connection import subscriber_client, translated
from worker.adapters.pubsub_scheduler import GroupScheduler
from worker.errors import Fatal, Unavailable
from worker.intake import Verdict

log = structlog.get_logger(__name__)

# While one thread waits for the store another one decodes; a third would only take turns with them.
GROUP_THREADS = 2
MESSAGES_LEASED_MAX = 500
LEASE_EXTENSION_MIN_S = 60
STOP_TIMEOUT_S = 6.0


class PullSubscriber:
    """One streaming pull; `start`, then `stop`."""

    def __init__(
        self,
        *,
        project: str,
        subscription: str,
        local_address: str | None,
        handle_all: Callable[[Sequence[Delivery]], Iterable[tuple[int, Verdict]]],
        count_exception: Callable[[], None],
    ) -> None:
        self._client: Any = subscriber_client(local_address)
        self._path: str = self._client.subscription_path(project, subscription)
        self._handle_all = handle_all
        self._count_exception = count_exception
        self._future: Any = None
        self._stopping = threading.Event()
        self.ended = threading.Event()
        self.error: Unavailable | Fatal | None = None

    def start(self) -> None:
        """Open the stream; deliveries arrive on the client's threads from now on."""
        self._future = self._client.subscribe(
            self._path,
            callback=_not_called,
            flow_control=FlowControl(
                max_messages=MESSAGES_LEASED_MAX, min_duration_per_lease_extension=LEASE_EXTENSION_MIN_S
            ),
            scheduler=GroupScheduler(self._handle_group, GROUP_THREADS),
            await_callbacks_on_shutdown=True,
        )
        self._future.add_done_callback(self._stream_ended)

    @property
    def running(self) -> bool:
        """Whether the stream is open as far as the client knows."""
        return self._future is not None and not self._future.done()

    def stop(self) -> None:
        """Take no more messages, finish those in hand, send their acknowledgements, close. Repeatable."""
        self._stopping.set()
        if self._future is not None:
            self._future.cancel()
            try:
                self._future.result(timeout=STOP_TIMEOUT_S)
            except Exception as exc:  # noqa: BLE001 - any way in which a stream ended is an end
                log.info("stream_closed", subscription=self._path, error=str(exc))
        self._client.close()

    def _handle_group(self, messages: Sequence[Any]) -> None:
        """Settle every message of the group: acknowledge it, or give it back."""
        left = dict(enumerate(messages))
        try:
            for place, verdict in self._handle_all([_delivery(message) for message in messages]):
                message = left.pop(place)
                message.ack() if verdict is Verdict.ACK else message.nack()
        except BaseException:
            self._count_exception()
            log.exception("callback_failed", message_ids=[message.message_id for message in left.values()])
        for message in left.values():
            message.nack()

    def _stream_ended(self, future: Any) -> None:  # noqa: ANN401 - the client is untyped
        error = None if future.cancelled() else future.exception()
        if error is not None and not self._stopping.is_set():
            self.error = translated(error, f"the stream of {self._path} ended")
            log.error("stream_ended", subscription=self._path, error=str(self.error))
        self.ended.set()


def _delivery(message: Any) -> Delivery:  # noqa: ANN401 - the client is untyped
    return Delivery(
        data=message.data,
        attributes=dict(message.attributes),
        message_id=message.message_id,
        published_at=message.publish_time,
    )


def _not_called(_message: object) -> None:
    """Satisfy the client, which wants a callback; `GroupScheduler` takes the messages."""
