"""Sends OpenLineage events from a thread of its own, so that no build ever waits for them or fails by them.

The queue is bounded: while the receiver is away for long, events are dropped and counted. They are for catalogues and
lineage graphs; what the product itself relies on is in the ledger and the history.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from worker.errors import Fatal, Unavailable
from worker.lineage.openlineage import Event, EventWriter
from worker.observing.observer import Decided, Notice

log = structlog.get_logger(__name__)

# A night of one date is a dozen events; this is a long outage of the receiver during a backfill.
QUEUE_MAX = 1000
TRIES_MAX = 3
RETRY_PAUSES_S = (0.5, 2.0)


class Sink(Protocol):
    """Where the events go."""

    def send(self, line: bytes) -> None:
        """Hand over one event as JSON.

        Raises:
            Unavailable: Not confirmed in time; worth another try.
            Fatal: Refused; another try would end the same way.
        """


class LineageEmitter:
    """Tells a sink of every build that starts and ends."""

    def __init__(self, sink: Sink, writer: EventWriter, count: Callable[[str], None]) -> None:
        """Start the thread.

        Args:
            sink: Where the events go.
            writer: Writes them.
            count: Told `sent`, `failed` or `dropped` for each event; must be quick and must not fail.
        """
        self._sink = sink
        self.writer = writer
        self._count = count
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUE_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="openlineage", daemon=True)
        self._thread.start()

    def note(self, notice: Notice) -> None:
        """Queue the lineage events of a decision."""
        if not isinstance(notice, Decided):
            return
        try:
            self.emit(self.writer.events_of(notice))
        except Exception:
            # A fault in a lineage event must never become a fault of the build.
            log.exception("lineage_not_written", analysis_date=notice.before.analysis_date.isoformat())
            self._count("failed")

    def emit(self, events: Iterable[Event]) -> None:
        """Queue events; those that find the queue full are dropped and counted."""
        for event in events:
            try:
                self._queue.put_nowait(json.dumps(event, ensure_ascii=False).encode())
            except queue.Full:
                self._count("dropped")

    def close(self, timeout_s: float) -> bool:
        """Send what is queued, for *timeout_s* at most; False where something was left over."""
        self._stopping.set()
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _send_all(self) -> None:
        while (line := self._queue.get()) is not None:
            self._count("sent" if self._send(line) else "failed")

    def _send(self, line: bytes) -> bool:
        for pause_s in (*RETRY_PAUSES_S, None):
            try:
                self._sink.send(line)
            except Unavailable as exc:
                if pause_s is None:
                    log.warning("lineage_not_sent", tries=TRIES_MAX, error=str(exc))
                    return False
                # A worker that stops does not wait: it makes its last tries at once.
                self._stopping.wait(pause_s)
            except Fatal as exc:
                log.warning("lineage_refused", error=str(exc))
                return False
            except Exception:
                log.exception("lineage_not_sent")
                return False
            else:
                return True
        return False
