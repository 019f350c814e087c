"""Every build is told to OpenLineage in the shape of its specification, and telling never hinders a build."""

import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
import structlog
from openlineage.client import event_v2
from openlineage.client.serde import Serde
from openlineage.client.transport import Transport
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from requests import ConnectionError as NotConnected
from requests import HTTPError
from requests.exceptions import RetryError

from statemachine.events import BuildClaimed, BuildCommitted, BuildFailed, CancelRequested, TimerFired
from statemachine.model import BuildMode, FailureKind
from tests.support.nights import NIGHT, NO_ROWS, PROCESSORS, REPLAY, result, success
from tests.support.rigs import WORKER, Rig
from worker.adapters.openlineage import open_transport
from worker.lineage.emitter import QUEUE_MAX, LineageEmitter
from worker.lineage.openlineage import EventWriter, RunFacts
from worker.observing.observer import Decided
from worker.pipelines.shipped import FEATURES, OUTPUT_COLUMNS, PUBLISHED_TABLE, SHIPPED
from worker.resources import open_lineage
from worker.settings import BadSettings, Settings

AT = datetime(2024, 12, 16, 4, 25, tzinfo=UTC)
WRITER = EventWriter(
    pipeline=SHIPPED,
    dataset_namespace="bigquery",
    dataset_prefix="nba.",
    version="1.2.3",
    zone=ZoneInfo("America/New_York"),
)


class Facet(BaseModel):
    """A facet names its producer and its schema; this model admits what the standard facets in use define."""

    model_config = ConfigDict(extra="allow")
    producer: str = Field(alias="_producer", min_length=1)
    schema_url: str = Field(alias="_schemaURL", pattern=r"^https://openlineage\.io/spec/.*\.json#/\$defs/\w+$")


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Transformation(Shape):
    type: Literal["DIRECT", "INDIRECT"]
    subtype: str
    description: str
    masking: bool


class InputField(Shape):
    namespace: str
    name: str
    field: str
    transformations: list[Transformation]


class FieldLineage(Shape):
    inputFields: list[InputField] = Field(min_length=1)  # noqa: N815 - the specification's


class Input(Shape):
    namespace: str
    name: str
    inputFacets: dict[str, Facet] = {}  # noqa: N815 - the specification's


class Output(Shape):
    namespace: str
    name: str
    facets: dict[str, Facet]
    outputFacets: dict[str, Facet] = {}  # noqa: N815 - the specification's


class Run(Shape):
    runId: uuid.UUID  # noqa: N815 - the specification's
    facets: dict[str, Facet]


class Job(Shape):
    namespace: str
    name: str
    facets: dict[str, Facet]


class RunEvent(Shape):
    eventType: Literal["START", "COMPLETE", "FAIL", "ABORT"]  # noqa: N815 - the specification's
    eventTime: AwareDatetime  # noqa: N815 - the specification's
    producer: str
    schemaURL: Literal["https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"]  # noqa: N815
    run: Run
    job: Job
    inputs: list[Input] = Field(min_length=1)
    outputs: list[Output] = Field(min_length=1, max_length=1)


def run(mode: BuildMode = BuildMode.NORMAL) -> RunFacts:
    return RunFacts(analysis_date=NIGHT, generation=1, attempt=1, mode=mode, trigger="join")


def sent(event: event_v2.RunEvent) -> dict[str, Any]:
    """What a receiver reads."""
    return dict(json.loads(Serde.to_json(event)))


ALL_EVENTS = [
    WRITER.started(run(), AT),
    WRITER.completed(run(), result(), AT),
    WRITER.ended(run(), "schema drift", AT, kind="FAIL"),
    WRITER.ended(run(), "cancelled", AT, kind="ABORT"),
    WRITER.started(run(BuildMode.FORCED_FALLBACK), AT),
    WRITER.started(run(BuildMode.YESTERDAY), AT),
]


