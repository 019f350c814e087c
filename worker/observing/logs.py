"""Structured logs: one JSON object a line, with the field names that Cloud Logging reads.

`message` is a constant name for the event, facts are fields; `severity` and `time` are what Cloud Logging expects. A
line written within a span names it, so that Cloud Trace shows the line beside the span.
Credentials and token-shaped strings are removed before a line is written.

A caller renders a line and puts the line into the queue of `log_writer`; no caller ever waits for the reader.
"""

import atexit
import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
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
# Cloud Logging finds lines by these in its index, whatever the payload looks like.
_LABELS = "logging.googleapis.com/labels"
_LABELLED = ("analysis_date", "generation", "worker", "build_id")
_TRACE = "logging.googleapis.com/trace"
_SPAN = "logging.googleapis.com/spanId"
_SAMPLED = "logging.googleapis.com/trace_sampled"
# Deeper than any field of ours; what lies below is shown as text.
_DEPTH_MAX = 4
TEXT_CHARS_MAX = 2048
# A process that ends waits so long for the reader of its last lines.
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
    # Google's clients cut their loggers off from the root when the first one is made; so theirs get the handlers too.
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
    """The logger that structlog calls with a rendered line, by the name of the level."""

    def __init__(self, writer: LogWriter) -> None:
        self.debug = self.info = self.warning = self.warn = writer.put
        self.error = self.critical = self.fatal = self.exception = self.msg = self.log = writer.put


class _QueueHandler(logging.Handler):
    """The handler that puts the log records of libraries into the same queue."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a log record."""
        try:
            self._writer.put(self.format(record))
        except Exception:  # noqa: BLE001 - a library's faulty arguments must not reach its caller
            self.handleError(record)


class _LibraryFormatter(logging.Formatter):
    """Write a library's log record in the same form as ours."""

    def __init__(self, trace_project: str, render: Callable[[Mapping[str, Any]], str]) -> None:
        super().__init__()
        self._trace_project = trace_project
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """Render one record as a line."""
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
    """Begin each line with what every line has, for people who read it raw."""
    head = {name: fields.pop(name) for name in ("time", "severity", "message") if name in fields}
    return {**head, **fields}


def _labelled(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    labels = {name: str(fields[name]) for name in _LABELLED if fields.get(name)}
    if labels:
        fields[_LABELS] = labels
    return fields


def _span_fields(project: str) -> dict[str, str | bool]:
    """Name the span within which this is called, as Cloud Logging reads it; nothing where there is none."""
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
    # Numbers and empty values give nothing away: `tokens: 3` stays readable.
    if value and isinstance(value, str | bytes) and _is_secret(key):
        return "***"
    return _clean(value, depth)


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    """Remembered, since field names are few and lines are many."""
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
