"""End of a process after SIGINT or SIGTERM: an orderly end if possible, and in any case an end within eight seconds.

Model: the first signal begins the end; further signals have no effect. KeyboardInterrupt or SystemExit interrupts a
command in the main thread, so that the command closes all open resources. A worker stops the loops instead. From the
first signal on, output not taken by the reader is dropped.

If a dependency still delays the process after `LEAVE_WITHIN_S`, the process kills the servers started by this process
and ends at once. The stored state is then the state after a crash, and every part recovers from a crash.

Exit codes: 130 for SIGINT, 143 for SIGTERM, 4 for an end at once.
"""

import os
import signal
import threading
from collections.abc import Callable

from ops import streams

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds. Kubernetes and Cloud Run may kill the process after ten seconds.
LEAVE_WITHIN_S = 7.0
# Seconds for which the last log line waits for the reader.
LAST_LINE_S = 0.3

_begun = threading.Event()
_number: int = signal.SIGINT


def listen() -> None:
    """Interrupt the command at SIGINT and SIGTERM."""
    on_signal(_interrupt)


def on_signal(act: Callable[[], None]) -> None:
    """Begin the end and call *act* at the first SIGINT or SIGTERM."""

    def handle(number: int, _frame: object) -> None:
        global _number  # noqa: PLW0603 - a process ends only once
        if not _begun.is_set():
            _number = number
            begin()
            act()

    for number in SIGNALS:
        signal.signal(number, handle)


def begin() -> None:
    """Limit every wait for a reader and start the timer for the end at once. Repeatable."""
    if _begun.is_set():
        return
    _begun.set()
    streams.bound_waits()
    timer = threading.Timer(LEAVE_WITHIN_S, _break_off)
    timer.daemon = True
    timer.start()


def has_begun() -> bool:
    """Return whether this process is leaving."""
    return _begun.is_set()


def exit_code() -> int:
    """Return the exit code of an interrupted command: 130 after SIGINT, 143 after SIGTERM."""
    return 128 + _number


def _interrupt() -> None:
    if _number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(exit_code())


def _break_off() -> None:
    """End the process like a kill; Pub/Sub delivers unfinished messages again."""
    import structlog

    from ops.arguments import EXIT_UNAVAILABLE
    from worker.local.valkey import kill_servers
    from worker.observing import logs

    if structlog.is_configured():
        structlog.get_logger(__name__).error("stop_broken_off", after_s=LEAVE_WITHIN_S)
        logs.flush(LAST_LINE_S)
    kill_servers()
    os._exit(EXIT_UNAVAILABLE)