@pytest.mark.parametrize("event", ALL_EVENTS, ids=range(len(ALL_EVENTS)))
def test_an_event_has_the_shape_of_the_specification(event: event_v2.RunEvent) -> None:
    read = RunEvent.model_validate_json(json.dumps(sent(event)))

    assert read.job.name == "ml_feature_store_v2"
    assert read.outputs[0].name == f"nba.{PUBLISHED_TABLE}"


@pytest.mark.parametrize("mode", BuildMode)
def test_each_column_leads_to_tables_that_the_build_reads(mode: BuildMode) -> None:
    event = sent(WRITER.started(run(mode), AT))
    lineage = event["outputs"][0]["facets"]["columnLineage"]["fields"]
    read = {dataset["name"] for dataset in event["inputs"]}

    assert {feature.name for feature in FEATURES} <= lineage.keys() <= {column.name for column in OUTPUT_COLUMNS}
    for column in lineage.values():
        assert {field.name for field in FieldLineage.model_validate(column).inputFields} <= read
    assert any("nba_precompute" in name for name in read) == (mode is BuildMode.NORMAL)


def test_the_schema_lists_every_published_column() -> None:
    fields = sent(WRITER.started(run(), AT))["outputs"][0]["facets"]["schema"]["fields"]

    assert [(field["name"], field["type"]) for field in fields] == [(c.name, c.type) for c in OUTPUT_COLUMNS]


def test_a_completed_run_tells_what_it_was_worth() -> None:
    published = result()
    event = sent(WRITER.completed(run(), published, AT))
    output = event["outputs"][0]

    assert output["outputFacets"]["outputStatistics"]["rowCount"] == published.row_count
    assert output["facets"]["dataQualityMetrics"]["rowCount"] == published.row_count
    assert output["facets"]["mlfs_quality"]["components"] == published.components
    assertions = output["facets"]["dataQualityAssertions"]["assertions"]
    assert [(one["assertion"], one["success"]) for one in assertions] == [
        ("row_count >= 200", True),
        ("quality_score >= 75", True),
    ]
    counted = {one["name"]: one["inputFacets"]["inputStatistics"] for one in event["inputs"] if "inputFacets" in one}
    assert [facet["rowCount"] for facet in counted.values()] == [published.dependency_rows[name] for name in PROCESSORS]


def test_the_nominal_time_is_the_league_day() -> None:
    facet = sent(WRITER.started(run(), AT))["run"]["facets"]["nominalTime"]

    assert facet["nominalStartTime"] == "2024-12-15T05:00:00+00:00"
    assert facet["nominalEndTime"] == "2024-12-16T05:00:00+00:00"


# --- which decisions are told ----------------------------------------------------------------------------------------


