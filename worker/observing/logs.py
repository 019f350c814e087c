"""Structured logs: a JSON object in each line, with the field names of Cloud Logging.

`message` is a constant name of the event; facts are fields; `severity` and `time` have the form of Cloud Logging. A
line written within a span names the span, so Cloud Trace shows the line beside the span. Credentials and token-shaped
strings are removed before a line is written.

A caller renders a line and puts the line into the queue of `log_writer`; no caller waits for the reader. A crash loses
the queued lines.
"""

import atexit
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import structlog
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from worker.errors import masked_cut
from worker.observing.log_writer import LogWriter

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


def configure(level: str, stream: TextIO | None = None, *, trace_project: str = "") -> None:
    """Send the product's structured logs, and warnings of libraries.

    Args:
        level: Least level written.
        stream: Output; standard output by default.
        trace_project: Google Cloud project of the spans named in lines. Empty: lines name no spans.
    """
    writer = _replace_writer(stream or sys.stdout)
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
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _QueueLogger(writer),
        cache_logger_on_first_use=False,
    )
    handlers: list[logging.Handler] = [_QueueHandler(writer)]
    handlers[0].setFormatter(_LibraryFormatter(trace_project))
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


def _replace_writer(stream: TextIO) -> LogWriter:
    global _writer  # noqa: PLW0603 - a process has one log, as structlog and logging have one configuration
    if _writer is None:
        atexit.register(flush)
    else:
        _writer.close(LAST_LINES_S)
    _writer = LogWriter(stream, _missing_line)
    return _writer


def _missing_line(lines: int) -> str:
    fields: dict[str, Any] = {"severity": "WARNING", "message": "log_lines_dropped", "lines": lines}
    stamped = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")(None, "", fields)
    return str(structlog.processors.JSONRenderer()(None, "", _head_first(None, "", stamped)))


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

    def __init__(self, trace_project: str) -> None:
        super().__init__()
        self._trace_project = trace_project

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a JSON line."""
        fields: dict[str, Any] = {"event": "library", "library": record.name, "text": record.getMessage()}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        fields = redact(None, "", fields)
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        fields = {"time": at, "severity": record.levelname, "message": fields.pop("event"), **fields}
        fields |= _span_fields(self._trace_project)
        return str(structlog.processors.JSONRenderer(ensure_ascii=False, default=str)(None, "", fields))


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
        return masked_cut(value, TEXT_CHARS_MAX)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping) and depth:
        return {str(key): _field(str(key), inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_clean(inner, depth - 1) for inner in value]
    return masked_cut(str(value), TEXT_CHARS_MAX)
