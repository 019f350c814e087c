"""How delivered messages reach their handler: in groups, on a few threads.

Google's client hands each message to a scheduler. Its own runs one callback a message; this one lets a free thread take
everything that waits, so that one trip to the store serves many. Nobody waits for a group to fill: a message that
arrives alone is handled alone, at once.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from google.cloud.pubsub_v1.subscriber.scheduler import Scheduler

GROUP_MESSAGES_MAX = 256


class GroupScheduler(Scheduler):
    """Hands messages in groups to *handle*, which must not raise and must settle every one of them."""

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
        """Where messages leave their acknowledgements for the client."""
        return self._requests

    def schedule(self, callback: Callable[..., None], *args: Any, **_kwargs: Any) -> None:  # noqa: ANN401, ARG002 - the client's shape
        """Let the message, the first of *args*, wait for a free thread; the client's callback is not needed."""
        if self._ended.is_set():
            args[0].nack()
            return
        self._waiting.put(args[0])

    def shutdown(self, await_msg_callbacks: bool = False) -> list[Any]:  # noqa: FBT001, FBT002 - the client's shape
        """Take no more; give back the messages that no thread has taken, and wait for the threads if asked to."""
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
                    # Another thread's word to end: hand it on.
                    self._waiting.put(None)
                    break
                taken.append(message)
        except queue.Empty:
            pass
        return taken

    def _run(self) -> None:
        while (message := self._waiting.get()) is not None:
            self._handle([message, *self._take_waiting(GROUP_MESSAGES_MAX - 1)])
