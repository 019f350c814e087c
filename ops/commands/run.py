"""`mlfs run`, `mlfs serve`, `mlfs tick`, `mlfs emit`: the processes of a worker, and a completion by hand.

A worker stops in order on SIGTERM and Ctrl-C. After a kill the next worker continues from the stored records and the
messages without acknowledgement.
"""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ops import leaving, streams
from ops.arguments import (
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    AnalysisDate,
    Json,
    complete_processor,
    finite,
    guest_resources,
    note_absent_worker,
    now_of_words,
)
from ops.output import hint, one_line, out, show_json
from schemas.completion import MESSAGE_BYTES_MAX, ROW_COUNT_MAX, CompletionMessage
from schemas.fault_words import in_plain_words
from worker.date_text import in_zone
from worker.errors import BadSettings, Fatal, Refused
from worker.ports import OutgoingMessage
from worker.resources import ProcessKind, Resources
from worker.settings import Settings, load

_HEAD = {"time", "severity", "message"}
_CLOUD = "logging.googleapis.com/"
_OPTIONS: Mapping[str, str] = {"row_count": "--rows", "run_id": "--run-id", "error": "--error"}


class Reported(StrEnum):
    """Status of a run in a completion."""

    SUCCESS = "success"
    FAILED = "failed"


def run() -> None:
    """Run the worker until SIGTERM or Ctrl-C: pull completions, build, publish, serve /metrics and health.

    Logs are JSON lines on standard output, on a terminal short lines for people. Without settings the store, the bus
    and the warehouse are embedded below MLFS_DATA_DIR (`.mlfs`).

    Examples:
      mlfs run
      MLFS_REDIS_URL=redis://localhost:6379/0 MLFS_PUBSUB=google mlfs run
    """
    _run_worker(load(), ProcessKind.PULL)


def serve() -> None:
    """Run the push worker until SIGTERM or Ctrl-C: HTTP only, for Cloud Run and similar services.

    Pub/Sub pushes completions to /pubsub/push; a scheduler calls /tick every minute, and /process at any time. Between
    requests the worker is idle, unless MLFS_SERVE_LOOPS=true. The worker refuses to start if any caller could send
    requests: set MLFS_PUSH_AUDIENCE and MLFS_TICK_AUDIENCE with their accounts, or a loopback address.

    Examples:
      mlfs serve
      MLFS_SERVE_LOOPS=true mlfs serve
    """
    settings = load()
    if faults := settings.serving_faults():
        raise BadSettings("not safe to serve:\n  " + "\n  ".join(faults))
    _run_worker(settings, ProcessKind.PUSH)


def _run_worker(settings: Settings, kind: ProcessKind) -> None:
    from worker.app import Worker
    from worker.observing import logs

    render = readable_line(settings) if sys.stdout.isatty() else logs.as_json
    logs.configure(settings.log_level, sys.stdout, trace_project=settings.trace_project, render=render)
    # Standard error of a worker may be the same stalled pipe as the log.
    streams.bound_waits()
    stop = threading.Event()
    leaving.on_signal(stop.set)
    with Resources(settings, kind) as resources:
        worker = Worker(resources, resources.clock)
        try:
            if stop.is_set():
                raise typer.Exit(leaving.exit_code())
            worker.start()
            error = worker.wait(stop)
        finally:
            leaving.begin()
            worker.stop()
    if error is not None:
        raise typer.Exit(EXIT_FAILED if isinstance(error, Fatal) else EXIT_UNAVAILABLE)


def readable_line(settings: Settings) -> Callable[[Mapping[str, Any]], str]:
    """Return a renderer of log lines for a person at a terminal, with times in the league's zone."""
    zone, tables = settings.calendar.zone, settings.definition.upstream

    def line(fields: Mapping[str, Any]) -> str:
        fields = {name: _printable(name, value) for name, value in fields.items()}
        at = datetime.fromisoformat(fields["time"]).astimezone(zone)
        weight = "" if fields["severity"] in {"INFO", "DEBUG"} else f"{fields['severity'].lower()}: "
        return in_zone(f"{at:%H:%M:%S} {weight}{_readable(fields, len(tables))}", zone)

    return line


def _printable(name: str, value: object) -> object:
    """Return a field without control characters; an exception keeps the line breaks."""
    if not isinstance(value, str):
        return value
    return "\n".join(map(one_line, value.split("\n"))) if name == "exception" else one_line(value)


