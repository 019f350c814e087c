"""Where spans begin and end on the way from an event to its outcome. Does nothing; `adapters.opentelemetry` does it.

A build is the meeting of four events and the child of none: its span links to theirs. Their contexts lie in the stored
record, so that whichever worker builds knows them, and a message in the outbox bears the context of its commit. Nothing
here may fail: a pipeline does not stop because nobody can watch it.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import date

from schemas.completion import Delivery, trace_of
from statemachine.decide import Decision
from statemachine.events import Event
from statemachine.model import DateRecord
from worker.ports import OutgoingMessage

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Reception:
    """One delivery being handled.

    Attributes:
        traceparent: W3C trace context that the stored completion bears: of the reception, else the sender's.
    """

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def ended(self, outcome: str, processor: str) -> None:
        """Note how it ended."""


class Application:
    """One event being applied to a date."""

    def decided(self, decision: Decision) -> None:
        """Note what came of it."""


class BuildTrace:
    """One build."""

    def ended(self, result: str) -> None:
        """Note how it ended."""


class Tracing:
    """Spans that are not made."""

    def receiving(self, delivery: Delivery) -> AbstractContextManager[Reception]:
        """Span the handling of a delivery, a child of its sender's span."""
        return nullcontext(Reception(trace_of(delivery.attributes)))

    def applying(self, analysis_date: date, event: Event) -> AbstractContextManager[Application]:  # noqa: ARG002
        """Span the decision about an event and its commit."""
        return nullcontext(_APPLICATION)

    def building(self, record: DateRecord) -> AbstractContextManager[BuildTrace]:  # noqa: ARG002 - the hook's shape
        """Span a build, linked to the completions of the *record*, and the report of its end."""
        return nullcontext(_BUILD)

    def publishing(self, message: OutgoingMessage) -> AbstractContextManager[OutgoingMessage]:
        """Span a publish, a child of the commit that wanted it; gives the message as it shall go out."""
        return nullcontext(message)

    def attributes(self) -> Mapping[str, str]:
        """Give the message attributes that name the present span; empty where there is none."""
        return {}

    def close(self) -> None:
        """Send what is left, within two seconds."""


_APPLICATION = Application()
_BUILD = BuildTrace()
NO_TRACING = Tracing()


def tracing_wanted(mode: str, environment: Mapping[str, str]) -> bool:
    """Say whether spans are to be made.

    Args:
        mode: `on`, `off`, or `auto`: on where one of OpenTelemetry's own variables says where they go.
        environment: Where those are.
    """
    if mode != "auto":
        return mode == "on"
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none"
    return not disabled and (exporter == "otlp" or any(environment.get(name) for name in _ENDPOINTS))
