"""One suite for every memory of requests: in one process, Redis logic alone, and the servers the product runs on."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import count

import fakeredis
import pytest
import redis

from tests.support.memory_requests import MemoryRequests
from tests.support.rigs import ModelClock
from worker.adapters.redis.client import connect
from worker.adapters.redis.requests import RedisRequests
from worker.errors import Unavailable
from worker.ports import Remembered, RequestLog

DAY = timedelta(days=1)
_pipelines = (f"requests-{number}" for number in count())


@pytest.fixture(params=["memory", "fakeredis", "valkey", "redis"])
def requests(request: pytest.FixtureRequest) -> Iterator[RequestLog]:
    match request.param:
        case "memory":
            yield MemoryRequests(ModelClock())
        case "fakeredis":
            yield RedisRequests(fakeredis.FakeStrictRedis(), next(_pipelines))
        case kind:
            url = request.getfixturevalue("valkey_url" if kind == "valkey" else "redis_server_url")
            with connect(url) as client:
                yield RedisRequests(client, next(_pipelines))


def test_the_first_takes_the_key_and_the_second_sees_that(requests: RequestLog) -> None:
    first, second = requests.begin("k", "asked", DAY), requests.begin("k", "asked otherwise", DAY)

    assert (None, Remembered(fingerprint="asked", answer=None)) == (first, second)


def test_the_answer_is_told_again(requests: RequestLog) -> None:
    requests.begin("k", "asked", DAY)
    requests.finish("k", "asked", "answered", DAY)

    assert [Remembered(fingerprint="asked", answer="answered")] * 2 == [requests.begin("k", "x", DAY) for _ in "12"]


def test_a_forgotten_key_is_free_and_others_stay(requests: RequestLog) -> None:
    requests.begin("k", "asked", DAY)
    requests.begin("other", "asked", DAY)
    requests.forget("k")
    requests.forget("never taken")

    assert (None, True) == (requests.begin("k", "asked", DAY), requests.begin("other", "asked", DAY) is not None)


def test_one_of_many_at_the_same_moment_takes_the_key(requests: RequestLog) -> None:
    together, taken = threading.Barrier(8), []

    def take() -> None:
        together.wait(10)
        taken.append(requests.begin("k", "asked", DAY) is None)

    callers = [threading.Thread(target=take) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)

    assert 1 == sum(taken)


def test_an_entry_on_redis_expires(valkey_url: str) -> None:
    with connect(valkey_url) as client:
        requests = RedisRequests(client, "requests-expiring")
        requests.begin("k", "asked", timedelta(minutes=10))
        pending_s = client.ttl("{mlfs:requests-expiring}:request:k")
        requests.finish("k", "asked", "answered", DAY)
        kept_s = client.ttl("{mlfs:requests-expiring}:request:k")

    assert (595 < pending_s <= 600, 86_395 < kept_s <= 86_400) == (True, True)


def test_without_a_server_it_is_unavailable() -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    requests = RedisRequests(fakeredis.FakeStrictRedis(server=server), "requests-away")
    calls = (
        lambda: requests.begin("k", "asked", DAY),
        lambda: requests.finish("k", "asked", "answered", DAY),
        lambda: requests.forget("k"),
    )

    for call in calls:
        with pytest.raises(Unavailable) as caught:
            call()
        assert isinstance(caught.value.__cause__, redis.RedisError)
