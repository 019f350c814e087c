"""A night that goes wrong, watched: processes, a real Prometheus and a real Alertmanager, all in true time.

Three of the four processors report in time, and the fourth reports a failure before the deadline. The alert goes to a
webhook, `mlfs run` falls back at the deadline, the processor runs again, and the date is upgraded to done. The
warehouse is the BigQuery peer, so that a table can be written while the worker runs. The league is that of 2024-12-15,
moved to the present: the figures are the same whenever the night is played.
"""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from queue import Queue
from time import monotonic
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import httpx
import yaml

from tests.conftest import free_port
from tests.support.alerting import PROMETHEUS
from tests.support.bigquery_peer.server import BigQueryServer
from tests.support.nights import DEADLINE, NIGHT, SECOND, evening_zone
from tests.support.programs import Program, RunningWorker
from worker.clock import SystemClock
from worker.local.sample.data import write_sample_data
from worker.ports import OutgoingMessage
from worker.resources import ProcessKind, Resources
from worker.settings import load

PROJECT = "nba-props-platform"
PUNCTUAL = ("team_defense_zone_analysis", "player_shot_zone_analysis", "player_composite_factors")
FAILING = "player_daily_cache"
FAILING_TABLE = f"nba_precompute.{FAILING}"
FAULT = "quota exceeded: 403, query usage per day"
# What Alertmanager posts to the channel after the reported failure, and after the deadline.
FAILED = frozenset({f"MlfsProcessorFailed {FAILING}"})
DEGRADED = FAILED | {
    "MlfsSeverityP2",
    "MlfsComponentCritical phase3_fallback",
    "MlfsComponentCritical phase4_availability",
}
CHANNEL = "channel"
PROGRAMS = {"prometheus": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager"}
# Seconds after the deadline: nobody misses the SLA while the night is looked at.
SLA_AFTER = timedelta(minutes=20)
# Time for the reports and the alert between the first scrape and the deadline.
MARGIN = timedelta(seconds=8)
POLL_S = 0.05


class TooSlow(Exception):
    """The machine was busy: the deadline passed before the person had read the alert. Play again, with more time."""


def missing_program() -> str | None:
    """Say what is not installed, and how to get it; None where all is there."""
    absent = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    return f"not installed (Debian: apt-get install {' '.join(absent)})" if absent else None


@dataclass(frozen=True)
class Notice:
    """One notification as Alertmanager posted it."""

    receiver: str
    body: dict[str, Any]

    def alerts(self, status: str) -> dict[str, dict[str, Any]]:
        """Return the alerts with that status, by name and by processor or component where the alert has one."""
        return {_named(alert["labels"]): alert for alert in self.body["alerts"] if alert["status"] == status}


def _named(labels: Mapping[str, str]) -> str:
    return " ".join(labels[name] for name in ("alertname", "processor", "component") if name in labels)


@dataclass
class ObservedNight:
    """Everything that runs, and what can be asked of it."""

    program: Program
    night: date
    deadline_at: datetime
    repaired_tables: Path
    warehouse: BigQueryServer
    posted: "Queue[Notice]"
    worker: RunningWorker
    prometheus: str
    started_at: float = 0.0
    notices: list[Notice] = field(default_factory=list)

    def mlfs(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.program.run(*arguments)

    def report(self, processor: str, status: str = "success", **fields: object) -> None:
        """Publish a completion event, as the processor does at the end of a run."""
        settings = load(data_dir=self.program.data_dir, pubsub_project=PROJECT)
        body = {"processor": processor, "analysis_date": self.night.isoformat(), "status": status, **fields}
        body["completed_at"] = SystemClock().now().isoformat()
        message = OutgoingMessage(event_id="", topic=settings.topic, data=json.dumps(body).encode(), attributes={})
        with Resources(settings, ProcessKind.COMMAND) as parts:
            parts.publisher.publish(message)

    def report_in_time(self) -> None:
        """The punctual processors report; their tables are there."""
        for processor in PUNCTUAL:
            self.report(processor)

    def report_failure(self) -> None:
        """The failing processor reports a failure; its table has no rows for the night."""
        self.report(FAILING, "failed", error=FAULT, run_id="nightly")

    def run_again(self) -> None:
        """The failing processor runs again: the table is written now, then a success is reported."""
        engine = self.warehouse.project(PROJECT).engine
        engine.load(self.repaired_tables)
        values = {"night": self.night, "now": SystemClock().now()}
        engine.run(f"UPDATE {FAILING_TABLE} SET processed_at = @now WHERE analysis_date = @night", values)  # noqa: S608 - ours
        self.report(FAILING, row_count=449, run_id="rerun-1")

    def worker_name(self) -> str:
        """The worker as it names itself in histories: machine and process."""
        return f"{socket.gethostname()}-{self.worker.process.pid}"

    def served(self, path: str) -> Any:
        return httpx.get(f"{self.worker.address()}{path}", timeout=10).json()

    def wait_for(self, generation: int) -> dict[str, Any]:
        """Wait until that generation, or a later one, is what consumers read."""
        path = f"/dates/{self.night}"
        for _ in ticks(180.0):
            record: dict[str, Any] = self.served(path)
            if record["state"] in {"done", "degraded"} and record["generation"] >= generation:
                return record
        raise TimeoutError(f"generation {generation} is not published: {self.served(path)}")

    def notice(self, receiver: str, status: str, names: Set[str]) -> Notice:
        """Return the first notice to that receiver in which all of *names* have that status."""
        return next(one for one in self._posted_to(receiver) if names <= set(one.alerts(status)))

    def over(self, receiver: str, names: Set[str]) -> Notice:
        """Return the notice that ends a group of alerts, once each of *names* is resolved.

        Alertmanager names a resolved alert in the next notice only, and alerts of one moment may stand in two notices.
        """
        resolved: set[str] = set()
        for one in self._posted_to(receiver):
            resolved |= set(one.alerts("resolved"))
            if names <= resolved and one.body["status"] == "resolved":
                return one
        raise AssertionError("unreachable: the notices never end")

    def _posted_to(self, receiver: str) -> Iterator[Notice]:
        """Yield the notices to a receiver, the past ones first; wait for the others."""
        give_up_at = monotonic() + 90.0
        for number in count():
            if number == len(self.notices):
                self.notices.append(self.posted.get(timeout=max(give_up_at - monotonic(), 0.01)))
            if self.notices[number].receiver == receiver:
                yield self.notices[number]

    def ask(self, query: str, at: float | None = None) -> list[dict[str, Any]]:
        """Ask Prometheus for the present value of an expression."""
        parameters = {"query": query} if at is None else {"query": query, "time": str(at)}
        return self._ask("query", parameters)

    def ask_range(self, query: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """Ask Prometheus for the course of an expression."""
        span = {"start": str(start), "end": str(end), "step": str(step_s)}
        return self._ask("query_range", {"query": query, **span})

    def _ask(self, kind: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
        answer = httpx.post(f"{self.prometheus}/api/v1/{kind}", data=parameters, timeout=20).json()
        if answer["status"] != "success":
            raise ValueError(f"{parameters['query']}: {answer['error']}")
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def wait_for_series(self, query: str) -> None:
        for _ in ticks(40.0):
            if self.ask(query):
                return
        raise TimeoutError(f"Prometheus never answers {query}")


def ticks(timeout_s: float) -> Iterator[None]:
    """Give a turn every few hundredths of a second until the time is up."""
    pause = threading.Event()
    give_up_at = monotonic() + timeout_s
    while monotonic() < give_up_at:
        yield
        pause.wait(POLL_S)


@contextmanager
def observed_night(folder: Path, *, deadline_in: timedelta, scrape_s: float = 1.0) -> Iterator[ObservedNight]:
    """Start everything and wait for the first scrape; the deadline is *deadline_in* after the worker's launch."""
    with ExitStack() as stack:
        posted, webhook = stack.enter_context(receiving())
        ports = {name: free_port() for name in ("worker", "prometheus", "alertmanager")}
        configure(folder, ports, webhook, scrape_s)
        # Prometheus looks for its targets some seconds after its start; meanwhile the tables are made.
        for command in commands(folder, ports):
            stack.callback(stop, launch(folder, command))
        warehouse = stack.enter_context(BigQueryServer(hold_s=0.05))
        now = SystemClock().now()
        zone = evening_zone(now)
        night = now.astimezone(ZoneInfo(zone)).date()
        prepare_tables(folder, night, now + deadline_in)
        warehouse.project(PROJECT).engine.load(folder / "tables")
        deadline_at = (SystemClock().now() + deadline_in).replace(microsecond=0)
        program = Program(folder / "data", environment(ports["worker"], warehouse, zone, deadline_at))
        worker = program.launch(folder / "worker.log")
        stack.callback(stop, worker.process)
        observed = ObservedNight(
            program=program,
            night=night,
            deadline_at=deadline_at,
            repaired_tables=folder / "repaired",
            warehouse=warehouse,
            posted=posted,
            worker=worker,
            prometheus=f"http://127.0.0.1:{ports['prometheus']}",
        )
        wait_ready(observed.prometheus, f"http://127.0.0.1:{ports['alertmanager']}")
        observed.wait_for_series("mlfs_date_state")
        if SystemClock().now() > deadline_at - MARGIN:
            raise TooSlow(f"the deadline {deadline_at} came before the first scrape, or nearly so")
        observed.started_at = SystemClock().now().timestamp()
        yield observed


def environment(port: int, warehouse: BigQueryServer, zone: str, deadline_at: datetime) -> dict[str, str]:
    local = deadline_at.astimezone(ZoneInfo(zone))
    return {
        "MLFS_HTTP_PORT": str(port),
        "MLFS_SEASON": "01-01..12-31",
        "MLFS_CATCH_UP_DAYS": "0",
        "MLFS_TIMEZONE": zone,
        "MLFS_DEADLINE": f"{local:%H:%M:%S}+0d",
        "MLFS_UPGRADE_CUTOFF": f"{local + SLA_AFTER:%H:%M:%S}+0d",
        "MLFS_DRAIN_GRACE_S": "0",
        "MLFS_WAREHOUSE": f"bigquery://{PROJECT}?location=US",
        "MLFS_BIGQUERY_ENDPOINT": warehouse.address,
        "COLUMNS": "120",
    }


def prepare_tables(folder: Path, night: date, deadline_at: datetime) -> None:
    """Write the league's tables as if it played on *night*: `tables` without the rows of FAILING, `repaired` with.

    Dates keep their distance to the night, instants their distance to the deadline.
    """
    sample, tables = folder / "sample", folder / "tables"
    write_sample_data(sample, analysis_date=NIGHT)
    tables.mkdir()
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for path in sorted(sample.glob("*.parquet")):
            processor = path.name.split(".")[1]
            columns = moved(connection, path, night - NIGHT, deadline_at - DEADLINE)
            connection.execute(f"CREATE OR REPLACE TABLE moved AS SELECT {columns} FROM '{path}'")  # noqa: S608 - ours
            if processor == FAILING:
                (folder / "repaired").mkdir()
                connection.execute(f"COPY moved TO '{folder / 'repaired' / path.name}'")
                connection.execute("DELETE FROM moved WHERE analysis_date = ?", [night])
            connection.execute(f"COPY moved TO '{tables / path.name}'")


def moved(connection: duckdb.DuckDBPyConnection, path: Path, days: timedelta, span: timedelta) -> str:
    """The columns of a file, each date moved by *days* and each instant by *span*, in whole seconds."""
    spans = {"DATE": str(days.days), "TIMESTAMP WITH TIME ZONE": f"INTERVAL {span // SECOND} SECOND"}
    columns = connection.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()  # noqa: S608 - ours
    changed = [f"{name} + {spans[kind]} AS {name}" for name, kind, *_ in columns if kind in spans]
    return f"* REPLACE ({', '.join(changed)})" if changed else "*"


@contextmanager
def receiving() -> Iterator[tuple["Queue[Notice]", str]]:
    """Whatever Alertmanager posts, and the address for it; the path is the receiver's name."""
    posted: Queue[Notice] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            posted.put(Notice(self.path.lstrip("/"), json.loads(body)))

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield posted, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def configure(folder: Path, ports: Mapping[str, int], webhook: str, scrape_s: float) -> None:
    """Write the shipped examples with other addresses and shorter waits; rules and routes stay as shipped."""
    prometheus = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    interval = f"{round(scrape_s * 1000)}ms"
    prometheus["global"] = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "250ms"}
    prometheus["rule_files"] = [str(PROMETHEUS / name) for name in prometheus["rule_files"]]
    prometheus["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{ports['worker']}"]
    alerting = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]
    alerting["targets"] = [f"127.0.0.1:{ports['alertmanager']}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(prometheus), encoding="utf-8")
    alertmanager = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text(encoding="utf-8"))
    alertmanager["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in alertmanager["receivers"]:
        receiver["webhook_configs"][0]["url"] = f"{webhook}/{receiver['name']}"
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(alertmanager), encoding="utf-8")


def commands(folder: Path, ports: Mapping[str, int]) -> list[list[str]]:
    return [
        [
            "prometheus-alertmanager",
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/alertmanager",
            f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
            "--cluster.listen-address=",
        ],
        [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/prometheus",
            f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
        ],
    ]


def launch(folder: Path, command: Sequence[str]) -> "subprocess.Popen[bytes]":
    with (folder / f"{command[0]}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def wait_ready(*addresses: str) -> None:
    for address in addresses:
        for _ in ticks(20.0):
            try:
                if httpx.get(f"{address}/-/ready", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                continue
        else:
            raise TimeoutError(f"{address} does not become ready")


def stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
