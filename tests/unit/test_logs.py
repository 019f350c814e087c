"""One JSON object a line, and no credential in any of them."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import format_span_id, format_trace_id

from schemas.completion import Delivery
from tests.support.nights import EVENING
from worker.observing.logs import TEXT_CHARS_MAX, configure, flush
from worker.observing.tracing import receiving

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"


class Lines(io.StringIO):
    """A stream in memory, whose lines come from the thread that writes."""

    def getvalue(self) -> str:
        flush()
        return super().getvalue()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """The lines of one test; afterwards logging is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for handler in handlers:
        root.removeHandler(handler)
    target = Lines()
    configure("info", target)
    yield target
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(text) for text in stream.getvalue().splitlines()]


def line(stream: io.StringIO) -> dict[str, Any]:
    [parsed] = lines(stream)
    return parsed


def test_a_line_has_the_fields_that_cloud_logging_reads_and_begins_with_them(stream: io.StringIO) -> None:
    structlog.get_logger("worker").warning("decision", analysis_date="2024-12-15", rows=446)

    fields = line(stream)
    assert ["time", "severity", "message"] == list(fields)[:3]
    assert ("WARNING", "decision", "2024-12-15", 446) == tuple(
        fields[name] for name in ("severity", "message", "analysis_date", "rows")
    )


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    structlog.get_logger("worker").debug("decision")

    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("password", "hunter2"),
        ("Authorization", "Bearer hunter2"),
        ("token", "hunter2"),
        ("id_token", "hunter2"),
        ("Set-Cookie", "session=hunter2"),
        ("api_key", "hunter2"),
        ("error", "refused: Authorization: Bearer hunter2hunter2"),
        ("url", "https://storage.example/x?X-Goog-Signature=hunter2&alt=json"),
        ("url", "redis://worker:hunter2@10.0.0.5:6379/0"),
        ("url", "rediss://:hunter2@10.0.0.5"),
        ("url", "redis://worker:hunt@hunter2@10.0.0.5"),
        ("error", f"refused {JWT.replace('c2lnbmF0dXJl', 'hunter2')} at once"),
        ("error", "x" * (TEXT_CHARS_MAX - 30) + "redis://worker:hunter2" + "y" * 100 + "@10.0.0.5"),
    ],
)
def test_no_credential_is_written(stream: io.StringIO, field: str, value: str) -> None:
    structlog.get_logger("worker").info("decision", **{field: value})

    assert "hunter2" not in stream.getvalue()
    assert "***" in line(stream)[field]


def test_no_credential_is_written_from_inside_a_list_or_an_object(stream: io.StringIO) -> None:
    structlog.get_logger("worker").info(
        "decision",
        faults=["no answer from redis://worker:hunter2@10.0.0.5"],
        request={"headers": {"Authorization": "hunter2"}, "tried": 3},
        error=ValueError("redis://worker:hunter2@10.0.0.5"),
    )

    assert "hunter2" not in stream.getvalue()
    assert line(stream)["request"] == {"headers": {"Authorization": "***"}, "tried": 3}


def test_a_line_about_a_date_can_be_found_by_label(stream: io.StringIO) -> None:
    structlog.get_logger("worker").info("decision", analysis_date=date(2024, 12, 15), worker="worker-a", rows=446)

    labels = {"analysis_date": "2024-12-15", "worker": "worker-a"}
    assert labels == line(stream)["logging.googleapis.com/labels"]


def test_a_number_under_a_telling_name_stays(stream: io.StringIO) -> None:
    structlog.get_logger("worker").info("decision", secret_count=2, token="")

    assert (2, "") == (line(stream)["secret_count"], line(stream)["token"])


def test_an_address_without_a_password_stays_readable(stream: io.StringIO) -> None:
    structlog.get_logger("worker").info("decision", url="redis://10.0.0.5:6379/0")

    assert line(stream)["url"] == "redis://10.0.0.5:6379/0"


def test_one_event_is_one_line_whatever_the_text(stream: io.StringIO) -> None:
    structlog.get_logger("worker").info("decision", error='a\nb\r\n"c"\u2028{"severity": "ERROR"}')

    assert len(stream.getvalue().rstrip("\n").split("\n")) == 1


def test_a_huge_text_is_cut(stream: io.StringIO) -> None:
    structlog.get_logger("worker").info("decision", error="x" * 1_000_000)

    assert TEXT_CHARS_MAX == len(line(stream)["error"])


def test_an_exception_is_one_line_with_its_stack_and_without_its_secrets(stream: io.StringIO) -> None:
    try:
        int("redis://worker:hunter2@10.0.0.5")
    except ValueError:
        structlog.get_logger("worker").exception("loop_pass_failed_unexpectedly")

    fields = line(stream)
    assert ("ERROR", True) == (fields["severity"], "ValueError" in fields["exception"])
    assert "hunter2" not in stream.getvalue()


def test_a_librarys_warning_has_the_same_form_and_its_chatter_is_dropped(stream: io.StringIO) -> None:
    logging.getLogger("google.cloud").info("chatter")
    logging.getLogger("google.cloud").warning("retrying redis://a:hunter2@b")

    fields = line(stream)
    assert ("WARNING", "library", "google.cloud") == tuple(fields[name] for name in ("severity", "message", "library"))
    assert "hunter2" not in fields["text"]


DELIVERY = Delivery(data=b"{}", attributes={}, message_id="m", published_at=EVENING)
SPAN_FIELDS = {f"logging.googleapis.com/{name}" for name in ("trace", "spanId", "trace_sampled")}


@pytest.mark.parametrize(("sampler", "sampled"), [(ALWAYS_ON, True), (ALWAYS_OFF, False)])
def test_a_line_within_a_span_names_it_as_cloud_trace_knows_it(
    stream: io.StringIO, sampler: Sampler, sampled: bool
) -> None:
    """Real spans: our own line and a library's belong to the innermost one, a line after it to none."""
    configure("info", stream, trace_project="nba-traces")
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracer = provider.get_tracer("test")
    with receiving(tracer, DELIVERY), tracer.start_as_current_span("inner") as span:
        structlog.get_logger("worker").info("decision", analysis_date="2024-12-15")
        logging.getLogger("google.cloud").warning("retrying")
    structlog.get_logger("worker").info("worker_stopped")

    held = span.get_span_context()
    ours, library, after = lines(stream)
    expected = {
        "logging.googleapis.com/trace": f"projects/nba-traces/traces/{format_trace_id(held.trace_id)}",
        "logging.googleapis.com/spanId": format_span_id(held.span_id),
        "logging.googleapis.com/trace_sampled": sampled,
    }
    assert [expected, expected] == [{name: one[name] for name in SPAN_FIELDS} for one in (ours, library)]
    assert {"analysis_date": "2024-12-15"} == ours["logging.googleapis.com/labels"]
    assert SPAN_FIELDS.isdisjoint(after)


def test_a_line_names_no_span_of_a_project_that_nobody_told(stream: io.StringIO) -> None:
    with receiving(TracerProvider(shutdown_on_exit=False).get_tracer("test"), DELIVERY):
        structlog.get_logger("worker").info("decision")

    assert SPAN_FIELDS.isdisjoint(line(stream))
