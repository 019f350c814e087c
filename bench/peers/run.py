"""Plays the scenarios on each peer and on mlfs, one after the other on this machine, and prints one table.

Run by `make peers`, in an environment of its own; `PEERS_PYTHON` names the interpreter that has mlfs.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis

from bench.peers import scenario, sink
from bench.report.peers_table import peers_table

PEERS = ("celery", "docket", "dbos")
NOBODY = 65534

Reader = Callable[[], dict[str, sink.Builds]]


def free_port() -> int:
    """Find a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server() -> Iterator[str]:
    """Run Redis with an fsync before each answer, as mlfs demands of its store; gives its URL."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--dir", folder, "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL) as process:
            client = redis.Redis(port=port)
            scenario.wait_for(lambda: _answers(client), 10, "redis-server")
            try:
                yield f"redis://127.0.0.1:{port}/0"
            finally:
                process.terminate()


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run Postgres as it comes; gives its URL. It refuses to run as root, so root runs it as nobody."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        who: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        data = f"{folder}/data"
        make = ["initdb", "-D", data, "-U", "peers", "-A", "trust"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=folder, **who)
        command = ["postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "max_connections=300"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folder, **who) as process:
            scenario.wait_for(lambda: _listens(port), 20, "postgres")
            try:
                yield f"postgresql://peers@127.0.0.1:{port}/postgres"
            finally:
                process.send_signal(signal.SIGINT)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


SCENARIOS: dict[str, Callable[[Any, Reader, argparse.Namespace], dict[str, Any]]] = {
    "one": lambda peer, read, sizes: scenario.throughput(peer, read, sizes.dates, 1),
    "two": lambda peer, read, sizes: scenario.throughput(peer, read, sizes.dates, 2),
    "latency": lambda peer, read, sizes: scenario.latency(peer, read, sizes.nights),
    "deadline": lambda peer, read, sizes: scenario.deadline(peer, read, sizes.nights),
    "kill": lambda peer, read, sizes: _killed(peer, read, sizes.killed),
}


def play(name: str, sizes: argparse.Namespace) -> dict[str, Any]:
    """Play every scenario on one peer, each on empty servers and in a process of its own."""
    answers = {}
    for title in SCENARIOS:
        say(f"{name}: {title}")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            answers[title] = process.submit(play_scenario, name, title, sizes).result()
        say(f"  {json.dumps(answers[title])}")
    return answers


def play_scenario(name: str, title: str, sizes: argparse.Namespace) -> dict[str, Any]:
    """Start the servers, play one scenario, stop them."""
    os.environ["PEERS_BUILD_S"] = "0.2" if title == "kill" else "0"
    os.environ["PEERS_PREFETCH"] = "16" if title in {"one", "two"} else "1"
    with ExitStack() as stack:
        os.environ["PEERS_REDIS"] = stack.enter_context(redis_server())
        if name == "dbos":
            os.environ["PEERS_POSTGRES"] = stack.enter_context(postgres_server())
        client = sink.connect()
        peer = importlib.import_module(f"bench.peers.{name}_join").Peer()
        try:
            return SCENARIOS[title](peer, lambda: sink.read(client), sizes)
        except TimeoutError as late:
            return {"not finished": str(late)}
        finally:
            peer.close()


def _killed(peer: Any, read: Reader, count: int) -> dict[str, Any]:
    names = scenario.days(count, "kill")
    kills = scenario.kill(peer, names, scenario.quiet(read, names))
    return {"kills": kills, **scenario.judged(read(), names)}


def play_mlfs(sizes: argparse.Namespace) -> dict[str, Any]:
    """Ask mlfs' own benchmarks for the same figures, and play the kills on `mlfs run`."""
    python = os.environ["PEERS_PYTHON"]

    def measured(*arguments: str) -> dict[str, Any]:
        say(f"mlfs: {' '.join(arguments)}")
        command = [python, "-m", "ops", "bench", *arguments, "--json"]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    events = str(4 * max(sizes.dates, 100))
    teams = measured("intake", "--workers", "1,2", "--events", events, "--runs", "3")["teams"]
    one, two = ({"events_per_s": team["intake"]["events_per_s"]["median"]} for team in teams)
    waits = measured("latency", "--nights", str(max(sizes.nights, 2)))["claim_ms"]
    lags = measured("deadline", "--open-dates", "1", "--deadlines", str(max(sizes.nights, 2)))["alone_lag_ms"]
    say("mlfs: kill")
    with redis_server() as url:
        os.environ["PEERS_REDIS"] = url
        command = [python, "-m", "bench.peers.mlfs_join", str(sizes.killed)]
        killed = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"one": one, "two": two, "latency": waits, "deadline": lags, "kill": json.loads(killed.stdout)}


def describe_machine() -> dict[str, Any]:
    """Describe the machine as mlfs' own benchmarks do."""
    code = "import json; from ops.bench.measure import describe_machine; print(json.dumps(describe_machine()))"
    done = subprocess.run([os.environ["PEERS_PYTHON"], "-c", code], check=True, capture_output=True, text=True)
    return {**json.loads(done.stdout), "peers": {name: version(name) for name in ("celery", "dbos", "pydocket")}}


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Read the options, play, print."""
    parser = argparse.ArgumentParser(prog="make peers", description=__doc__)
    parser.add_argument("--only", help="Peers, separated by commas.", default=",".join((*PEERS, "mlfs")))
    parser.add_argument("--dates", type=int, default=1000, help="Dates of the throughput scenario.")
    parser.add_argument("--nights", type=int, default=100, help="Dates of the latency and deadline scenarios.")
    parser.add_argument("--killed", type=int, default=60, help="Dates of the kill scenario.")
    parser.add_argument("--json", type=Path, help="Write all figures to this file.")
    sizes = parser.parse_args()
    for needed in ("redis-server", *(("initdb", "postgres") if "dbos" in sizes.only else ())):
        if shutil.which(needed) is None:
            parser.error(f"{needed} is not installed")
    started = time.time()
    machine = describe_machine()
    tools = {name: play_mlfs(sizes) if name == "mlfs" else play(name, sizes) for name in sizes.only.split(",")}
    figures = {
        "machine": machine,
        "sizes": {name: getattr(sizes, name) for name in ("dates", "nights", "killed")},
        "tools": tools,
        "seconds": round(time.time() - started),
    }
    if sizes.json:
        sizes.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        say(f"written: {sizes.json}")
    print(peers_table(figures))


if __name__ == "__main__":
    main()
