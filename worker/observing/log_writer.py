"""Log lines on their way out: a bounded queue, and the one thread that writes.

Model: `put` appends a line to a queue in memory. The thread takes the lines that wait and writes them to the file
descriptor without a buffer of Python's, so that the interpreter has nothing to flush when it ends. The thread encodes;
a caller that wants to render on this thread too puts the fields in place of the line.

Guarantees: `put` never waits, whatever the reader does. Lines are written in the order of `put`. A line that finds the
queue full is dropped and counted, and so is a line whose reader has gone; as soon as a write works again, one line says
how many are missing. A full disk, or a descriptor that must not block, is tried again until there is room.

A crash loses the lines of the last moment: those of `GATHER_S`, or those that a stalled reader did not take.
"""

import io
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TextIO

# A stalled reader costs at most this many lines of memory: about 5 MB. A busy worker logs so much in two seconds.
LINES_MAX = 10_000
# Lines of so long go out in one system call. A thread that woke for each line would take the interpreter lock from the
# threads that handle events.
GATHER_S = 0.01
BATCH_LINES_MAX = 1_000
# A full disk does not empty itself within milliseconds.
RETRY_S = 0.1


class LogWriter:
    """Writes lines to the descriptor of one stream, on a thread of its own, until `close`."""

    def __init__(self, stream: TextIO, missing_line: Callable[[int], str]) -> None:
        """Start the thread.

        Args:
            stream: Where to. The descriptor is duplicated: the caller may close the stream. A stream in memory, which
                has no descriptor, is written to as it is.
            missing_line: Renders the line that says how many lines were dropped.
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
        """Queue a line, without its line break; drop the line if the queue is full."""
        if self._queue.qsize() >= LINES_MAX:
            self._drop(1)
        else:
            self._queue.put(line)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the lines put before are written; return False if the reader does not take them in time."""
        return self._wait_for(threading.Event(), timeout_s)

    def close(self, timeout_s: float) -> None:
        """Write what was put before, as `flush` does, and end the thread; a stalled thread ends with the process."""
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
        """Return the lines that wait, up to the first marker."""
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
        # A text from outside may hold half a surrogate pair, which UTF-8 has no bytes for.
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
    """Return a descriptor of our own for the stream, and the function that writes a part of some bytes."""
    try:
        descriptor = os.dup(stream.fileno())
    except io.UnsupportedOperation:

        def write_text(data: bytes) -> int:
            stream.write(data.decode("utf-8"))
            return len(data)

        return None, write_text
    return descriptor, lambda data: os.write(descriptor, data)
