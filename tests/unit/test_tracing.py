"""Spans from event to outcome: one chain over several workers, and never in the way of the work."""

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import (
    INVALID_SPAN,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
)

from schemas.completion import Delivery
from statemachine.model import DateRecord, State
from tests.support.memory_store import MemoryStore
from tests.support.nights import CALENDAR, EVENING, NIGHT, POLICY, PROCESSORS, probed, success
from tests.support.rigs import Bus, LedgerWarehouse, ModelClock, Notes
from worker.adapters.opentelemetry import SERVICE, close, open_provider
from worker.builds.builder import Builder
from worker.engine import Engine, Topics
from worker.intake import Intake, Verdict
from worker.observing.tracing import NO_SPANS, receiving, trace_attributes, tracing_wanted
from worker.ports import Commit
from worker.relay import Relay
from worker.repair import Repair
from worker.resources import ProcessKind, Resources
from worker.settings import BadSettings, Settings


class Collector:
    """What one worker's tracing exported."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer(SERVICE)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


class Worker:
    """One worker over a store, a bus and a warehouse that it shares with others."""

    def __init__(self, store: MemoryStore, warehouse: LedgerWarehouse, tracer: Tracer) -> None:
        self.bus = Bus()
        self.clock = ModelClock()
        self.notes = Notes()
        self.engine = Engine(
            store=store,
            policy=POLICY,
            calendar=CALENDAR,
            clock=self.clock,
            pipeline="ml_feature_store_v2",
            topics=Topics(success="success", failure="failure"),
            worker="worker",
            keep_finished=None,
            start_build=lambda _day: None,
            outbox_filled=lambda: None,
            observer=self.notes,
            tracer=tracer,
        )
        self.intake = Intake(
            engine=self.engine,
            store=store,
            repair=Repair(engine=self.engine, store=store, clock=self.clock, warehouse=warehouse),
            dead_letters=self.bus,
            dead_letter_topic="dlq",
            processors=PROCESSORS,
            earliest=date(2000, 1, 1),
            clock=self.clock,
            observer=self.notes,
            stopwatch=lambda: 0.0,
            tracer=tracer,
        )
        self.builder = Builder(
            engine=self.engine,
            warehouse=warehouse,  # type: ignore[arg-type]
            clock=self.clock,
            worker="worker",
            lease_s=60.0,
            phase3_lookback_days=30,
            observer=self.notes,
            stopwatch=lambda: 0.0,
            tracer=tracer,
        )
        self.relay = Relay(store=store, publisher=self.bus, observer=self.notes, tracer=tracer)


class Night:
    """One store and one warehouse; each worker on them may trace in its own way."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.warehouse = LedgerWarehouse()

    def worker(self, tracer: Tracer) -> Worker:
        return Worker(self.store, self.warehouse, tracer)

    def record(self) -> DateRecord:
        record = self.store.load(NIGHT)
        assert record is not None
        return record


def sender_of(number: int) -> str:
    return f"00-{number + 1:032x}-{number + 1:016x}-01"


def deliver(worker: Worker, processors: tuple[str, ...] = PROCESSORS, *, traced: bool = True) -> None:
    for number, name in enumerate(processors):
        body = {"processor": name, "analysis_date": "2024-12-15", "status": "success"}
        delivery = Delivery(
            data=json.dumps(body).encode(),
            attributes={"traceparent": sender_of(number)} if traced else {},
            message_id=f"message-{number}",
            published_at=EVENING,
        )
        assert worker.intake.handle(delivery) is Verdict.ACK


def context(span: ReadableSpan) -> str:
    held = span.get_span_context()
    assert held is not None
    return f"00-{format_trace_id(held.trace_id)}-{format_span_id(held.span_id)}"


