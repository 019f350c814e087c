"""Structured logs: a JSON object in each line, with the field names of Cloud Logging.

`message` is a constant name of the event; facts are fields; `severity` and `time` have the form of Cloud Logging. A
line written within a span names the span, so Cloud Trace shows the line beside the span. Credentials and token-shaped
strings are removed before a line is written.

Model: a caller renders a line and puts the line into a queue in memory. A single thread takes all queued lines, encodes
the lines, and writes to the file descriptor without a buffer of Python, so the interpreter has no buffer to flush at
the end.

Guarantees: no caller waits for the reader of the log. Lines keep their order. If the queue is full or the reader is
gone, lines are dropped and counted; the next successful write adds a line with the number of missing lines. If the disk
is full or a non-blocking descriptor is busy, the thread tries again until the write succeeds.

A crash loses the last lines: the lines of the last `GATHER_S`, or all lines queued for a stalled reader.
"""

import atexit
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from queue import SimpleQueue
from typing import Any, TextIO

import structlog
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from worker.errors import MAY_HOLD_CREDENTIAL, masked_cut

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


_SECRET_KEY = re.compile(
    r"authorization|passw(or)?d|pwd|secret|cookie|credential|signature|api[_.-]?key|private[_.-]?key|(^|[_.-])(token|sig|auth)$",
    re.IGNORECASE,
)
# Cloud Logging indexes these labels for every form of payload.
_LABELS = "logging.googleapis.com/labels"
_LABELLED = ("analysis_date", "generation", "worker", "build_id")
_TRACE = "logging.googleapis.com/trace"
_SPAN = "logging.googleapis.com/spanId"
_SAMPLED = "logging.googleapis.com/trace_sampled"
# Fields of the product are less deep; deeper values become text.
_DEPTH_MAX = 4
TEXT_CHARS_MAX = 2048
# At the end, the process waits at most this long for the reader of the last lines.
LAST_LINES_S = 1.0

_writer: LogWriter | None = None


def as_json(fields: Mapping[str, Any]) -> str:
    """Return the line of a log reader: one JSON object."""
    return str(structlog.processors.JSONRenderer(ensure_ascii=False, default=str)(None, "", dict(fields)))


def configure(
    level: str,
    stream: TextIO | None = None,
    *,
    trace_project: str = "",
    render: Callable[[Mapping[str, Any]], str] = as_json,
) -> None:
    """Send structured logs of the product, and warnings of the libraries.

    Args:
        level: Least level written.
        stream: Where to; standard output by default.
        trace_project: The Google Cloud project in which a span is looked up that a line names. Empty: lines name none.
        render: Makes a line of the fields.
    """
    writer = _replace_writer(stream or sys.stdout, render)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            _severity,
            redact,
            _labelled,
            lambda _logger, _method, fields: {**fields, **_span_fields(trace_project)},
            structlog.processors.EventRenamer("message"),
            _head_first,
            lambda _logger, _method, fields: render(fields),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _QueueLogger(writer),
        cache_logger_on_first_use=False,
    )
    handlers: list[logging.Handler] = [_QueueHandler(writer)]
    handlers[0].setFormatter(_LibraryFormatter(trace_project, render))
    logging.basicConfig(handlers=handlers, level=max(number, logging.WARNING), force=True)
    # Google's clients separate the logger `google` from the root logger, so the logger gets the handlers too.
    google = logging.getLogger("google")
    google.handlers[:] = handlers
    google.propagate = False


def flush(timeout_s: float = LAST_LINES_S) -> None:
    """Wait until the reader has taken the lines logged so far, up to *timeout_s* seconds."""
    if _writer is not None:
        _writer.flush(timeout_s)


def lines_dropped() -> int:
    """Return how many lines of this process were dropped because the reader did not take them."""
    return _writer.dropped if _writer is not None else 0


