"""What goes wrong in a chaos run: a seeded bag of acts, one at a time, each undone before the next.

Every act notes when it began, when its cause was gone, and what it hit. An act gives None where this machine or this
run cannot do it; the report says so.
"""

import random
import resource
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.chaos.crashing import PLACES
from tests.chaos.history import TAG, History, StoreWatch, now
from tests.chaos.services import Service, WorkerProcess, pause
from tests.chaos.stores import SentinelStore, SingleStore

CRASH = "worker crashes at a place"
CRASHES_MORE = 5
# A start takes seconds, and a place may lie in a night that comes later; then the worker stays armed.
PLACE_WITHIN_TENTHS = 150


@dataclass
class Stage:
    """What the nemesis can reach."""

    workers: Sequence[WorkerProcess]
    store: SingleStore | SentinelStore
    bus: Service
    warehouse: Service
    watch: StoreWatch
    history: History
    lease_s: float
    recover: Callable[[], None]
    dice: random.Random
    places: list[str] = field(default_factory=list)

    def worker(self) -> WorkerProcess:
        return self.dice.choice(self.workers)

    @property
    def single(self) -> SingleStore | None:
        return self.store if isinstance(self.store, SingleStore) else None


Act = Callable[[Stage], str | None]


# --- workers ---------------------------------------------------------------------------------------------------------


def kill_worker(stage: Stage) -> str:
    worker = stage.worker()
    worker.meant = True
    worker.signal(signal.SIGKILL)
    pause(0.5)
    return worker.name


def kill_every_worker(stage: Stage) -> str:
    for worker in stage.workers:
        worker.meant = True
        worker.signal(signal.SIGKILL)
    pause(1.0)
    return "all"


def crash_at_a_place(stage: Stage) -> str:
    """Restart a worker so that it dies at the next registered place; its next start is a sound one."""
    if not stage.places:
        stage.places = stage.dice.sample(list(PLACES), len(PLACES))
    sound = [worker for worker in stage.workers if not worker.armed]
    worker = stage.dice.choice(sound or list(stage.workers))
    place = stage.places.pop()
    worker.place = place
    worker.meant = True
    worker.signal(signal.SIGKILL)
    for _ in range(PLACE_WITHIN_TENTHS):
        if worker.place != place:
            break
        pause(0.1)
    return f"{worker.name}: {place}"


def freeze_worker(stage: Stage) -> str:
    """A zombie: it stands still beyond its lease and then goes on with what it had in hand."""
    worker = stage.worker()
    worker.signal(signal.SIGSTOP)
    pause(stage.lease_s * 1.6)
    worker.signal(signal.SIGCONT)
    return worker.name


def stop_worker(stage: Stage) -> str:
    worker = stage.worker()
    worker.meant = True
    worker.signal(signal.SIGTERM)
    for _ in range(100):
        if worker.ended() is not None or not worker.meant:
            break
        pause(0.1)
    return worker.name


def squeeze_memory(stage: Stage) -> str | None:
    """A worker gets no more address space for a while; then the machine kills it, as it would."""
    worker = stage.worker()
    try:
        pages = int(Path(f"/proc/{worker.pid}/statm").read_text(encoding="ascii").split()[0])
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))
    except (OSError, ProcessLookupError):
        return None
    worker.meant = True
    pause(3.0)
    worker.signal(signal.SIGKILL)
    return worker.name


def squeeze_files(stage: Stage) -> str | None:
    """A worker may open nothing more for a while, and must come through by itself."""
    worker = stage.worker()
    try:
        soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (8, hard))
        pause(4.0)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ProcessLookupError):
        return None
    return worker.name


def skew_clock(stage: Stage) -> str | None:
    """One replica lives minutes ahead or behind for a while."""
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    if library is None:
        return None
    worker = stage.worker()
    worker.skew_s = stage.dice.choice((-90, -20, 20, 90))
    worker.extra = {"LD_PRELOAD": str(library), "FAKETIME": f"{worker.skew_s:+d}s"}
    worker.meant = True
    worker.signal(signal.SIGKILL)
    pause(12.0)
    hit = f"{worker.name}: {worker.skew_s:+d} s"
    worker.extra, worker.skew_s = {}, 0
    worker.meant = True
    worker.signal(signal.SIGKILL)
    return hit


# --- the store -------------------------------------------------------------------------------------------------------


def kill_redis(stage: Stage) -> str | None:
    if stage.single is None:
        return None
    stage.single.server.kill()
    pause(stage.dice.uniform(0.0, 3.0))
    stage.single.server.start()
    return "restarted"


def freeze_redis(stage: Stage) -> str:
    server = stage.store.server
    server.signal(signal.SIGSTOP)
    # Under sentinels a longer one is another act: they would elect.
    pause(stage.dice.uniform(2.5, 6.0) if stage.single is not None else 0.8)
    server.signal(signal.SIGCONT)
    return "frozen"