def _readable(fields: Mapping[str, Any], tables: int) -> str:
    match fields["message"]:
        case "worker_started":
            folder = Path(fields["MLFS_DATA_DIR"]).absolute()
            return f"worker started; status page: {fields['http']}; data in {folder}; stop with Ctrl-C"
        case "decision":
            return f"{fields['analysis_date']} {fields['state']}: {fields['detail']}"
        case "build_step":
            return f"{fields['analysis_date']} build: {fields['step']}"
        case "upstream_schema_drifted" if fields["fault_count"] == tables and all(
            fault.endswith("does not exist") for fault in fields["faults"]
        ):
            load, invented = hint("load DIR"), hint("load ./sample --generate today")
            return f"no tables are there. Load a folder of Parquet files:\n  {load}\nTry invented tables:\n  {invented}"
    shown = {name: value for name, value in fields.items() if name not in _HEAD and not name.startswith(_CLOUD)}
    facts = ", ".join(f"{name} {value}" for name, value in shown.items() if value not in (None, "", [], {}))
    return f"{fields['message'].replace('_', ' ')}{': ' if facts else ''}{facts}"


def emit(
    analysis_date: AnalysisDate,
    processor: Annotated[str, typer.Argument(help="A wrong name prints the list.", autocompletion=complete_processor)],
    status: Annotated[Reported, typer.Option(help="Status of the run.")] = Reported.SUCCESS,
    rows: Annotated[int | None, typer.Option(help="Rows written.", min=0, max=ROW_COUNT_MAX)] = None,
    run_id: Annotated[str | None, typer.Option(help="Identity of the run; a repeat counts once.")] = None,
    error: Annotated[str | None, typer.Option(help="Error text, with --status failed.")] = None,
    as_json: Json = False,
) -> None:
    """Publish a completion event, as a processor would.

    Examples:
      mlfs emit 2024-12-15 PROCESSOR --rows 476 --run-id nightly-1
      mlfs emit today PROCESSOR --status failed --error 'source table is empty'
    """
    pipeline = load().definition
    if processor not in pipeline.processors:
        raise Refused(f"{processor!r} is no processor of {pipeline.name}; one of {', '.join(pipeline.processors)}")
    if error is not None and status is not Reported.FAILED:
        raise typer.BadParameter("--error is the error of a failed run; add --status failed, or leave --error out")
    body: dict[str, str | int] = {
        "processor": processor,
        "analysis_date": analysis_date.isoformat(),
        "status": status.value,
    }
    optional = {"row_count": rows, "run_id": run_id, "error": error}
    body |= {name: value for name, value in optional.items() if value is not None}
    _encoded(body)
    with guest_resources() as resources:
        body["completed_at"] = now_of_words(resources.settings).isoformat()
        message_id = resources.publisher.publish(
            OutgoingMessage(event_id="", topic=resources.settings.topic, data=_encoded(body), attributes={})
        )
        alone = resources.runs_servers
    answer = {"message_id": message_id, "topic": resources.settings.topic, **body}
    show_json(answer) if as_json else out.print(
        f"published {message_id} to {resources.settings.topic}: {json.dumps(body)}", markup=False, soft_wrap=True
    )
    note_absent_worker("takes the message", absent=alone)


def _encoded(body: Mapping[str, str | int]) -> bytes:
    """Return the bytes of an event, checked with the schema of the worker.

    Raises:
        typer.BadParameter: The schema refuses a value.
    """
    try:
        CompletionMessage.model_validate(body)
    except ValidationError as exc:
        faults = in_plain_words(exc.errors())
        told = [f"{_OPTIONS.get(fault['where'], fault['where'])} {fault['what']}" for fault in faults]
        raise typer.BadParameter("; ".join(told)) from None
    data = json.dumps(body).encode()
    if len(data) > MESSAGE_BYTES_MAX:
        raise typer.BadParameter(f"--error is too long: an event has at most {MESSAGE_BYTES_MAX} bytes")
    return data


def tick(
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", help="Seconds after which no build starts.", min=1, max=3600, callback=finite
        ),
    ] = 540.0,
    as_json: Json = False,
) -> None:
    """Open dates, fire due timers, build ready dates and publish outcomes once, then end.

    The command does the work of POST /tick in a separate process, for evenings without a running worker. The command
    can run beside workers. Messages in the subscription stay unread; a deadline probes the tables first.

    Exit codes: 0 all due work is done or under way, 1 a date failed in the sweep or an outcome was not published,
    4 the store or the warehouse does not answer.

    Examples:
      mlfs tick
      mlfs tick --wait 60 --json
    """
    from worker.observing import logs
    from worker.wiring import run_tick

    with Resources(load(), ProcessKind.TICK) as resources:
        logs.configure(resources.settings.log_level, sys.stderr)
        ticked = run_tick(resources, resources.clock, wait_s)
    if as_json:
        show_json(asdict(ticked))
    else:
        out.print(f"opened {ticked.opened}, due {ticked.due}, published {ticked.published}, left {ticked.left}")
        for built in ticked.built:
            out.print(f"{built.analysis_date}  {built.state}, generation {built.generation}  {built.reason}")
    if ticked.failed or ticked.left:
        raise typer.Exit(EXIT_FAILED)
