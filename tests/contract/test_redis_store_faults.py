"""What only a real server can get wrong: races, lost replies, keys of another kind, expiry, absence."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from itertools import count
from typing import Any

import pytest
import redis

from statemachine.model import DateRecord
from tests.conftest import free_port
from tests.support.nights import CACHE, EVENING, NIGHT, after, done, running, success, unseen
from worker.adapters.redis.client import connect
from worker.adapters.redis.damage import Damage
from worker.adapters.redis.store import HISTORY_LENGTH_MAX, RedisStore
from worker.errors import CommitRefused, Fatal, Unavailable
from worker.ports import Commit, HistoryEntry, OutgoingMessage

WRITERS, COMMITS_EACH = 4, 50
_pipelines = (f"faults-{number}" for number in count())
FIRST: DateRecord = after(unseen(), success(CACHE))


class ForgetfulClient(redis.Redis):
    """A client that loses the replies of the next scripts, or looks at the clock, after the server has run them."""

    replies_to_lose = 0

    def execute_command(self, *args: Any, **options: Any) -> Any:
        reply = super().execute_command(*args, **options)
        if args[0] in {"EVALSHA", "TIME"} and self.replies_to_lose:
            self.replies_to_lose -= 1
            raise redis.TimeoutError("the reply was lost")
        return reply


@pytest.fixture(params=["valkey_url", "redis_server_url"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with connect(url) as made:
        yield made


@pytest.fixture
def store(client: redis.Redis) -> RedisStore:
    return RedisStore(client, next(_pipelines))


def message(name: str) -> OutgoingMessage:
    return OutgoingMessage(event_id=name, topic="success", data=b"{}", attributes={}, ordering_key="2024-12-15")


def entry(name: str) -> HistoryEntry:
    return HistoryEntry(
        at=FIRST.opened_at,
        event="lease_renewed",
        before="waiting",
        after="waiting",
        reason=name,
        generation=0,
        attempt=0,
        actor=name,
        detail=name,
    )


def write_until_stored(store: RedisStore, name: str) -> None:
    """Store one more version of the date, as the engine does: load, decide, commit, and again after a conflict."""
    while True:
        before = store.load(NIGHT)
        record = FIRST if before is None else replace(before, version=before.version + 1)
        if store.commit(
            Commit(record=record, operation_id=name, messages=[message(name)], history=entry(name)),
        ):
            return


def test_writers_that_race_for_one_date_lose_nothing(url: str) -> None:
    """Four writers with a client each store fifty versions each: two hundred versions, messages, history entries."""
    pipeline, gate = next(_pipelines), threading.Barrier(WRITERS)

    def write(writer: int) -> None:
        with connect(url) as client:
            mine = RedisStore(client, pipeline)
            gate.wait()
            for number in range(COMMITS_EACH):
                write_until_stored(mine, f"{writer}-{number}")

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with connect(url) as client:
        store = RedisStore(client, pipeline)
        record = store.load(NIGHT)
        assert record is not None
        wanted = {f"{writer}-{number}" for writer in range(WRITERS) for number in range(COMMITS_EACH)}
        assert WRITERS * COMMITS_EACH == record.version
        assert wanted == {item.message.event_id for item in store.outbox(1000)}
        assert sorted(wanted) == sorted(item.actor for item in store.history(NIGHT))


def test_a_commit_whose_reply_is_lost_is_stored_once(url: str) -> None:
    with ForgetfulClient.from_url(url) as client:
        store = RedisStore(client, next(_pipelines))
        client.replies_to_lose = 1

        assert store.commit(Commit(record=FIRST, operation_id="one", messages=[message("m")])) is True

        assert client.replies_to_lose == 0
        assert store.load(NIGHT) == FIRST
        assert store.outbox_size() == 1


def test_a_second_lost_reply_is_an_outage_and_still_stored_once(url: str) -> None:
    with ForgetfulClient.from_url(url) as client:
        store = RedisStore(client, next(_pipelines))
        client.replies_to_lose = 2

        with pytest.raises(Unavailable, match="does not serve"):
            store.commit(Commit(record=FIRST, operation_id="one", messages=[message("m")]))

        assert store.load(NIGHT) == FIRST
        assert store.outbox_size() == 1


def test_a_renewal_whose_reply_is_lost_is_stored(url: str) -> None:
    until = EVENING + timedelta(hours=1)
    with ForgetfulClient.from_url(url) as client:
        store = RedisStore(client, next(_pipelines))
        store.commit(Commit(record=replace(running(), version=1), operation_id="one"))
        client.script_flush()
        client.replies_to_lose = 1

        assert store.renew(replace(running(), version=1, revision="one"), until, "two") is True

        assert client.replies_to_lose == 0
        assert store.load(NIGHT) == replace(running(), version=1).with_lease_until(until)


@pytest.mark.parametrize("spoiled", ["wake", "dates", "outbox", "changes:2024-12-15", "date:2024-12-15"])
def test_a_key_of_another_kind_leaves_nothing_half_written(client: redis.Redis, spoiled: str) -> None:
    store = RedisStore(client, next(_pipelines), damage=Damage())
    client.set(store._key(spoiled), "somebody else's")

    with pytest.raises(CommitRefused, match=f"2024-12-15: .*{spoiled} is a string"):
        store.commit(Commit(record=FIRST, operation_id="one", messages=[message("m")], history=entry("one")))

    assert [store._key(spoiled).encode()] == client.keys(f"{store._tag}:*")


def test_the_script_is_sent_again_after_the_server_forgot_it(store: RedisStore, client: redis.Redis) -> None:
    store.commit(Commit(record=FIRST, operation_id="one"))
    client.script_flush()

    assert store.commit(Commit(record=replace(FIRST, version=2, revision="one"), operation_id="two")) is True


def test_all_keys_of_a_pipeline_lie_in_one_slot_of_a_cluster(store: RedisStore, client: redis.Redis) -> None:
    store.commit(Commit(record=FIRST, operation_id="one", messages=[message("m")], history=entry("one")))
    store.set_last_opened(NIGHT)

    tags = {key.split(b"}")[0] for key in client.keys(f"{store._tag}:*")}

    assert {store._tag.encode().rstrip(b"}")} == tags


@pytest.mark.parametrize("mark", ["900000000000", "inf", "3652060"])
def test_a_mark_beyond_all_dates_reads_as_the_last_one_and_is_lowered(
    store: RedisStore, client: redis.Redis, mark: str
) -> None:
    client.zadd(store._key("calendar"), {"last_opened": mark})

    assert store.last_opened() == date.max
    assert store.lower_last_opened(ceiling=NIGHT, to=NIGHT) is True
    assert store.last_opened() == NIGHT


def test_history_is_bounded(store: RedisStore) -> None:
    for version in range(1, HISTORY_LENGTH_MAX + 150):
        name = str(version)
        before = str(version - 1) if version > 1 else ""
        record = replace(FIRST, version=version, revision=before)
        store.commit(Commit(record=record, operation_id=name, history=entry(name)))

    kept = store.history(NIGHT)
    assert len(kept) == HISTORY_LENGTH_MAX
    assert kept[-1].actor == str(HISTORY_LENGTH_MAX + 149)


def test_a_finished_date_expires_and_a_replay_keeps_it(store: RedisStore, client: redis.Redis) -> None:
    record, history = store._key("date", "2024-12-15"), store._key("changes", "2024-12-15")
    finished = replace(done(), version=1)

    store.commit(Commit(record=finished, operation_id="one", history=entry("one"), expires_after_s=100))
    assert all(0 < client.pttl(key) <= 100_000 for key in (record, history))

    store.commit(Commit(record=replace(finished, version=2, revision="one"), operation_id="two"))
    assert [-1, -1] == [client.pttl(key) for key in (record, history)]


def test_a_commit_that_too_few_replicas_hold_does_not_count_yet(client: redis.Redis) -> None:
    """It is stored, and the retry that the caller owes it finds it, under whatever operation id."""
    store = RedisStore(client, next(_pipelines), replicas=1)
    commit = Commit(record=FIRST, operation_id="one", messages=[message("m")])

    for call in (lambda: store.commit(commit), lambda: store.commit(commit), store.barrier):
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            call()

    assert store.load(NIGHT) == FIRST
    assert store.outbox_size() == 1
    assert store.commit(replace(commit, operation_id="two")) is False


def test_a_server_that_evicts_keys_is_refused(store: RedisStore, client: redis.Redis) -> None:
    store.check_server()
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(Fatal, match="noeviction"):
            store.check_server()
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def test_operations_are_forgotten_in_the_end(store: RedisStore, client: redis.Redis) -> None:
    store.commit(Commit(record=FIRST, operation_id="one"))

    assert 0 < client.pttl(store._key("op", "one")) <= 600_000


def test_an_absent_server_is_unavailable() -> None:
    with connect(f"redis://127.0.0.1:{free_port()}") as client:
        store = RedisStore(client, "absent")
        for call in (
            lambda: store.load(NIGHT),
            lambda: store.commit(Commit(record=FIRST, operation_id="1")),
            store.ping,
            store.check_writable,
        ):
            with pytest.raises(Unavailable, match="the state store does not serve"):
                call()


class ForgetfulPipeline(redis.client.Pipeline):
    """A pipeline whose next replies are lost after the server has run it."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        replies = super().execute(raise_on_error=raise_on_error)
        if ForgetfulPipelines.replies_to_lose:
            ForgetfulPipelines.replies_to_lose -= 1
            raise redis.TimeoutError("the reply was lost")
        return replies


