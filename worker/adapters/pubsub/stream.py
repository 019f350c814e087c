"""Streaming pull with a separate connection, and the scheduler that passes messages to the handler in groups.

A `Stream` is not reusable: create a new `Stream` to reconnect. Closing waits for the groups in hand; otherwise the
acknowledgements would not reach the server.

Google's client hands each message to a scheduler. Google's scheduler runs a callback for each message; `GroupScheduler`
lets a free thread take all waiting messages, so that a single round trip to the store serves many messages. A message
that arrives alone is handled at once. A crash leaves unacknowledged messages to the bus, which delivers the messages
again.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from google.cloud.pubsub_v1.subscriber.scheduler import Scheduler
from google.cloud.pubsub_v1.types import FlowControl

from worker.adapters.pubsub.connection import CountingSubscriber, subscriber_client, translated
from worker.errors import Fatal, Unavailable

GROUP_MESSAGES_MAX = 256


class GroupScheduler(Scheduler):
    """Scheduler that passes groups of messages to *handle*. *handle* must not raise and must settle every message."""

    def __init__(self, handle: Callable[[Sequence[Any]], None], threads: int) -> None:
        self._handle = handle
        self._ended = threading.Event()
        self._requests: queue.Queue[Any] = queue.Queue()
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"intake-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queue(self) -> "queue.Queue[Any]":
        """Queue of acknowledgements for the client."""
        return self._requests

    def schedule(self, callback: Callable[..., None], *args: Any, **_kwargs: Any) -> None:  # noqa: ANN401, ARG002 - the client's shape
        """Queue the message, the first of *args*, for a free thread; the callback of the client is not used."""
        if self._ended.is_set():
            args[0].nack()
            return
        self._waiting.put(args[0])

    def shutdown(self, await_msg_callbacks: bool = False) -> list[Any]:  # noqa: FBT001, FBT002 - the client's shape
        """Take no more messages; return the messages that no thread has taken. Wait for the threads if asked."""
        self._ended.set()
        dropped = self._take_waiting()
        for _thread in self._threads:
            self._waiting.put(None)
        if await_msg_callbacks:
            for thread in self._threads:
                thread.join()
        return dropped

    def _take_waiting(self, limit: int | None = None) -> list[Any]:
        taken: list[Any] = []
        try:
            while limit is None or len(taken) < limit:
                message = self._waiting.get_nowait()
                if message is None:
                    # This None is the stop signal for another thread: put the None back.
                    self._waiting.put(None)
                    break
                taken.append(message)
        except queue.Empty:
            pass
        return taken

    def _run(self) -> None:
        while (message := self._waiting.get()) is not None:
            self._handle([message, *self._take_waiting(GROUP_MESSAGES_MAX - 1)])


log = structlog.get_logger(__name__)

# While a thread waits for the store, another thread decodes; a third thread would only wait for the second thread.
GROUP_THREADS = 2
CONNECTION_CLOSE_S = 0.5


class Stream:
    """Client, channel and streaming pull.

    Attributes:
        closing: Set when the stream is to end; a handler that holds messages stops waiting.
        ended: Set when the stream has ended, for any reason.
        error: Cause of an end without `close`; None while the stream runs or after `close`.
    """

    def __init__(
        self,
        *,
        project: str,
        subscription: str,
        local_address: str | None,
        handle_group: Callable[["Stream", Sequence[Any]], None],
        messages_max: int,
        lease_s: int,
    ) -> None:
        """Open the stream; deliveries then arrive on separate threads.

        Raises:
            Unavailable: Google accepts no credentials of this process.
        """
        self.closing = threading.Event()
        self.ended = threading.Event()
        self.error: Unavailable | Fatal | None = None
        self._client: CountingSubscriber = subscriber_client(local_address, CountingSubscriber)
        self._path: str = self._client.subscription_path(project, subscription)
        self._future: Any = self._client.subscribe(
            self._path,
            callback=_not_called,
            flow_control=FlowControl(
                max_messages=messages_max,
                # The upper bound is also the lease of messages that the server sends into a stream that ends before
                # their arrival.
                min_duration_per_lease_extension=lease_s,
                max_duration_per_lease_extension=lease_s,
            ),
            scheduler=GroupScheduler(lambda messages: handle_group(self, messages), GROUP_THREADS),
            await_callbacks_on_shutdown=True,
        )
        self._future.add_done_callback(self._has_ended)

    @property
    def running(self) -> bool:
        """Whether the stream is open according to the client."""
        return not (self.closing.is_set() or self.ended.is_set())

    @property
    def openings(self) -> int:
        """Number of openings so far; the client opens the stream again after each temporary fault."""
        return self._client.openings

    def begin_close(self) -> None:
        """Take no more messages; return at once."""
        self.closing.set()
        self._future.cancel()

    def close(self, timeout_s: float) -> None:
        """Finish the groups in hand, send the acknowledgements, return other messages, disconnect. Repeatable.

        A stream that does not end within *timeout_s* is abandoned.
        """
        self.begin_close()
        try:
            self._future.result(timeout=timeout_s)
        except TimeoutError:
            log.warning("stream_left_behind", subscription=self._path)
        except Exception as exc:  # noqa: BLE001 - any way in which a stream ended is an end
            log.info("stream_closed", subscription=self._path, error=f"{type(exc).__name__}: {exc}")
        # While the bus does not answer, the client sleeps up to ten seconds between two openings, and gRPC releases the
        # connection only afterwards. The connection carries no messages any more, so closing does not wait for the
        # release.
        closing = threading.Thread(target=self._client.close, name="stream-close", daemon=True)
        closing.start()
        closing.join(CONNECTION_CLOSE_S)

    def _has_ended(self, future: Any) -> None:  # noqa: ANN401 - the client is untyped
        error = None if future.cancelled() else future.exception()
        if error is not None and not self.closing.is_set():
            self.error = translated(error, f"the stream of {self._path} ended")
            log.error("stream_ended", subscription=self._path, error=str(self.error))
        self.ended.set()


def _not_called(_message: object) -> None:
    """Serve as the callback that the client requires; `GroupScheduler` takes the messages instead."""
