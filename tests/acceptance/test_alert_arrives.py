"""On a night built without Phase 4, a real Prometheus and a real Alertmanager wake the person on call."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import free_port
from tests.support.alerting import PROMETHEUS
from worker.clock import SystemClock
from worker.settings import load

REASON = ("--reason", "Phase 4 is down", "--yes")


@pytest.fixture
def webhook() -> Iterator[tuple[str, "Queue[tuple[str, Any]]"]]:
    """An address, and what was posted to it as (path, body)."""
    posted: Queue[tuple[str, Any]] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            posted.put((self.path, json.loads(body)))

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Start a program in the background; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(program: str, *arguments: str) -> None:
        with (tmp_path / f"{Path(program).name}.log").open("wb") as log:
            started.append(subprocess.Popen([program, *arguments], stdout=log, stderr=log))

    yield start
    for process in started:
        process.kill()
        process.wait(timeout=10)


def found(program: str, package: str) -> str:
    binary = shutil.which(program)
    if binary is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install {package})")
    return binary


def configure(folder: Path, worker: str, webhook: str, alertmanager_port: int) -> None:
    """Write the shipped examples with other addresses and shorter waits; rules and routes stay as shipped."""
    prometheus = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    prometheus["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "250ms"}
    prometheus["rule_files"] = [str(PROMETHEUS / name) for name in prometheus["rule_files"]]
    prometheus["scrape_configs"][0]["static_configs"][0]["targets"] = [worker]
    prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager_port}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(prometheus), encoding="utf-8")
    alertmanager = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text(encoding="utf-8"))
    alertmanager["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in alertmanager["receivers"]:
        receiver["webhook_configs"][0]["url"] = f"{webhook}/{receiver['name']}"
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(alertmanager), encoding="utf-8")


def paged(posted: "Queue[tuple[str, Any]]", names: set[str]) -> dict[str, Any]:
    """The first notification to the pager that carries all of *names*, by alert name."""
    while True:
        path, body = posted.get(timeout=20)
        firing = {one["labels"]["alertname"]: one for one in body["alerts"] if one["status"] == "firing"}
        if path == "/pager" and names <= set(firing):
            return firing


@pytest.mark.slow
def test_an_outage_night_reaches_the_pager(program, start_worker, start_server, webhook, tmp_path):
    prometheus = found("prometheus", "prometheus")
    alertmanager = found("prometheus-alertmanager", "prometheus-alertmanager")
    address, posted = webhook
    ports = [free_port() for _ in range(2)]
    program.environment |= {"MLFS_SEASON": "01-01..12-31"}
    night = load(data_dir=program.data_dir).calendar.today(SystemClock().now()).isoformat()
    assert program.run("load", str(tmp_path / "sample"), "--generate", night).returncode == 0
    worker = start_worker()
    served_at = worker.address()
    assert served_at, worker.log_path.read_text(encoding="utf-8")
    configure(tmp_path, served_at.removeprefix("http://"), address, ports[1])
    start_server(
        alertmanager,
        f"--config.file={tmp_path}/alertmanager.yml",
        f"--storage.path={tmp_path}/alertmanager",
        f"--web.listen-address=127.0.0.1:{ports[1]}",
        "--cluster.listen-address=",
    )
    start_server(
        prometheus,
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/prometheus",
        f"--web.listen-address=127.0.0.1:{ports[0]}",
    )

    built = program.run("replay", night, "--force-phase3-fallback", *REASON, "--wait", "30")
    firing = paged(posted, {"MlfsFallbackComplete", "MlfsSeverityP1"})

    assert 3 == built.returncode, built.stderr
    assert 75.0 == httpx.get(f"{served_at}/dates/{night}", timeout=10).json()["quality_score"]
    assert {("P1", night)} == {(one["labels"]["severity"], one["labels"]["analysis_date"]) for one in firing.values()}
    assert f"mlfs explain {night}" in firing["MlfsFallbackComplete"]["annotations"]["description"]
