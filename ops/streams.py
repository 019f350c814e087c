"""Standard input, output and error of a command, also with a gone or stalled reader, a full disk, or a closed stream.

A command waits for the reader of the output (`mlfs status | less`). A worker and an ending process do not wait:
`bound_waits` drops the output of these processes after half a second without a reader.
"""

import io
import os
import select
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

# Milliseconds between two checks of a waiting write.
_CHECK_MS = 100
# With bounded waits, a write drops the data after so many checks without a reader.
_CHECKS_MAX = 5

_waits_are_bounded = threading.Event()


def bound_waits() -> None:
    """Limit every later write to half a second: then drop the data not taken by the reader."""
    _waits_are_bounded.set()


class _Outlet(io.FileIO):
    """Output with a reader that may go away or stall; drops unwritable data and stores the last fault."""

    fault: OSError | None = None
    _is_stalled = False

    def write(self, data: Any) -> int:  # noqa: ANN401 - the type of FileIO
        """Write the data; after a fault or a stall drop the rest."""
        left = memoryview(data).cast("B")
        length = len(left)
        try:
            # A writable pipe accepts this many bytes without blocking.
            while left and self._may_write():
                left = left[super().write(left[: select.PIPE_BUF]) :]
        except BrokenPipeError:
            # The reader has ended (`| head`) and needs no more output: no fault.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
        except OSError as exc:
            # Try the next line again: a full disk may have room by then.
            self.fault = exc
        return length

    def _may_write(self) -> bool:
        """Wait for the reader; return False after a bounded wait."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        checks = 0
        while not poll.poll(0 if self._is_stalled else _CHECK_MS):
            checks += 1
            if _waits_are_bounded.is_set() and (self._is_stalled or checks >= _CHECKS_MAX):
                self._is_stalled = True
                return False
        self._is_stalled = False
        return True


class StandardStreams:
    """Replacement of Python's standard streams during a command.

    If the reader ends early, the command still runs to the end with the usual exit code. Output closed before the start
    or not writable is a fault, and the exit code shows the fault.
    """

    def __init__(self) -> None:
        """Replace the three streams; a closed stream gets the null device, so that no file gets the descriptor."""
        self.output_was_closed = sys.stdout is None
        for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
            if stream is None:
                _lead_nowhere(number)
        if sys.stdin is None:
            sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - for the life of the process
        self._outlet, sys.stdout = _outlasting(sys.stdout)
        _, sys.stderr = _outlasting(sys.stderr, line_buffering=True)

    def lost_output(self) -> OSError | None:
        """Flush the output; return the fault of an incomplete output, None after a complete output."""
        sys.stdout.flush()
        return self._outlet.fault if self._outlet is not None else None


def _lead_nowhere(number: int) -> None:
    with suppress(OSError):
        os.fstat(number)
        return  # the descriptor is in use
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
        return None, stream  # a stream in the memory of a calling program; such a reader does not go away
    outlet = _Outlet(descriptor, "w", closefd=False)
    return outlet, io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=line_buffering or stream.isatty(),
    )
