"""Sending of OpenLineage events from a separate thread: no build waits for the receiver or fails by the receiver.

The queue is bounded: during a long outage of the receiver, events are dropped and counted. The events serve catalogues
and lineage graphs; the product relies on the ledger and the history. A crash loses the queued events.
"""

import queue
import threading
from collections.abc import Callable, Iterable

import structlog
from openlineage.client.event_v2 import RunEvent
from openlineage.client.transport import Transport
from requests import HTTPError

from worker.lineage.openlineage import EventWriter
from worker.observing.observer import Decided, Notice

log = structlog.get_logger(__name__)

# One analysis date has a dozen events. A full queue means a long outage of the receiver during a backfill.
QUEUE_MAX = 1000
# Seconds for the end of the thread after the transport was closed.
END_S = 0.2


class LineageEmitter:
    """Observer of builds: sends an event for the start and the end of every build."""

    def __init__(self, transport: Transport, writer: EventWriter, count: Callable[[str], None]) -> None:
        """Start the thread.

        Args:
            transport: Way to the receiver.
            writer: Writer of the events.
            count: Called with `sent`, `failed` or `dropped` for each event; must be quick and must not fail.
        """
        self._transport = transport
        self.writer = writer
        self._count = count
        self._queue: queue.Queue[RunEvent | None] = queue.Queue(QUEUE_MAX)
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

    def emit(self, events: Iterable[RunEvent]) -> None:
        """Queue events; drop and count events while the queue is full."""
        for event in events:
            try:
                self._queue.put_nowait(event)
            except queue.Full:
                self._count("dropped")

    def close(self, timeout_s: float) -> bool:
        """Send the queued events for at most *timeout_s* seconds; return False if events are left."""
        try:
            self._queue.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)
        except queue.Full:
            pass
        ended = not self._thread.is_alive()
        self._transport.close()
        # The closed transport ends the pause of a try.
        self._thread.join(END_S)
        return ended

    def _send_all(self) -> None:
        while (event := self._queue.get()) is not None:
            self._count("sent" if self._send(event) else "failed")

    def _send(self, event: RunEvent) -> bool:
        try:
            self._transport.emit(event)
        except HTTPError as exc:
            log.warning("lineage_refused", error=str(exc))
            return False
        except Exception as exc:  # noqa: BLE001 - the thread must live on for the next event
            log.warning("lineage_not_sent", kind=type(exc).__name__, error=str(exc))
            return False
        return True
