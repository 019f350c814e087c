"""OpenTelemetry's SDK with an exporter over OTLP; needs the extra `otel`.

OpenTelemetry's variables name the collector, the sampler and the service (`OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME` …). A thread of the SDK sends the spans from a bounded queue.
If the collector does not answer, spans are lost and the work goes on. A crash loses the queue.
"""

import os
import socket
import threading
from typing import TYPE_CHECKING

from worker.adapters.direct import is_local, session_to
from worker.settings import BadSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "mlfs"
CLOSE_TIMEOUT_S = 2.0
_INSTALL = "install it with: pip install '.[otel]' in the checkout, or switch tracing off with MLFS_TRACING=off"


def open_provider(version: str) -> "TracerProvider":
    """Return a provider of tracers that exports over OTLP, as OpenTelemetry's variables say.

    Args:
        version: Version of the product, an attribute of every span.

    Raises:
        BadSettings: The extra is not installed, or OpenTelemetry's variables name a protocol other than http/protobuf.
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
    # For another machine the exporter opens a session by OpenTelemetry's variables.
    session = session_to(receiver, Session()) if is_local(receiver) else None
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=session)))
    return provider


def close(provider: "TracerProvider") -> None:
    """Export the queued spans; wait at most two seconds for the collector."""
    thread = threading.Thread(target=provider.shutdown, name="tracing-close", daemon=True)
    thread.start()
    thread.join(CLOSE_TIMEOUT_S)


def _receiver() -> str:
    """Return the collector's address from OpenTelemetry's variables, or OpenTelemetry's default."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "http://localhost:4318")
