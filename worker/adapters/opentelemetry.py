"""Spans through OpenTelemetry's SDK, sent over OTLP; needs the extra `otel`.

Where they go, how many are kept and what the service is called is said by OpenTelemetry's own variables
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME` …). Spans are queued, bounded, and sent by a
thread of the SDK: a collector that is away costs spans and nothing else.
"""

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import structlog
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.completion import Delivery, trace_of
from statemachine.decide import Decision
from statemachine.events import BuildClaimed, Event, LeaseRenewed
from statemachine.model import DateRecord
from worker.adapters.direct import is_local, session_to
from worker.observing.tracing import Application, BuildTrace, Reception, Tracing
from worker.ports import OutgoingMessage
from worker.settings import BadSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger(__name__)

SERVICE = "mlfs"
TRACEPARENT = "traceparent"
CLOSE_TIMEOUT_S = 2.0
_INSTALL = "install it with: pip install '.[otel]' in the checkout, or switch tracing off with MLFS_TRACING=off"
_PROPAGATOR = TraceContextTextMapPropagator()
_MESSAGING = {"messaging.system": "gcp_pubsub"}
Attributes = Mapping[str, str | int]


def otlp_tracing(version: str) -> "OtelTracing":
    """Make tracing that exports over OTLP, by OpenTelemetry's variables; *version* is the product's.

    Raises:
        BadSettings: The extra is not installed, or a protocol is asked for that it does not speak.
    """
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((os.environ[name] for name in names if os.environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise BadSettings(f"tracing speaks http/protobuf, not {protocol!r}: unset {' and '.join(names)}")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - the extra
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415 - the extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - the extra
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - the extra
        from requests import Session  # noqa: PLC0415 - the extra brings it
    except ImportError as exc:
        raise BadSettings(f"tracing is asked for, but {exc.name} is not there; {_INSTALL}") from exc
    ours = Resource(
        {
            "service.name": SERVICE,
            "service.version": version,
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
    )
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    receiver = _receiver()
    # For another machine the exporter makes its session, as OpenTelemetry's variables say.
    session = session_to(receiver, Session()) if is_local(receiver) else None
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=session)))
    return OtelTracing(provider)


def _receiver() -> str:
    """Return the address that OpenTelemetry's variables name, or its default."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "http://localhost:4318")


class OtelTracing(Tracing):
    """Makes the spans. Thread-safe; a fault of the SDK is logged and never reaches the pipeline."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE)

    @contextmanager
    def receiving(self, delivery: Delivery) -> Iterator[Reception]:
        """Span the handling of a delivery, a child of its sender's span."""
        sender = trace_of(delivery.attributes)
        facts = {**_MESSAGING, "messaging.operation.type": "process", "messaging.message.id": delivery.message_id}
        with self._span("mlfs.receive", SpanKind.CONSUMER, facts, parent=_remote(sender)) as span:
            yield _Received(span, _context_of(span) or sender)

    @contextmanager
    def applying(self, analysis_date: date, event: Event) -> Iterator[Application]:
        """Span the decision about an event and its commit; claims and renewals of leases would only be noise."""
        if isinstance(event, LeaseRenewed | BuildClaimed):
            yield Application()
            return
        facts = {"mlfs.analysis_date": analysis_date.isoformat(), "mlfs.event": event.kind.value}
        with self._span("mlfs.apply", SpanKind.INTERNAL, facts) as span:
            yield _Applied(span)

    @contextmanager
    def building(self, record: DateRecord) -> Iterator[BuildTrace]:
        """Span a build: the beginning of a trace of its own, with links to the completions' spans."""
        facts: dict[str, str | int] = {
            "mlfs.analysis_date": record.analysis_date.isoformat(),
            "mlfs.generation": record.generation,
            "mlfs.attempt": record.attempt,
            "mlfs.mode": record.mode.value,
            "mlfs.trigger": record.trigger.value if record.trigger is not None else "none",
        }
        with self._span("mlfs.build", SpanKind.INTERNAL, facts, parent=Context(), links=_links(record)) as span:
            yield _Built(span)

    @contextmanager
    def publishing(self, message: OutgoingMessage) -> Iterator[OutgoingMessage]:
        """Span a publish, a child of the commit that wanted it, on whatever worker that was."""
        facts = {
            **_MESSAGING,
            "messaging.operation.type": "send",
            "messaging.destination.name": message.topic,
            "mlfs.event_id": message.event_id,
        }
        parent = _remote(message.attributes.get(TRACEPARENT))
        with self._span("mlfs.publish", SpanKind.PRODUCER, facts, parent=parent) as span:
            context = _context_of(span)
            yield message if context is None else _with_trace(message, context)

    def attributes(self) -> Mapping[str, str]:
        """Give the message attributes that name the present span; empty where there is none."""
        context = _context_of(get_current_span())
        return {} if context is None else {TRACEPARENT: context}

    def close(self) -> None:
        """Send what is left; a collector that does not answer gets two seconds."""
        thread = threading.Thread(target=self._provider.shutdown, name="tracing-close", daemon=True)
        thread.start()
        thread.join(CLOSE_TIMEOUT_S)

    @contextmanager
    def _span(
        self,
        name: str,
        kind: SpanKind,
        facts: Attributes,
        *,
        parent: Context | None = None,
        links: tuple[Link, ...] = (),
    ) -> Iterator[Span]:
        try:
            span = self._tracer.start_span(name, context=parent, kind=kind, attributes=dict(facts), links=links)
        except Exception as exc:  # noqa: BLE001 - whatever fails here, the work goes on
            log.warning("span_not_begun", span=name, error=str(exc))
            span = INVALID_SPAN
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
            except Exception as exc:  # noqa: BLE001 - whatever fails here, the work goes on
                log.warning("span_not_ended", span=name, error=str(exc))


class _Received(Reception):
    def __init__(self, span: Span, traceparent: str | None) -> None:
        super().__init__(traceparent)
        self._span = span

    def ended(self, outcome: str, processor: str) -> None:
        self._span.set_attributes({"mlfs.outcome": outcome, "mlfs.processor": processor})


class _Applied(Application):
    def __init__(self, span: Span) -> None:
        self._span = span

    def decided(self, decision: Decision) -> None:
        record = decision.record
        self._span.set_attributes(
            {
                "mlfs.reason": decision.reason.value,
                "mlfs.state": record.state.value,
                "mlfs.generation": record.generation,
                "mlfs.changed": decision.changed,
            }
        )


class _Built(BuildTrace):
    def __init__(self, span: Span) -> None:
        self._span = span

    def ended(self, result: str) -> None:
        self._span.set_attribute("mlfs.result", result)


def _remote(traceparent: str | None) -> Context:
    """Give the context that the text names; without one, that of a new trace."""
    return _PROPAGATOR.extract({TRACEPARENT: traceparent} if traceparent else {}, context=Context())


def _context_of(span: Span) -> str | None:
    """Give the W3C text of a span; None for none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context=set_span_in_context(span))
    return carrier.get(TRACEPARENT)


def _links(record: DateRecord) -> tuple[Link, ...]:
    found = []
    for name, completion in sorted(record.completions.items()):
        context = get_current_span(_remote(completion.traceparent)).get_span_context()
        if context.is_valid:
            found.append(Link(context, {"mlfs.processor": name, "mlfs.status": completion.status.value}))
    return tuple(found)


def _with_trace(message: OutgoingMessage, context: str) -> OutgoingMessage:
    return replace(message, attributes={**message.attributes, TRACEPARENT: context})
