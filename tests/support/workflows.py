"""Google's Workflows on this machine, and what the workflow calls besides `mlfs`: processors and a pager.

`workflows-emulator` runs the shipped file with these differences, all of its own: it has no identity tokens (`auth` is
taken out of the copy that it runs, and 401 ends it), it begins every backoff at one second, and a connection that is
refused ends it instead of reaching a retry.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.nights import PROCESSORS

SOURCE = Path(__file__).parents[2] / "ops" / "workflows" / "build_features.yaml"
VARIABLES = dict(
    zip(("TEAM_DEFENSE_URL", "PLAYER_SHOT_URL", "COMPOSITE_URL", "DAILY_CACHE_URL"), PROCESSORS, strict=True)
)
# Processor and analysis_date in; status and answer out.
Answer = Callable[[str, str], tuple[int, Mapping[str, Any]]]


def reports_rows(_processor: str, _analysis_date: str) -> tuple[int, Mapping[str, Any]]:
    return 200, {"row_count": 400}


@dataclass
class Neighbours:
    """A server that is each of the four processors, and the pager."""

    answer: Answer = reports_rows
    started: list[tuple[str, str]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Self:
        neighbours = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = neighbours._take(self.path, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _take(self, path: str, body: dict[str, Any]) -> tuple[int, Mapping[str, Any]]:
        if path == "/pager":
            self.told.append(body)
            return 200, {}
        processor = path.split("/")[1]
        self.started.append((processor, body["analysis_date"]))
        return self.answer(processor, body["analysis_date"])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


@dataclass(frozen=True)
class Execution:
    """How an execution of the workflow ended."""

    returncode: int
    stdout: str
    log: str

    @property
    def result(self) -> Any:
        assert self.returncode == 0, self.log
        return json.loads(self.stdout)


def execute(folder: Path, mlfs: str, neighbours: Neighbours, given: Mapping[str, Any], **variables: str) -> Execution:
    """Run the shipped workflow once, with `mlfs` and its neighbours at these addresses."""
    copy = folder / "workflow.yaml"
    copy.write_text(yaml.safe_dump(_without_tokens(yaml.safe_load(SOURCE.read_text("utf-8"))), sort_keys=False))
    environment = {
        **os.environ,
        "NO_PROXY": "127.0.0.1",
        "MLFS_URL": mlfs,
        **{name: f"{neighbours.address}/{processor}" for name, processor in VARIABLES.items()},
        "NOTIFY_URL": f"{neighbours.address}/pager",
        "POLL_SECONDS": "1",
        "GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID": "execution-1",
        **variables,
    }
    command = [sys.executable, "-c", "from workflows_emulator.cli import cli; cli()"]
    done = subprocess.run(
        [*command, "--source", str(copy), "run", "--data", json.dumps(given)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return Execution(done.returncode, done.stdout, done.stderr)


def calls(node: Any) -> list[dict[str, Any]]:
    """Every HTTP call in a workflow or a part of one."""
    if isinstance(node, list):
        return [call for part in node for call in calls(part)]
    if not isinstance(node, dict):
        return []
    own = [node] if str(node.get("call", "")).startswith("http.") else []
    return own + [call for part in node.values() for call in calls(part)]


def _without_tokens(workflow: Any) -> Any:
    for call in calls(workflow):
        call["args"].pop("auth", None)
    return workflow
