"""Output of log lines: a bounded queue, and a single thread for writing.

Model: `put` appends a line to a queue in memory. The thread takes all queued lines, encodes the lines, and writes to
the file descriptor without a buffer of Python, so the interpreter has no buffer to flush at the end.

Guarantees: `put` never waits for the reader of the log. Lines are written in the order of `put`. If the queue is full
or the reader is gone, lines are dropped and counted; the next successful write adds a line with the number of missing
lines. If the disk is full or a non-blocking descriptor is busy, the thread tries again until the write succeeds.

A crash loses the last lines: the lines of the last `GATHER_S`, or all lines queued for a stalled reader.
"""

import io
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TextIO

# A stalled reader costs at most this many lines of memory: about 5 MB. A busy worker logs so much in two seconds.
LINES_MAX = 10_000
# Lines of this period share a system call. A wake-up for each line would take the interpreter lock from the threads of
# the intake.
GATHER_S = 0.01
BATCH_LINES_MAX = 1_000
# A full disk does not empty itself within milliseconds.
RETRY_S = 0.1


class LogWriter:
    """Writer of lines to the descriptor of a stream, on a separate thread, until `close`."""

    def __init__(self, stream: TextIO, missing_line: Callable[[int], str]) -> None:
        """Start the thread.

        Args:
            stream: Output. The descriptor is duplicated: the caller may close the stream. A stream in memory has no
                descriptor and is written directly.
            missing_line: Function that renders the line with the number of dropped lines.
        """
        self._descriptor, self._write_some = _outlet(stream)
        self._missing_line = missing_line
        self._queue: SimpleQueue[str | threading.Event] = SimpleQueue()
        # Re-entrant: a signal handler of the main thread may log while the main thread counts.
        self._lock = threading.RLock()
        self._dropped = 0
        self._reported = 0
        self._at_once = threading.Event()
        self._pause = threading.Event()
        self._end = threading.Event()
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    @property
    def dropped(self) -> int:
        """The number of lines dropped so far."""
        return self._dropped

    def put(self, line: str) -> None:
        """Queue a line without line break; drop the line if the queue is full."""
        if self._queue.qsize() >= LINES_MAX:
            self._drop(1)
        else:
            self._queue.put(line)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the lines put before are written; return False if the reader does not take them in time."""
        return self._wait_for(threading.Event(), timeout_s)

    def close(self, timeout_s: float) -> None:
        """Write the lines put before, as `flush` does, and end the thread; a stalled thread ends with the process."""
        self._wait_for(self._end, timeout_s)

    def _wait_for(self, marker: threading.Event, timeout_s: float) -> bool:
        self._at_once.set()
        self._queue.put(marker)
        reached = marker.wait(timeout_s)
        self._at_once.clear()
        return reached

    def _run(self) -> None:
        while not self._end.is_set():
            lines, marker = self._take()
            if lines and not self._write(lines):
                self._drop(len(lines))
            else:
                self._report_missing()
            if marker is not None:
                marker.set()
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _take(self) -> tuple[list[str], threading.Event | None]:
        """Return the queued lines up to the first marker."""
        item = self._queue.get()
        self._at_once.wait(GATHER_S)
        lines: list[str] = []
        while isinstance(item, str):
            lines.append(item)
            if len(lines) == BATCH_LINES_MAX or self._queue.empty():
                return lines, None
            item = self._queue.get()
        return lines, item

    def _write(self, lines: list[str]) -> bool:
        """Write all lines, trying again while the disk is full; return False if the reader has gone."""
        # A text from outside may hold half a surrogate pair; UTF-8 has no bytes for half a pair.
        left = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        while left:
            try:
                left = left[self._write_some(left) :]
            except (BrokenPipeError, ValueError):  # ValueError: a stream in memory that was closed
                return False
            except OSError:
                self._pause.wait(RETRY_S)
        return True

    def _report_missing(self) -> None:
        missing = self._dropped - self._reported
        if missing and self._write([self._missing_line(missing)]):
            self._reported += missing

    def _drop(self, lines: int) -> None:
        with self._lock:
            self._dropped += lines


def _outlet(stream: TextIO) -> tuple[int | None, Callable[[bytes], int]]:
    """Return a duplicate of the stream's descriptor, and a function for writing a part of some bytes."""
    try:
        descriptor = os.dup(stream.fileno())
    except io.UnsupportedOperation:

        def write_text(data: bytes) -> int:
            stream.write(data.decode("utf-8"))
            return len(data)

        return None, write_text
    return descriptor, lambda data: os.write(descriptor, data)
