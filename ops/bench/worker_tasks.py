"""Tasks of `mlfs bench intake --workers`: several worker processes drain a backlog with a common store and bus."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import IO, Any, cast

import redis

from ops.bench.bus import PROJECT, SUBSCRIPTION, bus_process, publish_all
from ops.bench.intake_tasks import (
    FINISH_TIMEOUT_S,
    FIRST_DATE,
    HandleAll,
    Tally,
    acknowledge_all,
    completions,
    make_intake,
    settings_in,
    subscribe,
    worker_observer,
)
from statemachine.model import State
from worker.adapters.pubsub.unary import receive_waiting
from worker.adapters.redis.store import RedisStore
from worker.errors import Unavailable
from worker.local.valkey import EmbeddedValkey
from worker.observing import logs
from worker.resources import ProcessKind, Resources

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
# Pause between two reports of a worker: long enough for a negligible cost.
REPORT_EVERY_S = 0.05
DATES_READ_AT_ONCE = 1000


def workers(folder: str, events: int, processes: int, callback: str) -> dict[str, Any]:
    """Drain *events* completions with *processes* processes; *callback* is `intake` or `noop`.

    The first process opens a stream after the backlog is published and all processes have started. The run counts only
    if every message was acknowledged, no message is waiting and, for `intake`, every analysis date is stored with four
    completions and became ready in exactly one process.

    Raises:
        Unavailable: The backlog was not drained in time, or is not fully stored; there is no figure.
    """
    home = Path(folder)
    with ExitStack() as stack:
        address = stack.enter_context(bus_process(home))
        url = stack.enter_context(_valkey(home))
        publish_all(address, completions(events))
        team = [stack.enter_context(_Worker(home / str(n), address, url, callback)) for n in range(processes)]
        for process in team:
            process.wait_until_up()
        before = _store_seconds(url)
        for process in team:
            process.begin()
        _wait_for(team, events)
        answers = [process.end() for process in team]
        store_s = _store_seconds(url) - before
        if left := receive_waiting(PROJECT, SUBSCRIPTION, address):
            raise Unavailable(f"{len(left)} messages still waited; nothing was measured")
        if callback == "intake":
            _check_stored(home, address, url, events, [day for answer in answers for day in answer["started"]])
    seconds = max(answer["last"] for answer in answers) - min(answer["first"] for answer in answers if answer["first"])
    return {
        "events_per_s": events / seconds,
        "cpu_us_per_event": sum(answer["cpu_seconds"] for answer in answers) / events * 1e6,
        "store_cpu_us_per_event": store_s / events * 1e6,
        "team_mb": sum(answer["peak_mb"] for answer in answers),
        "shares": sorted(answer["acknowledged"] / events for answer in answers),
    }


def worker(folder: str, address: str, redis_url: str, callback: str) -> dict[str, Any]:
    """Run as a process of the team: write `up`, start after a line on standard input, write the acknowledged ids."""
    home = Path(folder)
    home.mkdir()
    started: list[date] = []
    with ExitStack() as stack:
        handle_all: HandleAll = acknowledge_all
        if callback == "intake":
            logs.configure("INFO", stack.enter_context((home / "worker.log").open("w", encoding="utf-8")))
            parts = stack.enter_context(Resources(settings_in(home, address, redis_url), ProcessKind.COMMAND))
            handle_all = make_intake(parts, started.append, worker_observer()).handle_all
        tally = Tally(handle_all)
        subscriber = subscribe(address, tally)
        _send("up")
        sys.stdin.readline()
        ended = threading.Event()
        threading.Thread(target=_set_at_end_of_input, args=[ended], daemon=True).start()
        cpu = time.process_time()
        subscriber.start()
        told = 0
        while not ended.wait(REPORT_EVERY_S):
            if len(tally.acknowledged) > told:
                news = tally.acknowledged[told:]
                told += len(news)
                _send(" ".join(news))
        subscriber.stop()
        cpu_seconds = time.process_time() - cpu
    return {
        # Instants of the monotonic clock of the machine, comparable between the processes.
        "first": tally.first,
        "last": tally.last,
        "cpu_seconds": cpu_seconds,
        "acknowledged": len(tally.acknowledged),
        "started": [day.isoformat() for day in started],
    }


def _set_at_end_of_input(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def _send(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def _valkey(home: Path) -> Iterator[str]:
    server = EmbeddedValkey(home / "valkey")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


class _Worker:
    """Context manager around a worker process; kills a process still running at the end."""

    def __init__(self, folder: Path, address: str, redis_url: str, callback: str) -> None:
        arguments = {"folder": str(folder), "address": address, "redis_url": redis_url, "callback": callback}
        command = [sys.executable, "-m", "ops.bench.measure", "worker", json.dumps(arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this program
        self._input, self._output = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        self._up = threading.Event()
        self._last = ""
        self.acknowledged: set[str] = set()
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "_Worker":
        self._listener.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self._output.close()

    def _listen(self) -> None:
        for line in self._output:
            self._last = line
            if not line.startswith(("up", "{")):
                self.acknowledged.update(line.split())
            self._up.set()
        self._up.set()

    def wait_until_up(self) -> None:
        if not self._up.wait(START_TIMEOUT_S) or not self._last.startswith("up"):
            raise Unavailable("a worker of the benchmark did not start")

    def begin(self) -> None:
        self._input.write("begin\n")
        self._input.flush()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> dict[str, Any]:
        self._input.close()
        if self._process.wait(STOP_TIMEOUT_S) != 0:
            raise Unavailable(f"a worker of the benchmark ended with {self._process.returncode}")
        self._listener.join()
        answer: dict[str, Any] = json.loads(self._last)
        return answer


def _wait_for(team: Sequence[_Worker], events: int) -> None:
    """Wait until every message was acknowledged; a message delivered twice counts once."""
    pause, give_up_at = threading.Event(), time.monotonic() + FINISH_TIMEOUT_S
    while (seen := len(set().union(*(process.acknowledged.copy() for process in team)))) < events:
        if time.monotonic() > give_up_at or not all(process.running for process in team):
            raise Unavailable(f"{seen} of {events} events were acknowledged; nothing was measured")
        pause.wait(REPORT_EVERY_S)


def _check_stored(home: Path, address: str, url: str, events: int, started: Sequence[str]) -> None:
    dates = [FIRST_DATE + timedelta(days=number) for number in range(events // 4)]
    if sorted(started) != [day.isoformat() for day in dates]:
        raise Unavailable(f"{len(started)} builds of {len(set(started))} dates began, not one of each of {len(dates)}")
    with Resources(settings_in(home, address, url), ProcessKind.COMMAND) as parts:
        places = range(0, len(dates), DATES_READ_AT_ONCE)
        whole = sum(_whole(parts.store, dates[place : place + DATES_READ_AT_ONCE]) for place in places)
    if whole != len(dates):
        raise Unavailable(f"{whole} of {len(dates)} dates are stored with four completions; nothing was measured")


def _whole(store: RedisStore, dates: Sequence[date]) -> int:
    records = store.load_all(dates).values()
    ready = (record for record in records if record is not None and record.state is State.READY)
    return sum(len(record.completions) == 4 for record in ready)  # noqa: PLR2004 - the join


def _store_seconds(url: str) -> float:
    """Return the processor seconds of the store's server since the start of the server."""
    with redis.Redis.from_url(url) as client:
        used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])