def flush_redis(stage: Stage) -> str:
    with stage.watch.set_back():
        stage.store.client().flushall()
    stage.recover()
    return "empty"


def truncate_log(stage: Stage) -> str | None:
    """Power loss: the end of the log is gone."""
    if stage.single is None:
        return None
    server = stage.single.server
    with stage.watch.set_back():
        server.kill()
        cut = server.truncate(stage.dice.choice((37, 500, 4000, 20000)))
        server.start()
    stage.recover()
    return f"{cut} bytes"


def restore_old_copy(stage: Stage) -> str | None:
    """The store comes back as it was a while ago."""
    if stage.single is None:
        return None
    server = stage.single.server
    copy = server.folder.parent / "old-copy"
    server.copy_log(copy)
    pause(6.0)
    with stage.watch.set_back():
        server.kill()
        server.put_back(copy)
        server.start()
    stage.recover()
    return "6 s old"


def fill_memory(stage: Stage) -> str:
    client = stage.store.client()
    client.config_set("maxmemory", "1mb")
    pause(3.0)
    client.config_set("maxmemory", "0")
    return "maxmemory 1mb"


def read_only(stage: Stage) -> str | None:
    """As after a failover that the address has not followed: every write is refused."""
    if stage.single is None:
        return None
    client = stage.store.client()
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    pause(3.0)
    client.execute_command("REPLICAOF", "NO", "ONE")
    return "replica of nobody"


def fill_disk(stage: Stage) -> str | None:
    """The log cannot be written: a server that logs always ends, one that logs every second refuses writes."""
    if stage.single is None:
        return None
    server = stage.single.server
    always = stage.dice.random() < 0.5
    if not always:
        server.client().config_set("appendfsync", "everysec")
    if stage.single.small_disk:
        how = "small disk full"
        ballast = server.fill_disk()
        pause(4.0)
        ballast.unlink(missing_ok=True)
    else:
        how = "RLIMIT_FSIZE"
        server.limit_files(1)
        pause(4.0)
        with suppress(ProcessLookupError, OSError):
            server.limit_files(resource.RLIM_INFINITY)
    if server.process is not None and server.process.poll() is not None:
        server.start()
        return f"{how}, the server ended"
    for _ in range(100):
        with suppress(redis.RedisError):
            server.client().config_set("appendfsync", "always")
            server.client().set("chaos:probe", 1)
            return f"{how}, writes were refused"
        pause(0.1)
    server.kill()
    server.start()
    return f"{how}, restarted"


def forget_scripts(stage: Stage) -> str:
    stage.store.client().script_flush()
    return "NOSCRIPT"


def corrupt_a_record(stage: Stage) -> str | None:
    days = [day for day, state in stage.watch.states.items() if state in {"waiting", "ready", "degraded", "done"}]
    if not days:
        return None
    day = stage.dice.choice(sorted(days)[-6:])
    with stage.watch._lock:
        stage.store.client().hset(f"{TAG}:date:{day}", "r", stage.dice.choice((b"{", b'{"schema": 999}', b"\x00\xff")))
        # Nobody looks at a date on which nothing is due; the sweep is made to.
        stage.store.client().zadd(f"{TAG}:wake", {day: 0})
    return day


# --- sentinels -------------------------------------------------------------------------------------------------------


def fail_over_by_death(stage: Stage) -> str | None:
    store = stage.store
    if not isinstance(store, SentinelStore):
        return None
    old = store.master
    with stage.watch.set_back():
        store.servers[old].kill()
        elected = store.wait_for_election(old)
        store.follow()
        store.servers[old].options.pop("replicaof", None)
        store.servers[old].start()
        store.settle()
    return "elected" if elected else "no election"


def fail_over_by_order(stage: Stage) -> str | None:
    store = stage.store
    if not isinstance(store, SentinelStore):
        return None
    old = store.master
    with stage.watch.set_back():
        with suppress(redis.RedisError):
            store.sentinels[0].client().execute_command("SENTINEL", "FAILOVER", "chaos")
        elected = store.wait_for_election(old)
        pause(1.0)
        store.follow()
        store.settle()
    return "elected" if elected else "no election"


def cut_the_master_off(stage: Stage) -> str | None:
    """Master and workers on one side, sentinels and replica on the other; then the network is mended."""
    store = stage.store
    if not isinstance(store, SentinelStore):
        return None
    old = store.master
    with stage.watch.set_back():
        store.links[old].cut()
        elected = store.wait_for_election(old)
        pause(stage.dice.uniform(1.0, 4.0))
        store.links[old].mend()
        store.follow()
        store.settle()
    return "elected" if elected else "no election"


