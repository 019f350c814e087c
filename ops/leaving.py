"""How a process ends that is asked to: in order where that is possible, and within eight seconds in any case.

Model: SIGINT or SIGTERM begins the end, once; further signals change nothing. A command is interrupted in the main
thread by KeyboardInterrupt or SystemExit, so that everything open is closed; a worker replaces the interruption by its
own order to stop. From then on output that the reader does not take is dropped. Where something outside still holds the
process up, the process breaks off: it kills the servers that it started, and ends as by a kill, which every part
survives. Exit codes: 130 for SIGINT, 143 for SIGTERM, 4 for an end that was broken off.
"""

import os
import signal
import threading
from collections.abc import Callable

from ops import streams

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Kubernetes and Cloud Run may kill after ten seconds.
LEAVE_WITHIN_S = 7.0
# The line about the broken-off end waits so long for its reader.
LAST_LINE_S = 0.3

_begun = threading.Event()
_number: int = signal.SIGINT


def listen() -> None:
    """Interrupt the command upon SIGINT and SIGTERM."""
    on_signal(_interrupt)


def on_signal(act: Callable[[], None]) -> None:
    """Begin to leave and call *act*, upon the first SIGINT or SIGTERM."""

    def handle(number: int, _frame: object) -> None:
        global _number  # noqa: PLW0603 - a process ends once
        if not _begun.is_set():
            _number = number
            begin()
            act()

    for number in SIGNALS:
        signal.signal(number, handle)


def begin() -> None:
    """Begin the end: bound every wait for a reader, and break off what takes too long. Repeatable."""
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
    """Return the exit code of a command that was interrupted: 130 by SIGINT, 143 by SIGTERM."""
    return 128 + _number


def _interrupt() -> None:
    if _number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(exit_code())


def _break_off() -> None:
    """End the process as a kill would; what is in hand comes again."""
    import structlog

    from ops.arguments import EXIT_UNAVAILABLE
    from worker.local.valkey import kill_servers
    from worker.observing import logs

    if structlog.is_configured():
        structlog.get_logger(__name__).error("stop_broken_off", after_s=LEAVE_WITHIN_S)
        logs.flush(LAST_LINE_S)
    kill_servers()
    os._exit(EXIT_UNAVAILABLE)
