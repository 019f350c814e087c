"""Starts the services in the order of the compose file, lets the jobs run, says what came of it, ends everything."""

import argparse
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.arguments import report_fault
from ops.output import dates_table, err, out, show_json
from tests.support.compose_runner.compose import Service, ports_of, read_compose
from tests.support.compose_runner.local import ROOT, Local, left_out
from tests.support.compose_runner.look import Prometheus, wait_until_seen
from tests.support.compose_runner.processes import Processes
from worker.errors import PipelineError, Unavailable

COMPOSE = ROOT / "docker-compose.yml"
NIGHTS = "rehearsal"
WORKER = "worker"
# Below the ports that Linux gives to outgoing connections.
PORTS = range(20_000, 32_000)
PAGES = {"status page": 8080, "Prometheus": 9090, "Alertmanager": 9093}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `make stack`; give the exit code: 0 when every night ended as it should and Prometheus saw it."""
    options = _read(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with _folder() as folder:
            Stack(folder, options).run()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except PipelineError as exc:
        return report_fault(exc)
    return 0


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make stack", description="docker-compose.yml as plain processes.")
    parser.add_argument("--keep", action="store_true", help="stay up until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print what was seen as JSON")
    parser.add_argument("--any-ports", action="store_true", help="take free ports, not those of the compose file")
    parser.add_argument("--scrape-s", type=int, help="seconds between two scrapes, instead of the shipped 15")
    parser.add_argument("nights", nargs="*", help=f"after --: added to the command of the service {NIGHTS}")
    return parser.parse_args(arguments)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that goes when all went well, and stays with the logs when not."""
    folder = Path(tempfile.mkdtemp(prefix="mlfs-stack-"))
    try:
        yield folder
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        raise
    except BaseException:
        err.print(f"logs and data are kept in {folder}", soft_wrap=True)
        raise
    shutil.rmtree(folder)


class Stack:
    """One run."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        """Read the compose file; nothing is started yet."""
        self._options = options
        self._services = read_compose(COMPOSE)
        self._ports = choose_ports(ports_of(self._services), any_free=options.any_ports)
        self._local = Local(folder, self._ports, options.scrape_s)
        self._processes = Processes(folder, self._tell)

    def run(self) -> None:
        """Start, play, look, end.

        Raises:
            Unavailable: A program is missing, did not come up, or a night did not end as it should.
        """
        seen = None
        try:
            self._start_all()
            seen = self._look()
            self._show(seen)
            if self._options.keep:
                self._tell("up until Ctrl-C")
                self._processes.watch()
        finally:
            self._tell("ending")
            codes = self._processes.end_all()
        if codes[WORKER]:
            raise Unavailable(f"the worker left with exit code {codes[WORKER]}")

    def _start_all(self) -> None:
        for service in self._services:
            if (reason := left_out(service)) is not None:
                self._tell(f"{service.name}: left out, {reason}")
                continue
            self._local.lay_out(service)
            command, environment = self._local.command(service), self._local.environment(service)
            if service.is_job:
                more = self._options.nights if service.name == NIGHTS else ()
                self._tell(f"{service.name}: {' '.join((*service.command, *more))}")
                self._processes.run_job(service.name, [*command, *more], environment)
            else:
                self._start(service, command, environment)
        for note in self._local.notes:
            self._tell(note)

    def _start(self, service: Service, command: Sequence[str], environment: Mapping[str, str]) -> None:
        running = self._processes.start(service.name, command, environment)
        check = self._check(service, environment)
        seconds = self._processes.wait_healthy(running, check)
        self._tell(f"{service.name}: {Path(command[0]).name}, healthy after {seconds:.1f} s")

    def _check(self, service: Service, environment: Mapping[str, str]) -> Callable[[], bool]:
        probe = self._local.probe(service)
        if probe is None:
            return lambda: True
        if not isinstance(probe, list):
            return probe
        return lambda: subprocess.run(probe, env=dict(environment), capture_output=True, check=False).returncode == 0

    def _look(self) -> dict[str, Any]:
        worker = next(one for one in self._services if one.name == WORKER)
        command = [sys.executable, "-m", "ops", "status", "--json"]
        told = subprocess.run(command, env=self._local.environment(worker), capture_output=True, text=True, check=False)
        if told.returncode:
            raise Unavailable(f"mlfs status ended with exit code {told.returncode}: {told.stderr.strip()}")
        dates = json.loads(told.stdout)
        published = [one["analysis_date"] for one in dates if one["published_generation"]]
        prometheus = wait_until_seen(Prometheus(self._url(9090)), published, self._tell)
        return {
            "notes": self._local.notes,
            "dates": dates,
            "prometheus": prometheus,
            "pages": {name: self._url(port) for name, port in PAGES.items()},
        }

    def _url(self, port: int) -> str:
        return f"http://127.0.0.1:{self._ports[port]}"

    def _show(self, seen: Mapping[str, Any]) -> None:
        if self._options.json:
            show_json(seen)
            return
        out.print(dates_table(seen["dates"]))
        shown = seen["prometheus"]
        out.print(f"Prometheus: up {shown['up']}, {shown['rules']} rules, failing {shown['rules_failing'] or 'none'}")
        out.print(f"            published generations {shown['published_generation']}", soft_wrap=True)
        out.print(f"            alerts {', '.join(shown['alerts']) or 'none'}; sent to {shown['alertmanagers']}")
        stays = "" if self._options.keep else "   (ended with this command; to look around: make stack ARGS=--keep)"
        for name, address in seen["pages"].items():
            out.print(f"{name:<12} {address}{stays}", soft_wrap=True)

    def _tell(self, text: str) -> None:
        err.print(text, markup=False, soft_wrap=True)


def choose_ports(wanted: Sequence[int], *, any_free: bool) -> dict[int, int]:
    """Give a port here for each of the compose file: the same where it is free, else another."""
    dice = random.SystemRandom()
    chosen: dict[int, int] = {}
    for port in wanted:
        here = port
        while any_free or here in chosen.values() or not _is_free(here):
            here = dice.choice(PORTS)
            if here not in chosen.values() and _is_free(here):
                break
        chosen[port] = here
    return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A server that ended a moment ago leaves its port waiting; the next one can have it all the same.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