# --- the bus ---------------------------------------------------------------------------------------------------------


def kill_bus(stage: Stage) -> str:
    stage.bus.restart()
    return "restarted"


def freeze_bus(stage: Stage) -> str:
    stage.bus.signal(signal.SIGSTOP)
    pause(stage.dice.uniform(2.0, 5.0))
    stage.bus.signal(signal.SIGCONT)
    return "frozen"


def silence_streams(stage: Stage) -> str:
    return f"{stage.bus.order('silence')} streams"


def close_streams(stage: Stage) -> str:
    return f"{stage.bus.order('close')} streams"


def storm_on_bus(stage: Stage) -> str:
    plan = {"duplicate": 0.3, "drop_ack": 0.1, "reorder": 0.8, "close": 0.02}
    stage.bus.order("plan", **plan, seed=stage.dice.randrange(1000))
    pause(6.0)
    stage.bus.order("plan")
    return "duplicates, lost acks, disorder"


# --- the warehouse ---------------------------------------------------------------------------------------------------


def _planned(fault: str, jobs: str, times: int, lasts_s: float) -> Act:
    def act(stage: Stage) -> str:
        stage.warehouse.order("fault", fault=fault, jobs=jobs, times=times)
        pause(lasts_s)
        stage.warehouse.order("clear")
        return jobs

    return act


def freeze_warehouse(stage: Stage) -> str:
    stage.warehouse.signal(signal.SIGSTOP)
    pause(stage.dice.uniform(2.0, 6.0))
    stage.warehouse.signal(signal.SIGCONT)
    return "frozen"


ACTS: Mapping[str, Act] = {
    "worker killed": kill_worker,
    "all workers killed": kill_every_worker,
    CRASH: crash_at_a_place,
    "worker frozen beyond its lease": freeze_worker,
    "worker stopped": stop_worker,
    "worker without memory": squeeze_memory,
    "worker without file descriptors": squeeze_files,
    "worker with a wrong clock": skew_clock,
    "store killed": kill_redis,
    "store frozen": freeze_redis,
    "store emptied": flush_redis,
    "store's log truncated": truncate_log,
    "store restored from an old copy": restore_old_copy,
    "store out of memory": fill_memory,
    "store read-only": read_only,
    "store's disk full": fill_disk,
    "store forgets scripts": forget_scripts,
    "record corrupted": corrupt_a_record,
    "failover, master dead": fail_over_by_death,
    "failover by order": fail_over_by_order,
    "failover, master cut off with its clients": cut_the_master_off,
    "bus killed": kill_bus,
    "bus frozen": freeze_bus,
    "streams silent": silence_streams,
    "streams closed": close_streams,
    "bus repeats, loses and shuffles": storm_on_bus,
    "jobs refused with 503": _planned("REFUSED", ".", 8, 3.0),
    "jobs accepted, answer lost": _planned("REPLY_LOST", "claim|features|publish", 4, 4.0),
    "publication silent after its commit": _planned("SILENCE", "-publish-", 1, 4.0),
    "jobs exist already": _planned("DUPLICATE", "claim|features|publish", 4, 4.0),
    "transactions aborted": _planned("CONFLICT", "claim|publish", 5, 4.0),
    "jobs limited in rate": _planned("RATE_LIMIT", "claim|features|publish", 4, 4.0),
    "jobs slow": _planned("SLOW", "claim|features|publish", 4, 4.0),
    "jobs stuck": _planned("STUCK", "claim|features|publish", 2, 5.0),
    "warehouse frozen": freeze_warehouse,
}


class Nemesis:
    """Draws acts from a bag until it is empty, and then from a new one."""

    def __init__(self, stage: Stage, chosen: Sequence[str] = ()) -> None:
        self.stage = stage
        self._fixed = list(chosen)
        self._bag: list[str] = []
        self.done: Counter[str] = Counter()
        self.impossible: set[str] = set()

    @property
    def has_more(self) -> bool:
        return bool(self._fixed)

    def strike(self) -> str:
        """One act."""
        name = self._next()
        began = now()
        hit = ACTS[name](self.stage)
        if hit is None:
            self.impossible.add(name)
        else:
            self.done[name] += 1
            self.stage.history.note("act", act=name, hit=hit, begin=began, end=now(), life=self.stage.watch.life)
        return f"{name}: {hit}"

    def _next(self) -> str:
        if self._fixed:
            return self._fixed.pop(0)
        if not self._bag:
            possible = sorted(set(ACTS) - self.impossible)
            # Places are many, so a bag holds several of them.
            bag = [*possible, *[CRASH] * CRASHES_MORE]
            self._bag = self.stage.dice.sample(bag, len(bag))
        return self._bag.pop()
