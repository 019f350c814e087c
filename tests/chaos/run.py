"""Real workers, store, bus and warehouse processes, and a nemesis: `python -m tests.chaos.run --minutes 5`.

Nights begin one after the other while the nemesis strikes; then everything is left to come to rest. What was observed
on the way goes to a history, and `tests.chaos.check`, which shares no code with the worker, judges it.
"""

import argparse
import heapq
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import redis

from tests.chaos.acts_on_workers import CRASH
from tests.chaos.check import judge
from tests.chaos.crashing import places_in
from tests.chaos.file_service import FILE
from tests.chaos.history import PROJECT, History, Observer, Processors, Receiver, StoreWatch, merge
from tests.chaos.links import Link
from tests.chaos.nemesis import Nemesis
from tests.chaos.nights import KINDS, Night, draw_nights, draw_poison, report_body
from tests.chaos.report import load, machine_of, table
from tests.chaos.services import Service, WorkerProcess, environment, pause
from tests.chaos.stage import Stage
from tests.chaos.stores import EmbeddedStore, SentinelStore, SingleStore
from tests.conftest import free_port

ENDED = {"done", "degraded", "failed"}
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/ml-feature-store-worker"
# Nights open at a time: two cores build about two a second, and a backlog proves nothing.
OPEN_MAX = 16
SETTLE_S = 240.0
RESTART_AFTER_S = 0.3
POISON_SHARE = 0.4
COMMAND_TIMEOUT_S = 90
REPLAY_EVERY_S = 25.0
# What the settings below mean for the judge.
LEASE_S, GRACE_S, ATTEMPTS_MAX = 5.0, 6.0, 10
SETTINGS = {
    "MLFS_HTTP_PORT": "0",
    "MLFS_LEASE_S": f"{LEASE_S:g}",
    "MLFS_RETRY_DELAY_S": "0.5",
    "MLFS_ATTEMPTS_MAX": str(ATTEMPTS_MAX),
    "MLFS_TICK_S": "0.2",
    # A past date's deadline lies so far behind its first report; what comes later upgrades it all day.
    "MLFS_DRAIN_GRACE_S": f"{GRACE_S:g}",
    "MLFS_DEADLINE": "12:00",
    "MLFS_UPGRADE_CUTOFF": "23:50",
    "MLFS_SEASON": "02-29..02-29",
    "MLFS_STREAM_SILENCE_S": "3",
    "MLFS_STREAM_RECYCLES_MAX": "100",
    "MLFS_BIGQUERY_JOB_TIMEOUT_S": "5",
}


@dataclass(kw_only=True)
class Options:
    """What to play."""

    seed: int = 7
    seconds: float = 60.0
    workers: int = 2
    store: str = "redis"
    # The peer, or one DuckDB file that all workers share.
    warehouse: str = "bigquery"
    nights_max: int = 0
    kinds: Sequence[str] = ()
    acts: Sequence[str] = ()
    gap_s: tuple[float, float] = (1.0, 4.0)
    night_every_s: float = 0.5
    replays: bool = True
    settle_s: float = SETTLE_S
    # A disk of its own for the store, so that it can be full; a test leaves the machine's mounts alone.
    small_disk: bool = False
    say: Callable[[str], None] = lambda _text: None


