"""Spans on the way from a completion to the outcome, made with OpenTelemetry's API.

Without the SDK, OpenTelemetry's tracer records no spans. `adapters.opentelemetry` opens the SDK.

A build follows four completions and is the child of none: the span of the build links to the spans of the completions.
The trace contexts lie in the stored record, so every worker knows them. A message in the outbox carries the trace
context of the commit.

A fault of the SDK is logged and never fails the work. A crash loses the spans that are not exported yet.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import date

import structlog
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NoOpTracer,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.completion import Delivery, trace_of
from statemachine.events import BuildClaimed, Event, LeaseRenewed
from statemachine.model import DateRecord
from worker.ports import OutgoingMessage

log = structlog.get_logger(__name__)

NO_SPANS: Tracer = NoOpTracer()
TRACEPARENT = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_MESSAGING = {"messaging.system": "gcp_pubsub"}
Attributes = Mapping[str, str | int]


def tracing_wanted(mode: str, environment: Mapping[str, str]) -> bool:
    """Return whether the settings ask for spans.

    Args:
        mode: `on`, `off` or `auto`. With `auto`, an endpoint in OpenTelemetry's variables switches tracing on.
        environment: OpenTelemetry's variables.
    """
    if mode != "auto":
        return mode == "on"
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none"
    return not disabled and (exporter == "otlp" or any(environment.get(name) for name in _ENDPOINTS))


def is_recorded(tracer: Tracer, delivery: Delivery) -> bool:
    """Return whether the tracer records the span of a delivery; true if the attributes raise."""
    try:
        # The span is neither current nor ended: the exporter never sees the span.
        return _begun(tracer, "mlfs.receive", SpanKind.CONSUMER, {}, _sender(delivery), ()).is_recording()
    except Exception:  # noqa: BLE001 - `receiving` raises the same exception for this delivery alone
        return True


def receiving(tracer: Tracer, delivery: Delivery) -> AbstractContextManager[Span]:
    """Span the handling of a delivery, as a child of the sender's span."""
    facts = {**_MESSAGING, "messaging.operation.type": "process", "messaging.message.id": delivery.message_id}
    return _span(tracer, "mlfs.receive", SpanKind.CONSUMER, facts, parent=_sender(delivery))


def applying(tracer: Tracer, analysis_date: date, event: Event) -> AbstractContextManager[Span]:
    """Span the decision about an event and the commit. Claims and renewals of leases get no span."""
    if isinstance(event, LeaseRenewed | BuildClaimed):
        return nullcontext(INVALID_SPAN)
    facts = {"mlfs.analysis_date": analysis_date.isoformat(), "mlfs.event": event.kind.value}
    return _span(tracer, "mlfs.apply", SpanKind.INTERNAL, facts)


def building(tracer: Tracer, record: DateRecord) -> AbstractContextManager[Span]:
    """Span a build and the report of the result: a new trace, with links to the spans of the completions."""
    facts: Attributes = {
        "mlfs.analysis_date": record.analysis_date.isoformat(),
        "mlfs.generation": record.generation,
        "mlfs.attempt": record.attempt,
        "mlfs.mode": record.mode.value,
        "mlfs.trigger": record.trigger.value if record.trigger is not None else "none",
    }
    return _span(tracer, "mlfs.build", SpanKind.INTERNAL, facts, parent=Context(), links=_links(record))


@contextmanager
def publishing(tracer: Tracer, message: OutgoingMessage) -> Iterator[OutgoingMessage]:
    """Span a publish, as a child of the commit; yield the message with the trace context of the publish."""
    facts = {
        **_MESSAGING,
        "messaging.operation.type": "send",
        "messaging.destination.name": message.topic,
        "mlfs.event_id": message.event_id,
    }
    parent = _remote(message.attributes.get(TRACEPARENT))
    with _span(tracer, "mlfs.publish", SpanKind.PRODUCER, facts, parent=parent) as span:
        yield replace(message, attributes={**message.attributes, **trace_attributes(span)})


def trace_attributes(span: Span | None = None) -> Mapping[str, str]:
    """Return the message attributes for a span of this process, by default the current span; otherwise empty."""
    span = span or get_current_span()
    carrier: dict[str, str] = {}
    if _is_ours(span):
        _PROPAGATOR.inject(carrier, context=set_span_in_context(span))
    return {name: text for name, text in carrier.items() if name == TRACEPARENT}


def _is_ours(span: Span) -> bool:
    """Return whether this process began the span. Without the SDK, the span of a delivery is the sender's span."""
    context = span.get_span_context()
    return context.is_valid and not context.is_remote


@contextmanager
def _span(
    tracer: Tracer,
    name: str,
    kind: SpanKind,
    facts: Attributes,
    *,
    parent: Context | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    span = _begun(tracer, name, kind, facts, parent, links)
    if not _is_ours(span):
        yield span
        return
    token = otel_context.attach(set_span_in_context(span))
    try:
        yield span
    except Exception as exc:
        span.record_exception(exc)
        span.set_status(Status(StatusCode.ERROR, str(exc)))
        raise
    finally:
        otel_context.detach(token)
        try:
            span.end()
        except Exception as exc:  # noqa: BLE001 - a fault of the SDK must not fail the work
            log.warning("span_not_ended", span=name, error=str(exc))


def _begun(
    tracer: Tracer, name: str, kind: SpanKind, facts: Attributes, parent: Context | None, links: Sequence[Link]
) -> Span:
    try:
        return tracer.start_span(name, context=parent, kind=kind, attributes=dict(facts), links=links)
    except Exception as exc:  # noqa: BLE001 - a fault of the SDK must not fail the work
        log.warning("span_not_begun", span=name, error=str(exc))
        return INVALID_SPAN


def _sender(delivery: Delivery) -> Context:
    return _remote(trace_of(delivery.attributes))


def _remote(traceparent: str | None) -> Context:
    """Return the context named by a W3C traceparent; without a traceparent, the context of a new trace."""
    return _PROPAGATOR.extract({TRACEPARENT: traceparent} if traceparent else {}, context=Context())


def _links(record: DateRecord) -> Sequence[Link]:
    found = []
    for name, completion in sorted(record.completions.items()):
        context = get_current_span(_remote(completion.traceparent)).get_span_context()
        if context.is_valid:
            found.append(Link(context, {"mlfs.processor": name, "mlfs.status": completion.status.value}))
    return tuple(found)
