"""A night that goes wrong, watched: processes, a real Prometheus and a real Alertmanager, all in true time.

Two of the four processors are late. `mlfs run` falls back at the deadline, the alert goes to a webhook, the late tables
arrive one after the other, and the date is upgraded twice until it is done. The warehouse is the BigQuery peer, so that
a table can be written while the worker runs. The league is that of 2024-12-15, moved to the present day: the figures
are the same whenever the night is played.
"""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
from tests.support.nights import evening_zone
from tests.support.programs import Program, RunningWorker
from worker.clock import SystemClock
from worker.local.sample.data import write_sample_data
from worker.ports import OutgoingMessage
from worker.resources import ProcessKind, Resources
from worker.settings import load

PROJECT = "nba-props-platform"
LEAGUE_NIGHT = date(2024, 12, 15)
PUNCTUAL = ("team_defense_zone_analysis", "player_shot_zone_analysis")
LATE = ("player_daily_cache", "player_composite_factors")
PROGRAMS = {"prometheus": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager"}
# Seconds after the deadline: nobody misses the SLA while the night is looked at.
SLA_AFTER = timedelta(minutes=20)
# Time for two reports between the first scrape and the deadline.
MARGIN = timedelta(seconds=3)
POLL_S = 0.05


class TooSlow(Exception):
    """The machine was busy: the night would be over before Prometheus sees it begin. Again, with a later deadline."""


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
        return {one["labels"]["alertname"]: one for one in self.body["alerts"] if one["status"] == status}


@dataclass
class ObservedNight:
    """Everything that runs, and what can be asked of it."""

    program: Program
    night: date
    deadline_at: datetime
    late_tables: Path
    warehouse: BigQueryServer
    posted: "Queue[Notice]"
    worker: RunningWorker
    prometheus: str
    started_at: float = 0.0
    notices: list[Notice] = field(default_factory=list)

    def mlfs(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.program.run(*arguments)

    def report_in_time(self) -> None:
        """The punctual processors report; their tables are there."""
        settings = load(data_dir=self.program.data_dir, pubsub_project=PROJECT)
        with Resources(settings, ProcessKind.COMMAND) as parts:
            for processor in PUNCTUAL:
                body = {"processor": processor, "analysis_date": self.night.isoformat(), "status": "success"}
                body["completed_at"] = SystemClock().now().isoformat()
                message = OutgoingMessage(
                    event_id="", topic=settings.topic, data=json.dumps(body).encode(), attributes={}
                )
                parts.publisher.publish(message)

    def worker_name(self) -> str:
        """The worker as it names itself in histories: machine and process."""
        return f"{socket.gethostname()}-{self.worker.process.pid}"

    def write_late_table(self, processor: str) -> None:
        """The processor writes its table, late."""
        self.warehouse.project(PROJECT).engine.load(self.late_tables / processor)

    def served(self, path: str) -> Any:
        return httpx.get(f"{self.worker.address()}{path}", timeout=10).json()

    def wait_for(self, generation: int) -> dict[str, Any]:
        """Wait until that generation, or a later one, is what consumers read."""
        path = f"/dates/{self.night}"
        for _ in ticks(60.0):
            record: dict[str, Any] = self.served(path)
            if record["state"] in {"done", "degraded"} and record["generation"] >= generation:
                return record
        raise TimeoutError(f"generation {generation} is not published: {self.served(path)}")

    def notice(self, receiver: str, status: str, names: set[str], timeout_s: float = 40.0) -> Notice:
        """The first notice to that receiver in which all of *names* have that status."""
        give_up_at = monotonic() + timeout_s
        while True:
            for one in self.notices:
                if one.receiver == receiver and names <= set(one.alerts(status)):
                    return one
            self.notices.append(self.posted.get(timeout=max(give_up_at - monotonic(), 0.01)))

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
        prepare_tables(folder, night)
        warehouse.project(PROJECT).engine.load(folder / "tables")
        deadline_at = (SystemClock().now() + deadline_in).replace(microsecond=0)
        program = Program(folder / "data", environment(ports["worker"], warehouse, zone, deadline_at))
        worker = program.launch(folder / "worker.log")
        stack.callback(stop, worker.process)
        observed = ObservedNight(
            program=program,
            night=night,
            deadline_at=deadline_at,
            late_tables=folder / "late",
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


def prepare_tables(folder: Path, night: date) -> None:
    """Write the league's tables as if it played on *night*: `tables` without the late rows, `late` with them."""
    sample, tables = folder / "sample", folder / "tables"
    write_sample_data(sample, analysis_date=LEAGUE_NIGHT)
    tables.mkdir()
    days = (night - LEAGUE_NIGHT).days
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for path in sorted(sample.glob("*.parquet")):
            processor = path.name.split(".")[1]
            columns = moved(connection, path, days)
            connection.execute(f"CREATE OR REPLACE TABLE moved AS SELECT {columns} FROM '{path}'")  # noqa: S608 - ours
            if processor in LATE:
                (folder / "late" / processor).mkdir(parents=True)
                connection.execute(f"COPY moved TO '{folder / 'late' / processor / path.name}'")
                connection.execute("DELETE FROM moved WHERE analysis_date = ?", [night])
            connection.execute(f"COPY moved TO '{tables / path.name}'")


def moved(connection: duckdb.DuckDBPyConnection, path: Path, days: int) -> str:
    """The columns of a file, each instant and day of it moved by so many days."""
    spans = {"DATE": str(days), "TIMESTAMP WITH TIME ZONE": f"INTERVAL {days} DAY", "TIMESTAMP": f"INTERVAL {days} DAY"}
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