def _replace_writer(stream: TextIO, render: Callable[[Mapping[str, Any]], str]) -> LogWriter:
    global _writer  # noqa: PLW0603 - a process has one log, as structlog and logging have one configuration
    if _writer is None:
        atexit.register(flush)
    else:
        _writer.close(LAST_LINES_S)
    _writer = LogWriter(stream, lambda lines: render(_missing_lines(lines)))
    return _writer


def _missing_lines(lines: int) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"severity": "WARNING", "message": "log_lines_dropped", "lines": lines}
    stamped = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")(None, "", fields)
    return _head_first(None, "", stamped)


class _QueueLogger:
    """Logger called by structlog with a rendered line, by the name of the level."""

    def __init__(self, writer: LogWriter) -> None:
        self.debug = self.info = self.warning = self.warn = writer.put
        self.error = self.critical = self.fatal = self.exception = self.msg = self.log = writer.put


class _QueueHandler(logging.Handler):
    """Handler of the log records of libraries: puts the records into the same queue."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a log record."""
        try:
            self._writer.put(self.format(record))
        except Exception:  # noqa: BLE001 - faulty arguments of a library must not fail the library's caller
            self.handleError(record)


class _LibraryFormatter(logging.Formatter):
    """Formatter of the log records of libraries, in the form of the product's lines."""

    def __init__(self, trace_project: str, render: Callable[[Mapping[str, Any]], str]) -> None:
        super().__init__()
        self._trace_project = trace_project
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a JSON line."""
        fields: dict[str, Any] = {"event": "library", "library": record.name, "text": record.getMessage()}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        fields = redact(None, "", fields)
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        fields = {"time": at, "severity": record.levelname, "message": fields.pop("event"), **fields}
        fields |= _span_fields(self._trace_project)
        return self._render(fields)


def _severity(_logger: object, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    fields["severity"] = {"warn": "WARNING", "exception": "ERROR"}.get(method, method.upper())
    return fields


def _head_first(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> dict[str, Any]:
    """Move time, severity and message to the start of each line, for readers of raw lines."""
    head = {name: fields.pop(name) for name in ("time", "severity", "message") if name in fields}
    return {**head, **fields}


def _labelled(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    labels = {name: str(fields[name]) for name in _LABELLED if fields.get(name)}
    if labels:
        fields[_LABELS] = labels
    return fields


def _span_fields(project: str) -> dict[str, str | bool]:
    """Return the fields with the current span, in the form of Cloud Logging; empty without a span."""
    context = get_current_span().get_span_context()
    if not project or not context.is_valid:
        return {}
    return {
        _TRACE: f"projects/{project}/traces/{format_trace_id(context.trace_id)}",
        _SPAN: format_span_id(context.span_id),
        _SAMPLED: context.trace_flags.sampled,
    }


def redact(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> dict[str, Any]:
    """Mask credentials, cut very long texts, and keep line breaks out of the way of line-based readers."""
    return {key: _field(key, value, _DEPTH_MAX) for key, value in fields.items()}


def _field(key: str, value: Any, depth: int) -> Any:  # noqa: ANN401 - any field value
    # Numbers and empty values hold no secret: `tokens: 3` stays readable.
    if value and isinstance(value, str | bytes) and _is_secret(key):
        return "***"
    return _clean(value, depth)


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    """Return whether a field name names a secret. Cached, because field names are few and lines are many."""
    return _SECRET_KEY.search(key) is not None


def _clean(value: Any, depth: int) -> Any:  # noqa: ANN401 - any field value
    if isinstance(value, str):
        is_plain = len(value) <= TEXT_CHARS_MAX and not MAY_HOLD_CREDENTIAL.search(value)
        return value if is_plain else masked_cut(value, TEXT_CHARS_MAX)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping) and depth:
        return {str(key): _field(str(key), inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_clean(inner, depth - 1) for inner in value]
    return masked_cut(str(value), TEXT_CHARS_MAX)
