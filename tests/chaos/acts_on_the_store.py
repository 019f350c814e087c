"""What goes wrong with the store: deaths, losses, shortages, failovers."""

import resource
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress

import redis

from tests.chaos.history import TAG
from tests.chaos.services import pause
from tests.chaos.stage import Act, Stage
from tests.chaos.stores import EmbeddedStore, SentinelStore


def kill_redis(stage: Stage) -> str | None:
    if stage.single is None:
        return None
    stage.single.server.kill()
    pause(stage.dice.uniform(0.0, 3.0))
    stage.single.server.start()
    return "restarted"


def kill_embedded(stage: Stage) -> str | None:
    """The worker's own child dies; the worker starts it again, and everything that was confirmed is there.

    After too many deaths in a minute the worker ends, and the next one starts the child.
    """
    if not isinstance(stage.store, EmbeddedStore):
        return None
    stage.store.server.kill()
    return "killed" if stage.store.serves() else "killed, and not started again"


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


def damage_an_index(stage: Stage) -> str | None:
    """Write into an index of the store a member or an entry that no worker can read, or replace its key."""
    with stage.watch._lock:
        client = stage.store.client()
        days = sorted(stage.watch.states)
        damages: dict[str, Callable[[], object]] = {
            "wake: a member that is no date": lambda: client.zadd(f"{TAG}:wake", {"junk": 1}),
            "dates: a member that is no date": lambda: client.zadd(f"{TAG}:dates", {"junk": 999999}),
            "outbox: an entry without its fields": lambda: client.xadd(f"{TAG}:outbox", {"zzz": "1"}),
            "parked: an entry without its fields": lambda: client.xadd(f"{TAG}:parked", {"zzz": "1"}),
            "parked: a key of another kind": lambda: client.set(f"{TAG}:parked", "x"),
            "refused: a key of another kind": lambda: client.set(f"{TAG}:refused", "x"),
            "calendar: a key of another kind": lambda: client.set(f"{TAG}:calendar", "x"),
        }
        if days:
            damages["changes: an element that is no change"] = lambda: client.rpush(
                f"{TAG}:changes:{stage.dice.choice(days[-6:])}", "junk"
            )
        what = stage.dice.choice(sorted(damages))
        damages[what]()
    pause(3.0)
    return what


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


STORE_ACTS: Mapping[str, Act] = {
    "store killed": kill_redis,
    "embedded store killed": kill_embedded,
    "store frozen": freeze_redis,
    "store emptied": flush_redis,
    "store's log truncated": truncate_log,
    "store restored from an old copy": restore_old_copy,
    "store out of memory": fill_memory,
    "store read-only": read_only,
    "store's disk full": fill_disk,
    "store forgets scripts": forget_scripts,
    "record corrupted": corrupt_a_record,
    "index damaged": damage_an_index,
    "failover, master dead": fail_over_by_death,
    "failover by order": fail_over_by_order,
    "failover, master cut off with its clients": cut_the_master_off,
}