class Run:
    """One chaos run in a folder."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.options = folder, options
        self.history = History(folder / "history.jsonl")
        self._stack = ExitStack()
        self._stack.callback(self.history.close)
        self._dice = random.Random(f"run {options.seed}")  # noqa: S311 - faults, not secrets
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self._rows = itertools.count(1000)
        self._stopping, self._ending = threading.Event(), threading.Event()
        self.nights: list[Night] = []
        self.replayed: dict[str, int] = {}
        self.reached: Counter[str] = Counter()

    # --- begin and end -----------------------------------------------------------------------------------------------

    def play(self) -> dict[str, Any]:
        """Play, let it come to rest, judge."""
        with self._stack:
            self._begin()
            started = time.monotonic()
            self._strike_until(started + self.options.seconds)
            self._heal()
            self.settled = self._settle()
            self._finish()
        return self._report(time.monotonic() - started)

    def _begin(self) -> None:
        options = self.options
        self.machine = machine_of(options.store)
        self.store = _store(options.store, self.folder)
        self._stack.callback(self.store.stop)
        if options.small_disk:
            self.store.take_small_disk()
        self.store.start()
        self.bus = Service("tests.chaos.bus_service", self.folder, free_port())
        warehouse = "file_service" if options.warehouse == "duckdb" else "warehouse_service"
        self.warehouse = Service(f"tests.chaos.{warehouse}", self.folder, free_port())
        for service in (self.warehouse, self.bus):
            service.start()
            self._stack.callback(service.kill)
        # More nights than can begin are laid out for nothing.
        self._has_to_begin_all = bool(options.nights_max)
        options.nights_max = options.nights_max or int(options.seconds / options.night_every_s) + 1
        self._plan = draw_nights(options.seed, GRACE_S, options.kinds)
        self._draw_more_nights()
        bus_address = f"127.0.0.1:{self.bus.port}"
        self.settings = settings = self._connect()
        self.history.note(
            "settings", seed=options.seed, store=options.store, warehouse=options.warehouse, workers=options.workers,
            lease_s=LEASE_S, grace_s=GRACE_S, attempts_max=ATTEMPTS_MAX, rows_min=200, score_min=75.0,
        )  # fmt: skip
        self.workers = [WorkerProcess(f"worker-{n}", self.folder, settings) for n in range(options.workers)]
        for worker in self.workers:
            self._start_worker(worker)
        self._stack.callback(self._stop_workers)
        keeping = threading.Thread(target=self._keep_workers, name="keeper", daemon=True)
        keeping.start()
        self._wait(lambda: any(worker.http() for worker in self.workers), 60.0, "a worker starts")
        self.watch = StoreWatch(self.store.client, self.history)
        self.receiver = Receiver(bus_address, self.history)
        self.processors = Processors(bus_address, self.history)
        self._stack.callback(self.processors.close)
        self.observers = [
            Observer("store", self.watch.look),
            Observer("outcomes", self.receiver.look),
            Observer("reader", self._look, 1.0),
        ]
        for observer in self.observers:
            observer.start()
            self._stack.callback(observer.stop)
        self._acting = threading.Thread(target=self._act, name="processors", daemon=True)
        self._acting.start()
        self.nemesis = Nemesis(
            Stage(
                workers=self.workers,
                store=self.store,
                bus=self.bus,
                warehouse=self.warehouse,
                links=self.links,
                watch=self.watch,
                history=self.history,
                lease_s=LEASE_S,
                recover=self._recover,
                dice=self._dice,
            ),
            self.options.acts,
        )

    def _connect(self) -> dict[str, str]:
        """Lay the links between the workers and the servers, and return the settings of a worker."""
        # Workers and the operator reach each server through a link; this process sees the servers themselves.
        self.links = {"bus": Link(self.bus.port)}
        if self.options.warehouse == "bigquery":
            self.links["warehouse"] = Link(self.warehouse.port)
        for link in self.links.values():
            link.start()
            self._stack.callback(link.stop)
        settings = {
            **SETTINGS,
            "MLFS_DATA_DIR": str(self.folder / "data"),
            "MLFS_PUBSUB": f"emulator://127.0.0.1:{self.links['bus'].port}",
            "MLFS_WAREHOUSE": f"duckdb://{self.folder / FILE}",
        }
        if "warehouse" in self.links:
            settings["MLFS_WAREHOUSE"] = "bigquery://chaos?location=US"
            settings["MLFS_BIGQUERY_ENDPOINT"] = f"http://127.0.0.1:{self.links['warehouse'].port}"
        if not isinstance(self.store, EmbeddedStore):
            self.links["store"] = self.store.front
            settings["MLFS_REDIS_URL"] = self.store.url
            settings["MLFS_REDIS_REPLICAS"] = str(self.store.replicas)
        return settings

    def _strike_until(self, end: float) -> None:
        """Nights begin and the nemesis strikes until the time is up."""
        beginning = threading.Thread(target=self._begin_nights, name="nights", daemon=True)
        beginning.start()
        replaying = threading.Thread(target=self._replay_now_and_then, name="operator", daemon=True)
        if self.options.replays:
            replaying.start()
        low, high = self.options.gap_s
        while time.monotonic() < end and (not self.options.acts or self.nemesis.has_more):
            pause(self._dice.uniform(low, high))
            said = self.nemesis.strike()
            self.options.say(f"{len(self.nights):5d} nights, {self._open():2d} open   {said}")
        if self._has_to_begin_all:
            self._wait(lambda: len(self.nights) >= self.options.nights_max or time.monotonic() >= end, 600.0, "nights")
        self._stopping.set()
        beginning.join()
        if self.options.replays:
            replaying.join()

    def _heal(self) -> None:
        self.bus.order("plan")
        self.warehouse.order("clear")
        self.history.note("healed")
        for worker in self.workers:
            if worker.place:
                worker.place = ""
                worker.meant = True
                worker.signal(signal.SIGKILL)

    def _settle(self) -> bool:
        """Wait until nothing is left to do; then replay, as an operator would, what faults have used up."""
        calm = self._wait_calm()
        exhausted = [day for day, record in self._records().items() if _used_up(record)]
        for day in exhausted:
            self._replay(day, f"operator-{day}")
        return (calm and self._wait_calm()) if exhausted else calm

    def _wait_calm(self) -> bool:
        return self._wait(self._is_calm, self.options.settle_s, "everything comes to rest", strict=False)

    def _is_calm(self) -> bool:
        try:
            if self._agenda or self.processors.pending or self._open():
                return False
            left = self.bus.order("undelivered", subscription=SUBSCRIPTION)
            return not left and not self.store.client().xlen("{mlfs:ml_feature_store_v2}:outbox")
        except (redis.RedisError, RuntimeError):
            return False

    def _finish(self) -> None:
        """The last observations."""
        pause(1.0)
        self._acting.join(timeout=5)
        for observer in self.observers:
            observer.stop()
        for _ in range(3):
            self.receiver.look()
        self.watch.dump()
        self._note_metrics()
        self._stop_workers()
        dump = self.warehouse.order("dump")
        for name, rows in dump.items():
            for row in rows:
                self.history.note(f"final_{name}", row=row)
        days = [night.day.isoformat() for night in self.nights]
        for row in self.warehouse.order("expected", days=days):
            self.history.note("final_expected", row=row)
        unacked = self.bus.order("undelivered", subscription=SUBSCRIPTION)
        self.history.note("final_bus", unacked=unacked, faults=self.bus.order("counts"), settled=self.settled)
        merge(self.history, "acked", self.folder / "acks.jsonl")
        merge(self.history, "job", self.folder / "jobs.jsonl")

    # --- workers -----------------------------------------------------------------------------------------------------

    def _start_worker(self, worker: WorkerProcess) -> None:
        place, skew = worker.place, worker.skew_s
        pid = worker.start()
        self.history.note("worker", name=worker.name, pid=pid, event="started", place=place, skew_s=skew)

    def _keep_workers(self) -> None:
        """Start every worker again that has ended."""
        while not self._ending.wait(0.1):
            for worker in self.workers:
                code = worker.ended()
                if code is None or self._ending.is_set():
                    continue
                reached = bool(worker.armed) and code == -signal.SIGKILL and not worker.killed
                self.history.note(
                    "worker", name=worker.name, pid=worker.pid, event="ended", code=code, meant=worker.meant,
                    reached=reached,
                    place=worker.armed,
                )  # fmt: skip
                if reached:
                    self.reached[worker.armed] += 1
                if worker.place == worker.armed:
                    worker.place = ""
                pause(RESTART_AFTER_S)
                self._start_worker(worker)

    def _stop_workers(self) -> None:
        self._ending.set()
        for worker in self.workers:
            worker.stop()

    # --- nights ------------------------------------------------------------------------------------------------------

    def _draw_more_nights(self) -> None:
        self._drawn = list(itertools.islice(self._plan, self.options.nights_max))
        self.warehouse.order("prepare", nights=[[night.day.isoformat(), night.roster] for night in self._drawn])

    def _begin_nights(self) -> None:
        for night in self._drawn:
            while self._open() >= OPEN_MAX and not self._stopping.is_set():
                pause(0.1)
            if self._stopping.wait(self.options.night_every_s):
                return
            self.nights.append(night)
            kind = {"date": night.day.isoformat(), "night": night.kind, "roster": night.roster}
            self.history.note("night", **kind, actions=[vars_of(action) for action in night.actions])
            for action in night.actions:
                self._later(action.after_s, lambda night=night, action=action: self._do(night, action))
            if self._dice.random() < POISON_SHARE:
                self._later(self._dice.uniform(0, 3), self._poison)

    def _later(self, after_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time.monotonic() + after_s, next(self._ticket), act))

    def _act(self) -> None:
        """Do what is due; a warehouse that stands still holds the processors up, too."""
        while not self._ending.wait(0.02):
            while self._agenda and self._agenda[0][0] <= time.monotonic():
                due = self._agenda[0][2]
                try:
                    due()
                except RuntimeError:
                    pause(0.2)
                    continue
                heapq.heappop(self._agenda)

    def _do(self, night: Night, action: Any) -> None:
        day = night.day.isoformat()
        if action.writes:
            self.warehouse.order("write", day=day, processor=action.processor)
            self.history.note("wrote", date=day, processor=action.processor)
        if not action.status:
            return
        rows = next(self._rows)
        body = report_body(night.day, action, rows)
        fields = {
            "date": day, "processor": action.processor, "status": action.status, "run": action.run,
            "rows": rows if action.status == "success" else None,
        }  # fmt: skip
        for _ in range(action.times):
            self.processors.publish(body, "published", fields)

    def _poison(self) -> None:
        self.processors.publish(draw_poison(self._dice), "poison", {})

    def _open(self) -> int:
        states = self.watch.states
        return sum(states.get(night.day.isoformat()) not in ENDED for night in list(self.nights))

    # --- the operator ------------------------------------------------------------------------------------------------

    def _command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "ops", *words],
            env=environment(self.settings), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False,
        )  # fmt: skip

    def _recover(self) -> None:
        """After a loss: `mlfs recover`, until it succeeds."""
        for tries in range(10):
            done = self._command("recover", "--days", "9000", "--seek-hours", "1", "--yes", "--json")
            self.history.note("operator", command="recover", code=done.returncode, tries=tries, said=done.stderr[-300:])
            if done.returncode == 0:
                return
            pause(1.0)
        raise RuntimeError(f"mlfs recover does not succeed: {done.stderr}")

    def _replay(self, day: str, key: str) -> bool:
        for _ in range(6):
            done = self._command(
                "replay", day, "--reason", "chaos", "--yes", "--idempotency-key", key, "--json",
            )  # fmt: skip
            self.history.note(
                "operator", command="replay", date=day, key=key, code=done.returncode, said=done.stdout[-2000:],
                error=done.stderr[-300:],
            )  # fmt: skip
            if done.returncode in {0, 3}:
                return True
            if done.returncode == 2:
                return False
            pause(1.0)
        return False

    def _replay_now_and_then(self) -> None:
        """Somebody has a finished night built again, and sends the request twice."""
        while not self._stopping.wait(REPLAY_EVERY_S):
            finished = [day for day, state in list(self.watch.states.items()) if state == "done"]
            if finished:
                day = self._dice.choice(sorted(finished))
                key = f"chaos-{day}-{len(self.replayed)}"
                self.replayed[day] = self.replayed.get(day, 0) + 1
                for _ in range(2):
                    self._replay(day, key)

    # --- observing ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self.history.note("look", **self.warehouse.order("look"))

    def _records(self) -> dict[str, Any]:
        client = self.store.client()
        found = {}
        for night in self.nights:
            day = night.day.isoformat()
            stored = client.hget(f"{{mlfs:ml_feature_store_v2}}:date:{day}", "r")
            if stored:
                found[day] = json.loads(stored)
        return found

    def _note_metrics(self) -> None:
        wanted = ("mlfs_dates{", "mlfs_outbox_pending", "mlfs_corrupt_records", "mlfs_stream_up", "mlfs_state_store_up")
        for worker in self.workers:
            address = worker.http()
            try:
                text = httpx.get(f"{address}/metrics", timeout=10).text
                ready = httpx.get(f"{address}/readyz", timeout=10).status_code
            except httpx.HTTPError as exc:
                self.history.note("final_metrics", name=worker.name, error=f"{type(exc).__name__}: {exc}")
                continue
            lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith(wanted)]
            values = {name: float(value) for name, _, value in lines}
            self.history.note("final_metrics", name=worker.name, values=values, ready=ready)

    def _wait(self, holds: Callable[[], object], timeout_s: float, what: str, *, strict: bool = True) -> bool:
        give_up_at = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > give_up_at:
                if strict:
                    raise RuntimeError(f"not within {timeout_s:g} s: {what}; see {self.folder}")
                return False
            pause(0.2)
        return True

    def _report(self, seconds: float) -> dict[str, Any]:
        return {
            "seed": self.options.seed,
            "store": self.options.store,
            "warehouse": self.options.warehouse,
            "workers": self.options.workers,
            **self.machine,
            "load_at_end": load(),
            "seconds": round(seconds, 1),
            "settled": self.settled,
            "nights": dict(Counter(night.kind for night in self.nights)),
            "faults": dict(sorted(self.nemesis.done.items())),
            "not possible here": sorted(self.nemesis.impossible),
            "crash places reached": dict(sorted(self.reached.items())),
            "lines": self.history.counts,
            "verdict": judge(self.history.path),
        }


def vars_of(action: Any) -> dict[str, Any]:
    return {"after_s": round(action.after_s, 2), "processor": action.processor, "writes": action.writes,
            "status": action.status, "run": action.run, "times": action.times}  # fmt: skip


def _store(name: str, folder: Path) -> SingleStore | SentinelStore | EmbeddedStore:
    match name:
        case "sentinel":
            return SentinelStore("redis", folder)
        case "embedded":
            return EmbeddedStore(folder)
        case _:
            return SingleStore(name, folder)


def _used_up(record: dict[str, Any]) -> bool:
    failure = record.get("failure") or {}
    return record["state"] == "failed" and failure.get("because") in {"retries_exhausted", "fatal_error"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", choices=("redis", "valkey", "sentinel", "embedded"), default="redis")
    parser.add_argument("--warehouse", choices=("bigquery", "duckdb"), default="bigquery")
    parser.add_argument("--act", action="append", default=[], help="only these acts, in this order")
    parser.add_argument("--places", action="store_true", help="only crashes, at every registered place")
    parser.add_argument("--json", type=Path, help="write the report there")
    parser.add_argument("--keep", type=Path, help="keep history and logs in this folder")
    chosen = parser.parse_args()
    if chosen.store == "embedded" and chosen.workers != 1:
        # A folder has one owner.
        chosen.workers = 1
    kinds: list[str] = []
    if chosen.places:
        places = places_in(chosen.warehouse == "bigquery")
        chosen.act = [CRASH] * len(places)
        # So that every place is passed soon, the rare kinds are as many as the others.
        kinds = [*KINDS] * len(places)
    options = Options(
        seed=chosen.seed, seconds=chosen.minutes * 60, workers=chosen.workers, store=chosen.store,
        warehouse=chosen.warehouse, acts=chosen.act, kinds=kinds, small_disk=True,
        say=lambda text: print(text, flush=True),  # noqa: T201 - progress
    )  # fmt: skip
    # Whatever ends this process, its servers and its mount end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="mlfs-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    report = Run(folder, options).play()
    print(table(report))  # noqa: T201 - the report
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    failed = bool(report["verdict"]["violations"]) or not report["settled"]
    if failed:
        print(f"history and logs: {folder}")  # noqa: T201 - the report
    elif not chosen.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