def parent_id(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def span_id(span: ReadableSpan) -> int:
    held = span.get_span_context()
    assert held is not None
    return held.span_id


def facts(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def test_each_event_is_a_child_of_its_sender_and_its_decision_a_child_of_it() -> None:
    seen = Collector()

    deliver(Night().worker(seen.tracer))

    received, applied = seen.spans("mlfs.receive"), seen.spans("mlfs.apply")
    assert [number + 1 for number in range(4)] == [parent_id(span) for span in received]
    assert [span_id(span) for span in received] == [parent_id(span) for span in applied]
    assert [*["recorded"] * 3, "join_complete"] == [facts(span)["mlfs.outcome"] for span in received]
    assert [SpanKind.CONSUMER] * 4 == [span.kind for span in received]
    assert "ready" == facts(applied[-1])["mlfs.state"]


def test_the_build_links_to_its_four_events_whichever_worker_took_them() -> None:
    night, taking, building = Night(), Collector(), Collector()
    deliver(night.worker(taking.tracer))

    night.worker(building.tracer).builder.run_one(NIGHT)

    [built] = building.spans("mlfs.build")
    linked = {link.attributes["mlfs.processor"]: link.context.span_id for link in built.links if link.attributes}
    assert dict(zip(PROCESSORS, map(span_id, taking.spans("mlfs.receive")), strict=True)) == linked
    assert (None, "done", 1) == (parent_id(built), facts(built)["mlfs.result"], facts(built)["mlfs.generation"])


def test_the_outcome_continues_the_build_on_whatever_worker_publishes_it() -> None:
    night, building, publishing = Night(), Collector(), Collector()
    worker = night.worker(building.tracer)
    deliver(worker)
    worker.builder.run_one(NIGHT)

    other = night.worker(publishing.tracer)
    other.relay.run_once()

    [built], [published] = building.spans("mlfs.build"), publishing.spans("mlfs.publish")
    [committed] = [span for span in building.spans("mlfs.apply") if facts(span)["mlfs.event"] == "build_committed"]
    assert (span_id(built), span_id(committed)) == (parent_id(committed), parent_id(published))
    [message] = other.bus.confirmed
    assert message.attributes["traceparent"].startswith(context(published))
    assert (SpanKind.PRODUCER, "success") == (published.kind, facts(published)["messaging.destination.name"])


def test_a_fallback_links_to_the_events_there_were() -> None:
    night, seen = Night(), Collector()
    worker = night.worker(seen.tracer)
    deliver(worker, PROCESSORS[:2])
    worker.clock.instant = CALENDAR.fresh_record(NIGHT, EVENING).deadline_at
    worker.engine.apply(NIGHT, probed())

    worker.builder.run_one(NIGHT)

    [built] = seen.spans("mlfs.build")
    assert (2, "deadline") == (len(built.links), facts(built)["mlfs.trigger"])


def test_a_worker_that_does_not_trace_keeps_the_sender_s_context_for_one_that_does() -> None:
    night, seen = Night(), Collector()
    deliver(night.worker(NO_SPANS))

    worker = night.worker(seen.tracer)
    worker.builder.run_one(NIGHT)

    [built] = seen.spans("mlfs.build")
    assert {1, 2, 3, 4} == {link.context.span_id for link in built.links}


def test_without_tracing_a_message_has_no_context_and_a_completion_none_of_ours() -> None:
    night = Night()
    worker = night.worker(NO_SPANS)
    deliver(worker, traced=False)
    worker.builder.run_one(NIGHT)
    worker.relay.run_once()

    assert {None} == {completion.traceparent for completion in night.record().completions.values()}
    assert "traceparent" not in worker.bus.confirmed[0].attributes


def test_without_tracing_no_line_and_no_message_of_ours_names_the_senders_span() -> None:
    delivery = Delivery(data=b"", attributes={"traceparent": sender_of(0)}, message_id="m", published_at=EVENING)

    with receiving(NO_SPANS, delivery) as span:
        current = get_current_span()
        named = [trace_attributes(), trace_attributes(span)]

    assert (INVALID_SPAN, [{}, {}]) == (current, named)


def batch(worker: Worker) -> list[Verdict]:
    deliveries = [
        Delivery(
            data=json.dumps({"processor": name, "analysis_date": "2024-12-15", "status": "success"}).encode(),
            attributes={"traceparent": sender_of(number)},
            message_id=f"message-{number}",
            published_at=EVENING,
        )
        for number, name in enumerate(PROCESSORS)
    ]
    return [verdict for _place, verdict in worker.intake.handle_all(deliveries)]


@pytest.mark.parametrize(("sampler", "received"), [(ALWAYS_ON, 4), (ALWAYS_OFF, 0)])
def test_each_delivery_of_a_batch_has_a_span_where_spans_are_recorded(sampler: Sampler, received: int) -> None:
    night, seen = Night(), Collector(sampler)

    assert [Verdict.ACK] * 4 == batch(night.worker(seen.tracer))

    assert received == len(seen.spans("mlfs.receive"))
    kept = {completion.traceparent for completion in night.record().completions.values()}
    assert (kept == {sender_of(number) for number in range(4)}) == (received == 0)


def test_a_refused_message_and_a_failed_publish_are_seen() -> None:
    night, seen = Night(), Collector()
    worker = night.worker(seen.tracer)
    worker.intake.handle(Delivery(data=b"", attributes={}, message_id="m", published_at=EVENING))
    deliver(worker)
    worker.builder.run_one(NIGHT)
    worker.bus.refuse = lambda _message: True

    worker.relay.run_once()

    assert ("refused", "other") == (
        facts(seen.spans("mlfs.receive")[0])["mlfs.outcome"],
        facts(seen.spans("mlfs.receive")[0])["mlfs.processor"],
    )
    assert StatusCode.ERROR is seen.spans("mlfs.publish")[0].status.status_code


def test_claims_and_renewals_of_leases_make_no_spans_of_their_own() -> None:
    night, seen = Night(), Collector()
    worker = night.worker(seen.tracer)
    deliver(worker)
    worker.builder.run_one(NIGHT)

    kinds = [facts(span)["mlfs.event"] for span in seen.spans("mlfs.apply")]
    assert ["completion_received"] * 4 + ["build_committed"] == kinds


class BrokenExporter(InMemorySpanExporter):
    def export(self, spans: Any) -> Any:
        raise RuntimeError(f"no collector for {len(spans)} spans")


class BrokenTracer:
    def start_span(self, *arguments: Any, **options: Any) -> None:
        raise RuntimeError(f"{arguments} {options}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("broken", ["tracer", "exporter"])
def test_whatever_fails_in_tracing_the_night_is_done(broken: str) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(BrokenExporter()))
    tracer: Any = BrokenTracer() if broken == "tracer" else provider.get_tracer(SERVICE)
    night = Night()
    worker = night.worker(tracer)

    deliver(worker)
    worker.builder.run_one(NIGHT)
    worker.relay.run_once()

    assert (State.DONE, 1) == (night.record().state, len(worker.bus.confirmed))


def test_the_work_s_own_faults_pass_through_as_they_are() -> None:
    class Full(MemoryStore):
        def commit(self, commit: Commit) -> bool:
            raise ZeroDivisionError(commit.operation_id)

    worker = Worker(Full(), LedgerWarehouse(), Collector().tracer)

    with pytest.raises(ZeroDivisionError):
        worker.engine.apply(NIGHT, success(PROCESSORS[0]))


@pytest.mark.parametrize(
    ("mode", "environment", "wanted"),
    [
        ("auto", {}, False),
        ("auto", {"OTEL_SERVICE_NAME": "x"}, False),
        ("auto", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ("auto", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318"}, True),
        ("auto", {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ("auto", {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ("auto", {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ("on", {}, True),
        ("off", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
    ],
)
def test_tracing_is_off_until_somebody_says_where_spans_go(
    mode: str, environment: dict[str, str], wanted: bool
) -> None:
    assert wanted == tracing_wanted(mode, environment)


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(BadSettings, match=r"pip install '\.\[otel\]'"):
        open_provider("0.1.0")


def test_a_worker_that_shall_trace_and_cannot_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    parts = Resources(Settings(data_dir=tmp_path, tracing="on"), ProcessKind.PULL)

    with pytest.raises(BadSettings, match="MLFS_TRACING=off"):
        assert parts.tracer


def test_a_protocol_it_does_not_speak_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")

    with pytest.raises(BadSettings, match="http/protobuf"):
        open_provider("0.1.0")


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An HTTP server that takes what an OTLP collector takes: its address, and what came."""
    came: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", came
        server.shutdown()
        thread.join(5)


def test_spans_reach_a_collector_at_the_latest_when_the_worker_stops(
    collector: tuple[str, list[tuple[str, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, came = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "feature-store-east")
    provider = open_provider("0.1.0")
    deliver(Night().worker(provider.get_tracer(SERVICE)))

    close(provider)

    [(path, body)] = came
    assert path == "/v1/traces"
    for text in (b"mlfs.receive", b"mlfs.apply", b"feature-store-east", b"player_daily_cache"):
        assert text in body