class ForgetfulPipelines(redis.Redis):
    replies_to_lose = 0

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> ForgetfulPipeline:
        return ForgetfulPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def pair(*names: str) -> list[Commit]:
    """Two commits on one date, the second decided on the first."""
    one, two = names
    second = replace(FIRST, version=2, revision=one)
    return [
        Commit(record=FIRST, operation_id=one, messages=[message(one)]),
        Commit(record=second, operation_id=two, messages=[message(two)]),
    ]


def test_commits_sent_together_whose_reply_is_lost_are_stored_once(url: str) -> None:
    with ForgetfulPipelines.from_url(url) as client:
        store = RedisStore(client, next(_pipelines))
        ForgetfulPipelines.replies_to_lose = 1

        assert [True, True] == list(store.commit_all(pair("one", "two")))

        assert ForgetfulPipelines.replies_to_lose == 0
        assert ["one", "two"] == [item.message.event_id for item in store.outbox(10)]
        assert store.load(NIGHT).version == 2


def test_scripts_sent_together_are_sent_again_after_the_server_forgot_them(
    store: RedisStore, client: redis.Redis
) -> None:
    client.script_flush()

    assert [True, True] == list(store.commit_all(pair("one", "two")))

    assert store.outbox_size() == 2


def test_a_date_that_cannot_be_stored_does_not_keep_others_from_it(store: RedisStore, client: redis.Redis) -> None:
    client.set(store._key("date", NIGHT.isoformat()), "no hash")
    other = replace(FIRST, analysis_date=NIGHT.replace(day=16))

    answers = store.commit_all([*pair("one", "two"), Commit(record=other, operation_id="three")])

    assert [False, False, True] == list(answers)


def test_a_server_that_refuses_to_wait_confirms_no_commit(url: str, client: redis.Redis) -> None:
    """The account may write, but not ask for the replicas: what is stored does not count as replicated."""
    client.acl_setuser("no-wait", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-wait"])
    try:
        with connect(url.replace("redis://", "redis://no-wait:secret@")) as restricted:
            store = RedisStore(restricted, next(_pipelines), replicas=1)
            with pytest.raises(Unavailable):
                store.commit(Commit(record=FIRST, operation_id="one"))
    finally:
        client.acl_deluser("no-wait")


def test_a_look_at_the_clock_is_taken_again_where_its_reply_was_lost(url: str) -> None:
    client = ForgetfulClient.from_url(url)
    client.replies_to_lose = 1
    skew = RedisStore(client, next(_pipelines)).clock_skew(lambda: FIRST.opened_at)
    client.close()

    assert (client.replies_to_lose, skew > timedelta(0)) == (0, True)