class Told:
    """A rig whose decisions go to the writer."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.events: list[dict[str, Any]] = []

    def apply(self, event: Any) -> None:
        self.rig.engine.apply(NIGHT, event)

    def kinds(self) -> list[tuple[str, str]]:
        events = [sent(event) for decided in self.rig.notes.decisions for event in WRITER.events_of(decided)]
        return [(event["eventType"], event["run"]["facets"]["mlfs_build"]["buildId"]) for event in events]


CLAIM = BuildClaimed(worker=WORKER)
FAILED = BuildFailed(generation=1, attempt=1, failure=FailureKind.UNAVAILABLE, message="the warehouse is away")


@pytest.fixture
def told() -> Told:
    told = Told()
    for processor in PROCESSORS:
        told.apply(success(processor))
    return told


def test_a_build_that_publishes(told: Told) -> None:
    told.apply(CLAIM)
    told.apply(BuildCommitted(result=result()))

    assert told.kinds() == [("START", "2024-12-15-g1-a1"), ("COMPLETE", "2024-12-15-g1-a1")]


def test_a_failed_attempt_and_the_next_are_two_runs(told: Told) -> None:
    told.apply(CLAIM)
    told.apply(FAILED)
    told.rig.clock.forward(told.rig.policy.retry_delay)
    told.apply(CLAIM)

    assert told.kinds() == [
        ("START", "2024-12-15-g1-a1"),
        ("FAIL", "2024-12-15-g1-a1"),
        ("START", "2024-12-15-g1-a2"),
    ]


@pytest.mark.parametrize("end", ["lease", "cancel", "take-over"])
def test_an_attempt_that_is_given_up(told: Told, end: str) -> None:
    told.apply(CLAIM)
    if end == "lease":
        told.rig.clock.forward(told.rig.policy.lease + timedelta(seconds=1))
        told.apply(TimerFired(probe=NO_ROWS))
    elif end == "cancel":
        told.apply(CancelRequested(actor="ana", reason="wrong data"))
        told.apply(TimerFired(closed_generation=1))
    else:
        told.apply(type(REPLAY)(actor="ana", reason="stuck", take_over=True))

    assert told.kinds() == [("START", "2024-12-15-g1-a1"), ("ABORT", "2024-12-15-g1-a1")]


def test_what_changes_nothing_is_not_told(told: Told) -> None:
    told.apply(CLAIM)
    told.apply(CLAIM)
    told.apply(BuildFailed(generation=1, attempt=9, failure=FailureKind.FATAL, message="stale"))

    assert told.kinds() == [("START", "2024-12-15-g1-a1")]


# --- the emitter -----------------------------------------------------------------------------------------------------


class ScriptedTransport(Transport):
    """Keeps what it takes; raises what the script says, and can be held."""

    def __init__(self, *script: Exception) -> None:
        self.script = list(script)
        self.taken: list[event_v2.RunEvent] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.entered = threading.Event()

    def emit(self, event: Any) -> None:
        self.entered.set()
        self.go_on.wait(timeout=30)
        if self.script:
            raise self.script.pop(0)
        self.taken.append(event)


@pytest.fixture
def emitting() -> Iterator[Callable[..., tuple[LineageEmitter, list[str]]]]:
    opened: list[tuple[LineageEmitter, ScriptedTransport]] = []

    def start(transport: ScriptedTransport) -> tuple[LineageEmitter, list[str]]:
        counted: list[str] = []
        emitter = LineageEmitter(transport, WRITER, counted.append)
        opened.append((emitter, transport))
        return emitter, counted

    yield start
    for emitter, transport in opened:
        transport.go_on.set()
        emitter.close(10)


def test_what_is_queued_is_sent_before_the_end(emitting: Any) -> None:
    transport = ScriptedTransport()
    emitter, counted = emitting(transport)
    emitter.emit(ALL_EVENTS)

    assert emitter.close(10) is True
    assert transport.taken == ALL_EVENTS
    assert counted == ["sent"] * len(ALL_EVENTS)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NotConnected("away"), "lineage_not_sent"),
        (RuntimeError("disk full"), "lineage_not_sent"),
        (HTTPError("400"), "lineage_refused"),
    ],
)
def test_an_event_that_cannot_be_sent_is_counted_and_the_next_goes_on(
    emitting: Any, error: Exception, line: str
) -> None:
    transport = ScriptedTransport(error)
    emitter, counted = emitting(transport)
    with structlog.testing.capture_logs() as lines:
        emitter.emit(ALL_EVENTS[:2])
        assert emitter.close(10) is True

    assert (len(transport.taken), counted) == (1, ["failed", "sent"])
    assert [line] == [logged["event"] for logged in lines]


def test_a_receiver_that_hangs_delays_nobody_and_costs_bounded_memory(emitting: Any) -> None:
    transport = ScriptedTransport()
    transport.go_on.clear()
    emitter, counted = emitting(transport)
    emitter.emit(ALL_EVENTS[:1])
    assert transport.entered.wait(timeout=10)
    emitter.emit(ALL_EVENTS[0] for _ in range(QUEUE_MAX + 7))

    assert counted == ["dropped"] * 7
    assert emitter.close(0.05) is False


def test_a_fault_in_telling_is_no_fault_of_the_build(emitting: Any) -> None:
    emitter, counted = emitting(ScriptedTransport())
    rig = Rig()
    rig.engine.apply(NIGHT, success(PROCESSORS[0]))
    emitter.writer = WriterThatFails()
    emitter.note(rig.notes.decisions[0])

    assert counted == ["failed"]


class WriterThatFails:
    def events_of(self, decided: Decided) -> Iterator[event_v2.RunEvent]:
        raise ValueError(decided.actor)


# --- the receivers ---------------------------------------------------------------------------------------------------


def test_a_file_gets_a_line_per_event(tmp_path: Path) -> None:
    path = tmp_path / "a b.jsonl"
    transport = open_transport(path.as_uri())
    for event in ALL_EVENTS:
        transport.emit(event)

    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [sent(event) for event in ALL_EVENTS]


def test_a_file_shared_by_processes_holds_whole_lines(tmp_path: Path) -> None:
    """Each event reaches the file in one write, also an event that is longer than a buffer."""
    path = tmp_path / "events.jsonl"
    threads = [
        threading.Thread(target=lambda: [open_transport(path.as_uri()).emit(event) for event in ALL_EVENTS])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 4 * len(ALL_EVENTS)
    assert all(line in [sent(event) for event in ALL_EVENTS] for line in lines)


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"gone/events\.jsonl"):
        open_transport((tmp_path / "gone" / "events.jsonl").as_uri()).emit(ALL_EVENTS[0])


class Receiver(ThreadingHTTPServer):
    """Answers with the next status of the script, 201 after the last; remembers what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ReceiverHandler)
        self.script: list[int] = []
        self.posts: list[tuple[str, str | None, Any]] = []


class ReceiverHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        assert isinstance(server, Receiver)
        server.posts.append((self.path, self.headers["Authorization"], json.loads(body)))
        self.send_response(server.script.pop(0) if server.script else 201)
        self.send_header("Content-Length", "0")
        self.send_header("Retry-After", "600")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tests are silent."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_receiver_gets_the_event_at_the_usual_path(receiver: Receiver) -> None:
    open_transport(f"http://127.0.0.1:{receiver.server_port}").emit(ALL_EVENTS[0])
    open_transport(f"http://me:s%20t@127.0.0.1:{receiver.server_port}/own/path?a=b").emit(ALL_EVENTS[1])

    assert receiver.posts == [
        ("/api/v1/lineage", None, sent(ALL_EVENTS[0])),
        ("/own/path?a=b", "Basic bWU6cyB0", sent(ALL_EVENTS[1])),
    ]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, 599])
def test_a_receiver_that_is_busy_is_tried_again_at_once(receiver: Receiver, status: int) -> None:
    receiver.script = [status]

    open_transport(f"http://127.0.0.1:{receiver.server_port}").emit(ALL_EVENTS[0])

    assert 2 == len(receiver.posts)


def test_after_three_tries_an_event_is_given_up(receiver: Receiver) -> None:
    receiver.script = [503] * 3

    with pytest.raises(RetryError, match="503"):
        open_transport(f"http://127.0.0.1:{receiver.server_port}").emit(ALL_EVENTS[0])
    assert 3 == len(receiver.posts)


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refused_event_is_not_tried_again_and_no_secret_is_told(receiver: Receiver, status: int) -> None:
    receiver.script = [status]

    with pytest.raises(HTTPError, match=str(status)) as caught:
        open_transport(f"http://me:secret@127.0.0.1:{receiver.server_port}").emit(ALL_EVENTS[0])
    assert "secret" not in str(caught.value)
    assert 1 == len(receiver.posts)


@pytest.mark.parametrize("setting", ["file:///events.jsonl", "http://127.0.0.1:1"])
def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    for name in [name for name in sys.modules if name.startswith(("worker.lineage.", "worker.adapters.openlineage"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openlineage.client.transport", None)

    with pytest.raises(BadSettings, match=r"pip install 'ml-feature-store-worker\[lineage\]'"):
        open_lineage(Settings(openlineage=setting), lambda _result: None)
