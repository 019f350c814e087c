"""What cannot be read in the store stops nothing else: it is passed over, counted and set aside; the indexes return."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from statemachine.model import DateRecord
from tests.contract.test_redis_store_faults import entry, message
from tests.contract.test_state_store_contract import parked, reported
from tests.support.nights import CACHE, DEADLINE, EVENING, NIGHT, after, running, success, unseen
from worker.adapters.redis.client import connect
from worker.adapters.redis.damage import DAMAGED_LENGTH_MAX, Damage
from worker.adapters.redis.requests import RedisRequests
from worker.adapters.redis.store import RedisStore
from worker.errors import CommitRefused, CorruptRecord, Refused
from worker.ports import Commit, Report

OTHER = NIGHT + timedelta(days=1)
FIRST: DateRecord = after(unseen(), success(CACHE))
LONG_AFTER = datetime(2100, 1, 1, tzinfo=UTC)
_pipelines = (f"damage-{number}" for number in count())
_operations = (f"operation-{number}" for number in count())


@pytest.fixture(params=["valkey_url", "redis_server_url"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with connect(str(request.getfixturevalue(request.param))) as made:
        yield made


@pytest.fixture
def store(client: redis.Redis) -> RedisStore:
    return RedisStore(client, next(_pipelines))


def keep(store: RedisStore, night: date = NIGHT, name: str = "m", reports: tuple[Report, ...] = ()) -> bool:
    """Store the first change of a date, with a message and an entry of its history."""
    record, change = replace(FIRST, analysis_date=night), replace(entry(name), reports=reports)
    return store.commit(Commit(record=record, operation_id=next(_operations), messages=[message(name)], history=change))


def told(store: RedisStore) -> list[str]:
    return [waiting.message.event_id for waiting in store.outbox(100)]


def set_aside(store: RedisStore) -> list[dict[bytes, bytes]]:
    return [fields for _id, fields in store._client.xrange(store._key("damaged"))]


# Each: what is put into the store, how often that counts, and under which kind.
MEMBERS: dict[str, Callable[[RedisStore], object]] = {
    "wake": lambda s: s._client.zadd(s._key("wake"), {b"junk": 1, b"20241215": 2, b"9999-12-31": 3}),
    "dates": lambda s: s._client.zadd(s._key("dates"), {b"junk": 999_999, b"2024-W50-7": 999_998, b"\xff": 999_997}),
    "arrivals": lambda s: s._client.zadd(s._key("arrivals"), {b"junk": 0, b"2024-12-15 ": 1, b"\xff": 2}),
    "outbox": lambda s: [s._client.xadd(s._key("outbox"), fields) for fields in BAD_OUTCOMES],
    "parked": lambda s: [s._client.xadd(s._key("parked"), {"zzz": 1}) for _ in range(3)],
}
BAD_OUTCOMES: Sequence[dict[Any, Any]] = (
    {"zzz": "1"},
    {"event_id": b"\xff", "topic": "t", "data": "", "attributes": "{}", "ordering_key": ""},
    {"event_id": "e", "topic": "t", "data": "", "attributes": '{"a": 1}', "ordering_key": ""},
)


@pytest.mark.parametrize("kind", MEMBERS)
def test_an_unreadable_member_is_passed_over_counted_and_set_aside(store: RedisStore, kind: str) -> None:
    MEMBERS[kind](store)
    keep(store, reports=reported("1").reports)
    keep(store, OTHER, "other")
    store.park(parked("refused"))

    with capture_logs() as lines:
        for _ in range(3):
            assert [NIGHT, OTHER] == sorted(store.due(LONG_AFTER, 100))
            assert [OTHER, NIGHT] == list(store.dates(10))
            assert [NIGHT] == [*store.unwritten_arrivals(10)]
            assert ["m", "other"] == told(store)
            assert [parked("refused")] == list(store.parked(10))
            assert store.next_wake() == DEADLINE

    assert {kind: 3} == {name: found for name, found in store.damage_counts().items() if found}
    assert [kind.encode()] * 3 == [fields[b"key"] for fields in set_aside(store)]
    assert [(kind, "error")] * 3 == [(line["key"], line["log_level"]) for line in lines], "once each, not at each pass"


def test_a_reader_that_may_change_nothing_moves_nothing(store: RedisStore) -> None:
    for spoil in MEMBERS.values():
        spoil(store)
    keep(store)
    before = {key: store._client.dump(key) for key in store._client.keys(f"{store._tag}:*")}
    reader = RedisStore(store._client, store._tag[len("{mlfs:") : -1], damage=(damage := Damage()))

    assert ([NIGHT], ["m"], []) == (list(reader.dates(1)), told(reader), list(reader.parked(10)))

    assert before == {key: store._client.dump(key) for key in store._client.keys(f"{store._tag}:*")}
    assert 9 == len(damage.faults())


def test_what_is_set_aside_is_bounded(store: RedisStore) -> None:
    store._client.zadd(store._key("wake"), {f"junk-{number}": number for number in range(2 * DAMAGED_LENGTH_MAX)})
    store._client.zadd(store._key("dates"), {b"x" * 1_000_000: 1})

    assert ([], []) == (list(store.due(LONG_AFTER, 10_000)), list(store.dates(10)))

    assert DAMAGED_LENGTH_MAX <= store._client.xlen(store._key("damaged")) <= 1.2 * DAMAGED_LENGTH_MAX
    assert max(len(fields[b"member"]) for fields in set_aside(store)) <= 16 * 1024


@pytest.mark.parametrize("key", ["wake", "dates", "arrivals", "outbox", "changes:2024-12-15"])
def test_a_commit_sets_a_key_of_another_kind_aside_and_is_stored_whole(store: RedisStore, key: str) -> None:
    client, spoiled = store._client, store._key(key)
    client.set(spoiled, "somebody else's")

    assert keep(store) is True

    assert client.get(store._key("damaged", key)) == b"somebody else's"
    assert 1 == store.damage_counts()[key.partition(":")[0]]
    assert 0 < client.pttl(store._key("damaged", key)) <= 30 * 24 * 3600 * 1000
    assert store.load(NIGHT) == FIRST
    assert [NIGHT] == list(store.due(LONG_AFTER, 10))
    assert ([NIGHT], ["m"]) == (list(store.dates(10)), told(store))
    assert ["m"] == [change.actor for change in store.history(NIGHT)]


@pytest.mark.parametrize("key", ["wake", "dates", "arrivals", "outbox", "changes:2024-12-15"])
def test_commits_sent_together_set_a_key_of_another_kind_aside(store: RedisStore, key: str) -> None:
    store._client.rpush(store._key(key), "x") if key != "changes:2024-12-15" else store._client.set(store._key(key), 1)
    commits = [
        Commit(record=replace(FIRST, analysis_date=night), operation_id=f"{night}", messages=[message(str(night))])
        for night in (NIGHT, OTHER)
    ]

    assert [True, True] == list(store.commit_all(commits))

    assert [str(NIGHT), str(OTHER)] == sorted(told(store)), "what was stored the first time is not stored again"


@pytest.mark.parametrize("key", ["wake", "dates"])
def test_an_index_that_was_set_aside_is_made_anew_from_the_records(store: RedisStore, key: str) -> None:
    nights = [NIGHT + timedelta(days=number) for number in range(5)]
    for night in nights:
        keep(store, night)
    store._client.delete(store._key(key))
    store._client.set(store._key(key), "somebody else's")

    store.due(LONG_AFTER, 10)
    store.dates(10)
    store.due(LONG_AFTER, 10)

    assert nights == sorted(store.due(LONG_AFTER, 10))
    assert nights == sorted(store.dates(10))
    assert ([], DEADLINE) == (list(store.faults()), store.next_wake())


def test_marks_of_arrivals_that_were_set_aside_return_for_every_date(store: RedisStore) -> None:
    """No one knows which arrivals are unwritten, and the table takes each once."""
    keep(store)
    keep(store, OTHER)
    store._client.set(store._key("arrivals"), "somebody else's")

    assert {} == store.unwritten_arrivals(10)
    store.due(LONG_AFTER, 10)

    assert {NIGHT: 0, OTHER: 0} == store.unwritten_arrivals(10)


def test_a_mark_of_a_commit_stays_when_the_indexes_are_made_anew(store: RedisStore) -> None:
    keep(store, reports=reported("1").reports)

    store.mend()

    assert {NIGHT: 1} == store.unwritten_arrivals(10)


def test_marks_of_another_kind_do_not_stop_their_removal(store: RedisStore) -> None:
    store._client.set(store._key("arrivals"), "somebody else's")

    store.arrivals_written({NIGHT: 1})

    assert 1 == store.damage_counts()["arrivals"]


def test_a_worker_that_dies_before_the_index_is_made_anew_leaves_that_to_the_next(store: RedisStore) -> None:
    keep(store)
    keep(store, OTHER)
    store._client.set(store._key("wake"), "somebody else's")
    third = NIGHT + timedelta(days=2)
    keep(store, third)  # the commit sets the index aside; its worker dies here

    successor = RedisStore(store._client, store._tag[len("{mlfs:") : -1])
    successor.due(LONG_AFTER, 10)

    assert [NIGHT, OTHER, third] == sorted(successor.due(LONG_AFTER, 10))


def test_a_record_of_another_kind_is_a_damaged_record_of_its_own_date(store: RedisStore) -> None:
    keep(store, OTHER)
    store._client.set(store._key("date", NIGHT.isoformat()), "somebody else's")

    with pytest.raises(CorruptRecord, match="2024-12-15"):
        store.load(NIGHT)
    assert [OTHER] == list(store.load_all([NIGHT, OTHER]))
    with pytest.raises(CommitRefused, match="2024-12-15"):
        keep(store)

    store.quarantine(NIGHT)
    assert keep(store) is True
    assert store._client.get(store._key("corrupt", NIGHT.isoformat())) == b"somebody else's"


@pytest.mark.parametrize("field", ["v", "n", "r"])
def test_a_record_beside_another_version_is_damaged(store: RedisStore, field: str) -> None:
    """Each commit would be a conflict, and no message about the date would ever be stored."""
    keep(store)
    store._client.hset(store._key("date", NIGHT.isoformat()), field, b"\xff")

    with pytest.raises(CorruptRecord):
        store.load(NIGHT)


RUNNING = replace(running(), version=1)


@pytest.mark.parametrize(
    "renewal",
    [
        b"junk",
        b"one",
        b"one junk",
        b"one \xff",
        b"one 2024-12-16T04:00:00",
        b"one 9999-12-31T23:59:59+00:00",
        b"\xff x",
    ],
)
def test_a_renewal_that_cannot_be_read_does_not_count_and_the_next_one_replaces_it(
    store: RedisStore, renewal: bytes
) -> None:
    store.commit(Commit(record=RUNNING, operation_id="one"))
    store._client.hset(store._key("date", NIGHT.isoformat()), "l", renewal)

    record = store.load(NIGHT)
    assert record == RUNNING

    until = EVENING + timedelta(hours=1)
    assert store.renew(record, until, "two") is True
    assert (RUNNING.with_lease_until(until), []) == (store.load(NIGHT), list(store.faults()))


def test_the_lease_of_a_record_that_lost_its_revision_is_renewed(store: RedisStore) -> None:
    store.commit(Commit(record=RUNNING, operation_id="one"))
    store._client.hdel(store._key("date", NIGHT.isoformat()), "n")
    until = EVENING + timedelta(hours=1)

    assert store.renew(store.load(NIGHT), until, "two") is True
    assert store.load(NIGHT) == RUNNING.with_lease_until(until)


def test_a_renewal_sets_an_index_of_another_kind_aside_and_is_stored(store: RedisStore) -> None:
    store.commit(Commit(record=RUNNING, operation_id="one"))
    store._client.set(store._key("wake"), "somebody else's")
    until = EVENING + timedelta(hours=1)

    assert store.renew(replace(RUNNING, revision="one"), until, "two") is True

    assert store._client.get(store._key("damaged", "wake")) == b"somebody else's"
    assert store.load(NIGHT) == RUNNING.with_lease_until(until)
    assert store.next_wake() == until


def test_an_index_made_anew_holds_the_renewed_lease(store: RedisStore) -> None:
    store.commit(Commit(record=RUNNING, operation_id="one"))
    until = EVENING + timedelta(hours=1)
    store.renew(replace(RUNNING, revision="one"), until, "two")
    store._client.delete(store._key("wake"))

    store.mend()

    assert store.next_wake() == until


@pytest.mark.parametrize(
    "junk",
    [
        b"junk",
        b"[" * 100_000,
        b"{}",
        json.dumps(["2024-12-15T22:00:00", "e", "", "", "r", 0, 0, "a", "d"]).encode(),
        json.dumps(["2024-12-15T22:00:00+00:00", "e", "", "", "r", "0", 0, "a", "d"]).encode(),
        json.dumps(["0001-01-01T00:00:00+00:00", "e", "", "", "r", 0, 0, "a", "d"]).encode(),
        json.dumps(["2024-12-15T22:00:00+00:00", "e", "", "", "r", 0, 0, "a", "\ud800"]).encode(),
        *(
            json.dumps(["2024-12-15T22:00:00+00:00", "e", "", "", "r", 0, 0, "a", "d", reports]).encode()
            for reports in (
                7,
                [[]],
                [["p", "r", "success", "2024-12-15", 1]],
                [["p", "r", "perhaps", "2024-12-15T22:00:00+00:00", 1]],
                [["p", "r", "success", "2024-12-15T22:00:00+00:00", "1"]],
                [["p", "\ud800", "success", "2024-12-15T22:00:00+00:00", 1]],
            )
        ),
    ],
)
def test_an_unreadable_change_hides_no_other_one(store: RedisStore, junk: bytes) -> None:
    keep(store)
    store._client.rpush(store._key("changes", NIGHT.isoformat()), junk)

    for _ in range(2):
        assert ["m"] == [change.actor for change in store.history(NIGHT)]

    assert 1 == store.damage_counts()["changes"]


def test_a_history_of_another_kind_reads_as_empty(store: RedisStore) -> None:
    store._client.set(store._key("changes", NIGHT.isoformat()), "somebody else's")

    assert [] == list(store.history(NIGHT))


@pytest.mark.parametrize("mark", [0, -5, float("-inf")])
def test_a_calendar_mark_that_is_no_date_is_set_aside(store: RedisStore, mark: float) -> None:
    store._client.zadd(store._key("calendar"), {"last_opened": mark})

    assert store.last_opened() is None
    store.set_last_opened(NIGHT)

    assert (NIGHT, 1) == (store.last_opened(), store.damage_counts()["calendar"])


@pytest.mark.parametrize("kind", ["calendar", "parked", "outbox"])
def test_a_shared_key_of_another_kind_does_not_stop_its_writers(store: RedisStore, kind: str) -> None:
    store._client.set(store._key(kind), "somebody else's")

    assert (None, 0) == (store.last_opened(), store.outbox_size())
    store.set_last_opened(NIGHT)
    store.park(parked("refused"))
    store.remove_from_outbox("1-1")

    assert (NIGHT, [parked("refused")], 1) == (
        store.last_opened(),
        list(store.parked(5)),
        store.damage_counts()[kind],
    )


def test_notes_of_another_kind_do_not_stop_the_outbox(store: RedisStore) -> None:
    keep(store)
    keep(store, OTHER, "other")
    spoil = partial(store._client.set, store._key("refused"), "somebody else's")

    spoil()
    assert ["m", "other"] == told(store)
    waiting_before = store.outbox(10)
    spoil()
    for waiting in waiting_before:
        store.note_refused(waiting.entry_id, "no such topic")
    assert ["no such topic"] * 2 == [waiting.error for waiting in store.outbox(10)]
    store._client.delete(store._key("refused"))
    first = store.outbox(1)[0].entry_id
    spoil()
    store.remove_from_outbox(first)

    assert (["other"], 3) == (told(store), store.damage_counts()["refused"])
    assert [] == list(store.faults())


def test_an_entry_leaves_the_outbox_though_its_note_is_of_another_kind(store: RedisStore) -> None:
    keep(store)
    [waiting] = store.outbox(10)
    store._client.set(store._key("refused"), "somebody else's")

    store.remove_from_outbox(waiting.entry_id)

    assert ([], 1, 0) == (told(store), store.damage_counts()["refused"], store.damage_counts()["outbox"])


@pytest.mark.parametrize("score", ["inf", "-inf", 9e18])
def test_a_score_that_is_no_instant_hides_no_other_wake(store: RedisStore, score: Any) -> None:
    keep(store)
    keep(store, OTHER)
    store._client.zadd(store._key("wake"), {OTHER.isoformat(): score})

    assert store.next_wake() == DEADLINE
    assert [f"{OTHER} is due at"] == [fault[: len("2024-12-16 is due at")] for fault in store.faults()]
    store.mend()
    assert ([], {NIGHT, OTHER}) == (list(store.faults()), set(store.due(LONG_AFTER, 10)))


def test_everything_that_is_damaged_is_named_and_mended(store: RedisStore) -> None:
    keep(store)
    for spoil in MEMBERS.values():
        spoil(store)
    store._client.rpush(store._key("changes", NIGHT.isoformat()), "junk")
    store._client.set(store._key("changes", OTHER.isoformat()), "somebody else's")
    store._client.zrem(store._key("wake"), NIGHT.isoformat())
    store._client.set(store._key("calendar"), "somebody else's")

    named = " ".join(store.faults())
    store.mend()

    assert all(name in named for name in ("wake", "dates", "outbox", "parked", "changes:2024-12-15", "calendar"))
    assert "changes:2024-12-16 is not a list" in named
    assert ([], [NIGHT], ["m"]) == (list(store.faults()), list(store.due(LONG_AFTER, 10)), told(store))


@pytest.mark.parametrize("stored", [b"junk", b"{}", b'{"fingerprint": 1, "answer": null}'])
def test_an_unreadable_request_is_refused_and_says_how_to_go_on(client: redis.Redis, stored: bytes) -> None:
    requests = RedisRequests(client, next(_pipelines))
    client.set(requests._key("k"), stored)

    with pytest.raises(Refused, match="under a new key"):
        requests.begin("k", "asked", timedelta(days=1))
    assert requests.begin("other", "asked", timedelta(days=1)) is None


def test_a_request_of_another_kind_is_refused(client: redis.Redis) -> None:
    requests = RedisRequests(client, next(_pipelines))
    client.rpush(requests._key("k"), "x")

    with pytest.raises(Refused, match="under a new key"):
        requests.begin("k", "asked", timedelta(days=1))
