"""Tasks of `mlfs bench latency` and `mlfs bench footprint`: a whole worker with embedded store and warehouse.

`hop` and `claim` measure the latency. `finished` measures the bytes of an analysis date in the store. `idle` measures a
start of `mlfs run` with all parts embedded, until `/readyz` answers 200.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import redis
from requests import RequestException, Session, codes

from ops.bench.build_tasks import NIGHT, generate
from ops.bench.bus import PROJECT, SUBSCRIPTION, TOPIC, bus_process
from ops.bench.intake_tasks import completions, settings_in
from schemas.completion import Delivery
from statemachine.events import CompletionReceived
from statemachine.model import TERMINAL_STATES, State
from statemachine.reasons import Reason
from worker.adapters.direct import session_to
from worker.adapters.pubsub.publish import PubSubPublisher
from worker.adapters.pubsub.pull import PullSubscriber
from worker.app import Worker
from worker.clock import SystemClock
from worker.errors import Unavailable
from worker.intake import Verdict
from worker.observing import logs
from worker.observing.observer import Decided, Notice
from worker.ports import OutgoingMessage
from worker.resources import ProcessKind, Resources

ENTITIES = 400
ANSWER_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 30.0
POLL_S = 0.01
SETTLE_S = 2.0
STOP_TIMEOUT_S = 20.0


class Watch:
    """Notes when a date was claimed and when it ended."""

    def __init__(self) -> None:
        self.claimed_at: dict[date, float] = {}
        self.reports: Counter[date] = Counter()
        self.ended: dict[date, State] = {}
        self._changed = threading.Condition()

    def note(self, notice: Notice) -> None:
        """Keep the instant of a claim and the state at an end."""
        if not isinstance(notice, Decided):
            return
        after = notice.decision.record
        with self._changed:
            self.reports[after.analysis_date] += isinstance(notice.event, CompletionReceived)
            if notice.decision.reason is Reason.CLAIMED:
                self.claimed_at[after.analysis_date] = time.perf_counter()
            if after.state in TERMINAL_STATES:
                self.ended[after.analysis_date] = after.state
            self._changed.notify_all()

    def wait_for_end(self, day: date) -> None:
        """Wait until the analysis date has ended."""
        self._wait(lambda: day in self.ended, f"{day} did not end")

    def wait_for_reports(self, day: date, count: int) -> None:
        """Wait until *count* completions of the analysis date are stored."""
        self._wait(lambda: self.reports[day] >= count, f"{day} did not get {count} completions")

    def _wait(self, reached: Callable[[], bool], otherwise: str) -> None:
        with self._changed:
            if not self._changed.wait_for(reached, ANSWER_TIMEOUT_S):
                raise Unavailable(f"{otherwise} within {ANSWER_TIMEOUT_S:g} s")


def hop(folder: str, nights: int) -> dict[str, Any]:
    """Measure the time from publish to callback for *nights* single messages; return milliseconds."""
    arrived = threading.Event()
    at = 0.0

    def note(deliveries: list[Delivery]) -> Iterator[tuple[int, Verdict]]:
        nonlocal at
        at = time.perf_counter()
        arrived.set()
        yield from ((place, Verdict.ACK) for place in range(len(deliveries)))

    milliseconds = []
    with bus_process(Path(folder)) as address, closing(PubSubPublisher(PROJECT, address)) as publisher:
        subscriber = PullSubscriber(
            project=PROJECT,
            subscription=SUBSCRIPTION,
            local_address=address,
            handle_all=note,  # type: ignore[arg-type] # a list is a sequence
            store_answers=lambda: True,
        )
        subscriber.start()
        for body in completions(nights):
            arrived.clear()
            started = time.perf_counter()
            publisher.publish(_message(body))
            if not arrived.wait(ANSWER_TIMEOUT_S):
                raise Unavailable(f"a message did not arrive within {ANSWER_TIMEOUT_S:g} s")
            milliseconds.append((at - started) * 1000)
        subscriber.stop()
    return {"ms": milliseconds[1:]}


def claim(folder: str, nights: int) -> dict[str, Any]:
    """Measure the time from the publish of the fourth completion to the claim, for *nights* dates in sequence.

    The other three completions are stored before, because real processors end minutes apart. So the figure is the time
    of a single completion.
    """
    milliseconds = []
    with _worker(Path(folder), nights) as (address, watch, _parts), closing(PubSubPublisher(PROJECT, address)) as bus:
        bodies = completions(4 * nights, NIGHT - timedelta(days=nights - 1))
        for back in reversed(range(nights)):
            day = NIGHT - timedelta(days=back)
            for body in (next(bodies), next(bodies), next(bodies)):
                bus.publish(_message(body))
            watch.wait_for_reports(day, 3)
            last = next(bodies)
            started = time.perf_counter()
            bus.publish(_message(last))
            watch.wait_for_end(day)
            milliseconds.append((watch.claimed_at[day] - started) * 1000)
    return {"ms": milliseconds[1:], "states": sorted({state.value for state in watch.ended.values()})}


def finished(folder: str, nights: int) -> dict[str, Any]:
    """Play *nights* dates to the end; return the bytes of a date in the store, and the final states."""
    with _worker(Path(folder), nights) as (address, watch, parts), closing(PubSubPublisher(PROJECT, address)) as bus:
        url = f"unix://{folder}/valkey/valkey.sock"
        for body in completions(4 * nights, NIGHT - timedelta(days=nights - 1)):
            bus.publish(_message(body))
        for back in range(nights):
            watch.wait_for_end(NIGHT - timedelta(days=back))
        pause = threading.Event()
        for _ in range(200):
            if not parts.store.outbox_size():
                break
            pause.wait(0.05)
        with closing(redis.Redis.from_url(url)) as client:
            sizes = {key: int(client.memory_usage(key, samples=0) or 0) for key in client.scan_iter(count=1000)}
    lasting = sum(size for key, size in sizes.items() if b":op:" not in key)
    return {
        "bytes_per_date": lasting / nights,
        "passing_bytes_per_date": (sum(sizes.values()) - lasting) / nights,
        "states": sorted({state.value for state in watch.ended.values()}),
    }


@contextmanager
def _worker(folder: Path, nights: int) -> Iterator[tuple[str, Watch, Resources]]:
    """Run a worker on *nights* dates of data; return the address of the bus, the watch and the resources."""
    generate(str(folder / "warehouse.duckdb"), ENTITIES, "1GB", 2, nights)
    watch = Watch()
    with bus_process(folder) as address, (folder / "worker.log").open("w", encoding="utf-8") as log:
        logs.configure("INFO", log)
        settings = settings_in(folder, address)
        with Resources(settings, ProcessKind.PULL) as parts:
            worker = Worker(parts, SystemClock(), (watch,))
            worker.start()
            try:
                yield address, watch, parts
            finally:
                worker.stop()


def _message(body: bytes) -> OutgoingMessage:
    return OutgoingMessage(event_id="", topic=TOPIC, data=body, attributes={})


def idle(folder: str) -> dict[str, Any]:
    """Return the seconds from the start of `mlfs run` to ready, and the resident megabytes 2 s later. Linux only."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    home = Path(folder)
    environment = {**os.environ, "MLFS_DATA_DIR": folder, "MLFS_HTTP_PORT": str(port), "MLFS_HTTP_HOST": "127.0.0.1"}
    pause = threading.Event()
    with (home / "worker.log").open("wb") as log:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "ops", "run"], env=environment, stdout=log, stderr=log)
        try:
            while not _is_ready(f"http://127.0.0.1:{port}/readyz"):
                if process.poll() is not None or time.perf_counter() - started > READY_TIMEOUT_S:
                    raise Unavailable(f"mlfs run was not ready: {(home / 'worker.log').read_text()[-1000:]}")
                pause.wait(POLL_S)
            ready_s = time.perf_counter() - started
            pause.wait(SETTLE_S)
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_TIMEOUT_S)
    kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return {"ready_s": ready_s, "idle_mb": kilobytes / 1024}


def _is_ready(url: str) -> bool:
    with session_to(url, Session()) as session:
        try:
            return session.get(url, timeout=1.0).status_code == codes.ok
        except RequestException:
            return False
