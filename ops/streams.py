"""Standard output and error as a command finds them: read by nobody any more, stalled, on a full disk, or closed.

A command waits for the reader of its output (`mlfs status | less`). A process that leaves does not, nor does a worker,
whose output is its log: `bound_waits`.
"""

import io
import os
import select
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

# A write that waits looks so often whether the process is leaving.
_LOOK_MS = 100
# Once waits are bounded, a write gives up after so many looks without a reader.
_LOOKS_MAX = 5

_waits_are_bounded = threading.Event()


def bound_waits() -> None:
    """Drop from now on what the reader of standard output or error does not take within half a second."""
    _waits_are_bounded.set()


class _Outlet(io.FileIO):
    """The end of an output that may go away or stall. What cannot be written is dropped, the last fault remembered."""

    fault: OSError | None = None
    _is_stalled = False

    def write(self, data: Any) -> int:  # noqa: ANN401 - whatever FileIO takes
        """Write everything, or drop the rest."""
        left = memoryview(data).cast("B")
        length = len(left)
        try:
            # A pipe that may be written to takes this many bytes without blocking.
            while left and self._may_write():
                left = left[super().write(left[: select.PIPE_BUF]) :]
        except BrokenPipeError:
            # A reader that left (`| head`) had enough: no fault.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
        except OSError as exc:
            # A full disk may have room again for the next line.
            self.fault = exc
        return length

    def _may_write(self) -> bool:
        """Wait for the reader; return False where the wait is bounded and over."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        looks = 0
        while not poll.poll(0 if self._is_stalled else _LOOK_MS):
            looks += 1
            if _waits_are_bounded.is_set() and (self._is_stalled or looks >= _LOOKS_MAX):
                self._is_stalled = True
                return False
        self._is_stalled = False
        return True


class StandardStreams:
    """The process's own input, output and error, put in place of Python's for the life of a command.

    A command goes on to its end, and to its own exit code, when nobody reads its output any more: what it was told
    to do is done. Output that was closed before it began, or could not be written, is a fault that the exit code tells.
    """

    def __init__(self) -> None:
        """Take the three over; a closed one leads to nowhere, so that no file opened later gets its number."""
        self.output_was_closed = sys.stdout is None
        for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
            if stream is None:
                _lead_nowhere(number)
        if sys.stdin is None:
            sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - for the life of the process
        self._outlet, sys.stdout = _outlasting(sys.stdout)
        _, sys.stderr = _outlasting(sys.stderr, line_buffering=True)

    def lost_output(self) -> OSError | None:
        """Write what is still in hand; say what kept the output from being written whole, None where it is."""
        sys.stdout.flush()
        return self._outlet.fault if self._outlet is not None else None


def _lead_nowhere(number: int) -> None:
    with suppress(OSError):
        os.fstat(number)
        return  # meanwhile in other hands
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)


def _outlasting(stream: TextIO | None, *, line_buffering: bool = False) -> tuple[_Outlet | None, TextIO]:
    if stream is None:
        return None, Path(os.devnull).open("w", encoding="utf-8")
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        return None, stream  # kept in memory by a program that calls this one; nobody there goes away
    outlet = _Outlet(descriptor, "w", closefd=False)
    return outlet, io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=line_buffering or stream.isatty(),
    )
