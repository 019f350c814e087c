"""One suite for every state store: memory, Redis logic alone, and the two servers the product runs on."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count

import fakeredis
import pytest

from statemachine.model import CompletionStatus, DateRecord
from tests.support.memory_store import MemoryStore
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    EVENING,
    NIGHT,
    PROCESSORS,
    SECOND,
    after,
    claimed,
    committed,
    degraded,
    done,
    running,
    success,
    unseen,
    waiting,
)
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.errors import CorruptRecord
from worker.ports import Commit, HistoryEntry, OutgoingMessage, ParkedMessage, Report, StateStore

PARKED_MIN, PARKED_MAX = 1000, 1100
OTHER_NIGHT = date(2024, 12, 16)
LATER = CUTOFF + timedelta(minutes=7)
_pipelines = (f"pipeline-{number}" for number in count())


@pytest.fixture(params=["memory", "fakeredis", "valkey", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[StateStore]:
    """An empty store of each kind; a pipeline of its own keeps it apart from others on the same server."""
    match request.param:
        case "memory":
            made: StateStore = MemoryStore()
        case "fakeredis":
            made = RedisStore(fakeredis.FakeStrictRedis(), next(_pipelines))
        case "valkey":
            made = RedisStore(connect(request.getfixturevalue("valkey_url")), next(_pipelines))
        case _:
            made = RedisStore(connect(request.getfixturevalue("redis_server_url")), next(_pipelines))
    yield made
    made.close()


Keep = Callable[..., bool]


@pytest.fixture
def keep(store: StateStore) -> Keep:
    """Store a record under an operation id of its own, as decided on what is stored now if the versions allow that."""
    numbers = count()

    def commit(record: DateRecord, *messages: OutgoingMessage, history: HistoryEntry | None = None) -> bool:
        operation_id = f"operation-{next(numbers)}"
        stored = store.load(record.analysis_date)
        if stored is not None and stored.version == record.version - 1:
            record = replace(record, revision=stored.revision)
        return store.commit(
            Commit(record=record, operation_id=operation_id, messages=messages, history=history, expires_after_s=None)
        )

    return commit


def first(night: date = NIGHT, **fields: object) -> DateRecord:
    """A record as first stored."""
    return replace(after(unseen(night), success(CACHE)), **fields)


def message(name: str, key: str = "2024-12-15") -> OutgoingMessage:
    return OutgoingMessage(
        event_id=name, topic="success", data=b'{"a": "\xc3\xa9"}', attributes={"state": "done"}, ordering_key=key
    )


def entry(reason: str) -> HistoryEntry:
    return HistoryEntry(
        at=EVENING,
        event="completion_received",
        before="",
        after="waiting",
        reason=reason,
        generation=0,
        attempt=0,
        actor="worker-a",
        detail="José reported",
    )


def reported(*runs: str) -> HistoryEntry:
    """A change by which reports count."""
    told = [
        Report(processor=CACHE, run=f"rün:{run}", status=status, completed_at=EVENING, row_count=rows)
        for run, status, rows in zip(runs, CompletionStatus, (400, None, 0), strict=False)
    ]
    return replace(entry("recorded"), reports=tuple(told))


def parked(name: str) -> ParkedMessage:
    return ParkedMessage(
        reason="not_json",
        detail="no — not this",
        message_id=name,
        received_at=EVENING,
        data=b"\x00\xff",
        attributes={"processor": CACHE},
    )


def spoil(store: StateStore, night: date, stored: bytes) -> None:
    """Put *stored* where the record of the date lies."""
    if isinstance(store, MemoryStore):
        store._records[night] = (1, "operation-0", stored)
    elif isinstance(store, RedisStore):
        store._client.hset(store._key("date", night.isoformat()), "r", stored)


# --- records ---------------------------------------------------------------------------------------------------------


def test_a_date_never_seen_has_no_record(store: StateStore) -> None:
    assert store.load(NIGHT) is None
    assert list(store.history(NIGHT)) == []


@pytest.mark.parametrize("record", [waiting(*PROCESSORS[:2]), after(waiting(*PROCESSORS), claimed()), done()])
def test_what_was_committed_is_what_is_loaded(store: StateStore, keep: Keep, record: DateRecord) -> None:
    record = replace(record, version=1)

    assert keep(record) is True

    assert record == store.load(NIGHT)


def test_a_commit_on_a_version_that_has_moved_on_stores_nothing(store: StateStore, keep: Keep) -> None:
    keep(first())
    winner = after(first(), success(PROCESSORS[0]))
    keep(winner, message("winner"), history=entry("winner"))
    loser = replace(after(first(), success(PROCESSORS[1])), wake_at=CUTOFF)

    assert keep(loser, message("loser"), history=entry("loser")) is False

    assert winner == store.load(NIGHT)
    assert ["winner"] == [item.message.event_id for item in store.outbox(10)]
    assert ["winner"] == [item.reason for item in store.history(NIGHT)]
    assert winner.wake_at == store.next_wake()


def test_a_decision_on_a_lost_record_is_not_stored_on_the_next_life_of_the_date(store: StateStore, keep: Keep) -> None:
    """Versions begin at 1 again after a loss; a decision that was under way then must not land on what came after."""
    keep(first())
    decided_before_the_loss = after(store.load(NIGHT), success(PROCESSORS[0]))
    spoil(store, NIGHT, b"lost")
    store.quarantine(NIGHT)
    keep(first(wake_at=CUTOFF))

    assert (
        store.commit(Commit(record=decided_before_the_loss, operation_id="late", messages=[message("late")])) is False
    )

    assert first(wake_at=CUTOFF) == store.load(NIGHT)
    assert store.outbox_size() == 0


def test_the_revision_of_a_record_is_the_operation_that_stored_it(store: StateStore) -> None:
    store.commit(Commit(record=first(), operation_id="one"))
    stored = store.load(NIGHT)
    store.commit(Commit(record=after(stored, success(PROCESSORS[0])), operation_id="two"))

    assert ("one", "two") == (stored.revision, store.load(NIGHT).revision)


def test_a_first_commit_of_a_date_that_exists_is_a_conflict(keep: Keep) -> None:
    keep(first())

    assert keep(first()) is False


def test_a_commit_ahead_of_the_stored_version_is_a_conflict(store: StateStore, keep: Keep) -> None:
    assert keep(first(version=3)) is False
    assert store.load(NIGHT) is None


def test_an_operation_sent_twice_is_stored_once(store: StateStore) -> None:
    commit = Commit(record=first(), operation_id="one", messages=[message("m")], history=entry("recorded"))

    assert [True, True] == [store.commit(commit), store.commit(commit)]

    assert store.outbox_size() == 1
    assert len(store.history(NIGHT)) == 1


def test_an_operation_is_recognised_even_after_others_have_moved_the_date_on(store: StateStore, keep: Keep) -> None:
    commit = Commit(record=first(), operation_id="one", messages=[message("m")])
    store.commit(commit)
    newer = after(first(), success(PROCESSORS[0]))
    keep(newer)

    assert store.commit(commit) is True

    assert newer == store.load(NIGHT)
    assert store.outbox_size() == 1


def held(store: StateStore, keep: Keep) -> DateRecord:
    """Store a running record; return the record as loaded."""
    assert keep(replace(running(), version=1)) is True
    record = store.load(NIGHT)
    assert record is not None
    return record


def test_a_renewal_extends_the_lease_and_changes_nothing_else(store: StateStore, keep: Keep) -> None:
    record = held(store, keep)

    assert store.renew(record, LATER, "renewal") is True

    renewed = store.load(NIGHT)
    assert renewed == record.with_lease_until(LATER)
    assert renewed is not None
    assert ("renewal", record.version, LATER) == (renewed.revision, renewed.version, renewed.wake_at)
    assert ([], [NIGHT], LATER) == (list(store.due(LATER - SECOND, 10)), list(store.due(LATER, 10)), store.next_wake())
    assert list(store.load_all([NIGHT]).values()) == [renewed]


def test_a_renewal_of_a_record_that_was_changed_is_a_conflict(store: StateStore, keep: Keep) -> None:
    record = held(store, keep)
    keep(replace(record, version=2))

    assert store.renew(record, LATER, "renewal") is False

    assert store.load(NIGHT) == replace(record, version=2)
    assert store.next_wake() == record.wake_at


def test_a_renewal_of_a_lost_record_is_a_conflict(store: StateStore, keep: Keep) -> None:
    record = held(store, keep)

    assert store.renew(replace(record, revision="of a former life"), LATER, "renewal") is False
    assert store.renew(replace(record, analysis_date=OTHER_NIGHT), LATER, "renewal") is False

    assert (record, None) == (store.load(NIGHT), store.load(OTHER_NIGHT))
    assert store.next_wake() == record.wake_at


def test_a_decision_on_the_record_before_a_renewal_is_a_conflict(store: StateStore, keep: Keep) -> None:
    """The lease had ended when the sweep read the record; meanwhile the worker renewed the lease."""
    record = held(store, keep)
    store.renew(record, LATER, "renewal")

    assert store.commit(Commit(record=replace(record, version=2), operation_id="expiry")) is False

    assert store.load(NIGHT) == record.with_lease_until(LATER)


def test_a_renewal_sent_twice_is_stored_once(store: StateStore, keep: Keep) -> None:
    record = held(store, keep)

    assert [True, True] == [store.renew(record, LATER, "renewal") for _ in range(2)]

    assert store.load(NIGHT) == record.with_lease_until(LATER)


def test_a_commit_after_a_renewal_replaces_the_renewal(store: StateStore, keep: Keep) -> None:
    record = held(store, keep)
    store.renew(record, LATER, "renewal")
    keep(replace(record, version=2))

    assert store.load(NIGHT) == replace(record, version=2)
    assert store.next_wake() == record.wake_at


@pytest.mark.parametrize("stored", [b"", b"\x80\xff", b"{}", b"null", b'{"schema":99}', b"[" * 100_000])
def test_a_damaged_record_is_reported_and_other_dates_are_untouched(
    store: StateStore, keep: Keep, stored: bytes
) -> None:
    keep(first())
    keep(first(OTHER_NIGHT))
    spoil(store, NIGHT, stored)

    with pytest.raises(CorruptRecord, match="2024-12-15"):
        store.load(NIGHT)

    assert first(OTHER_NIGHT) == store.load(OTHER_NIGHT)
    assert [OTHER_NIGHT, NIGHT] == list(store.dates(10))
    assert {NIGHT, OTHER_NIGHT} == set(store.due(CUTOFF + timedelta(days=1), 10))


def test_a_damaged_record_is_set_aside_and_the_date_begins_anew(store: StateStore, keep: Keep) -> None:
    keep(first(), message("one"), history=entry("before"))
    keep(first(OTHER_NIGHT))
    spoil(store, NIGHT, b"damaged")

    store.quarantine(NIGHT)

    assert store.load(NIGHT) is None
    assert [NIGHT, OTHER_NIGHT] == sorted(store.due(CUTOFF + timedelta(days=1), 10)), "a sweep still finds the date"
    assert keep(first()) is True
    assert (first(), first(OTHER_NIGHT)) == (store.load(NIGHT), store.load(OTHER_NIGHT))
    assert (1, ["before"]) == (store.outbox_size(), [item.reason for item in store.history(NIGHT)])


def test_a_finished_date_whose_record_is_set_aside_is_due_at_once(store: StateStore, keep: Keep) -> None:
    """It was in no wake index; if the worker dies before it has begun the date anew, a sweep has to find it."""
    keep(replace(done(), version=1))
    spoil(store, NIGHT, b"damaged")

    store.quarantine(NIGHT)

    assert [NIGHT] == list(store.due(EVENING, 10))


def test_of_two_workers_that_set_a_record_aside_the_slower_one_harms_nothing(store: StateStore, keep: Keep) -> None:
    keep(first())
    spoil(store, NIGHT, b"damaged")
    store.quarantine(NIGHT)
    keep(first())

    store.quarantine(NIGHT)

    assert first() == store.load(NIGHT)


def test_setting_aside_what_is_not_there_does_nothing(store: StateStore) -> None:
    store.quarantine(NIGHT)

    assert store.load(NIGHT) is None


# --- what is due -----------------------------------------------------------------------------------------------------


def test_dates_come_due_in_the_order_of_their_instants(store: StateStore, keep: Keep) -> None:
    nights = [NIGHT + timedelta(days=offset) for offset in range(4)]
    wakes = [DEADLINE, DEADLINE - SECOND, DEADLINE + SECOND, DEADLINE]
    for night, wake_at in zip(nights, wakes, strict=True):
        keep(first(night, wake_at=wake_at))

    assert [nights[1], nights[0], nights[3]] == list(store.due(DEADLINE, 10))
    assert [nights[0]] == list(store.due(DEADLINE, 1, skip=1))
    assert [nights[1]] == list(store.due(DEADLINE, 1))
    assert list(store.due(DEADLINE - 2 * SECOND, 10)) == []
    assert store.next_wake() == DEADLINE - SECOND


def test_a_date_is_due_at_its_latest_instant_only(store: StateStore, keep: Keep) -> None:
    keep(first())
    keep(replace(first(), version=2, wake_at=CUTOFF))

    assert list(store.due(DEADLINE, 10)) == []
    assert [NIGHT] == list(store.due(CUTOFF, 10))


def test_a_finished_date_is_never_due(store: StateStore, keep: Keep) -> None:
    keep(first())
    keep(replace(done(), version=2))

    assert list(store.due(datetime(2100, 1, 1, tzinfo=UTC), 10)) == []
    assert store.next_wake() is None


def test_an_instant_is_kept_to_the_millisecond(store: StateStore, keep: Keep) -> None:
    wake_at = DEADLINE + timedelta(milliseconds=7)
    keep(first(wake_at=wake_at))

    assert wake_at == store.next_wake()


# --- dates, history, messages ----------------------------------------------------------------------------------------


def test_dates_are_listed_newest_first(store: StateStore, keep: Keep) -> None:
    nights = [NIGHT + timedelta(days=offset) for offset in (3, 0, 20, -40)]
    for night in nights:
        keep(first(night))

    assert sorted(nights, reverse=True) == list(store.dates(10))
    assert [max(nights)] == list(store.dates(1))


def test_history_tells_the_story_in_order(store: StateStore, keep: Keep) -> None:
    record = first()
    keep(record, history=entry("one"))
    keep(replace(record, version=2))
    keep(replace(record, version=3), history=entry("three"))
    keep(first(OTHER_NIGHT), history=entry("another date"))

    assert [entry("one"), entry("three")] == list(store.history(NIGHT))


def test_the_outbox_gives_messages_in_order_until_each_is_removed(store: StateStore, keep: Keep) -> None:
    keep(replace(degraded(CACHE), version=1), message("one"), message("two"), history=entry("one"))
    keep(replace(done(), analysis_date=OTHER_NIGHT, version=1), message("three", "2024-12-16"), history=entry("two"))

    entries = list(store.outbox(10))
    assert [message("one"), message("two"), message("three", "2024-12-16")] == [item.message for item in entries]
    assert entries[:2] == list(store.outbox(2))
    assert entries[1:] == list(store.outbox(10, after=entries[0].entry_id))
    queued = [item.queued_at for item in entries if item.queued_at is not None]
    assert (3, sorted(queued)) == (len(queued), queued)

    store.remove_from_outbox(entries[1].entry_id)
    store.remove_from_outbox(entries[1].entry_id)

    assert ["one", "three"] == [item.message.event_id for item in store.outbox(10)]
    assert store.outbox_size() == 2


def test_what_the_bus_answered_is_kept_with_the_message_and_goes_with_it(store: StateStore, keep: Keep) -> None:
    keep(replace(degraded(CACHE), version=1), message("one"), message("two"), history=entry("one"))
    refused, other = store.outbox(10)

    for error in ("away", "the topic is gone: ⌀"):
        store.note_refused(refused.entry_id, error)
    assert ["the topic is gone: ⌀", ""] == [item.error for item in store.outbox(10)]

    store.remove_from_outbox(refused.entry_id)
    store.note_refused(other.entry_id, "away")
    assert [("two", "away")] == [(item.message.event_id, item.error) for item in store.outbox(10)]


def test_parked_messages_come_newest_first_with_every_byte(store: StateStore) -> None:
    for name in ("first", "second", "third"):
        store.park(parked(name))

    assert [parked("third"), parked("second")] == list(store.parked(2))


def test_parked_messages_are_bounded(store: StateStore) -> None:
    for number in range(PARKED_MAX + 150):
        store.park(parked(str(number)))

    kept = store.parked(2 * PARKED_MAX)
    assert PARKED_MIN <= len(kept) <= PARKED_MAX
    assert kept[0].message_id == str(PARKED_MAX + 149)


def test_the_calendar_mark_only_rises(store: StateStore) -> None:
    assert store.last_opened() is None

    for night in (NIGHT, OTHER_NIGHT, NIGHT):
        store.set_last_opened(night)

    assert store.last_opened() == OTHER_NIGHT


def test_a_mark_that_is_too_high_is_lowered_once(store: StateStore) -> None:
    assert store.lower_last_opened(ceiling=NIGHT, to=NIGHT) is False
    store.set_last_opened(date.max)

    lowered = [store.lower_last_opened(ceiling=OTHER_NIGHT, to=NIGHT) for _ in range(2)]

    assert [True, False] == lowered
    assert store.last_opened() == NIGHT
    store.set_last_opened(OTHER_NIGHT)
    assert store.last_opened() == OTHER_NIGHT


def test_a_mark_that_is_not_too_high_is_not_lowered(store: StateStore) -> None:
    store.set_last_opened(OTHER_NIGHT)

    assert store.lower_last_opened(ceiling=OTHER_NIGHT, to=NIGHT) is False
    assert store.last_opened() == OTHER_NIGHT


def test_a_store_that_is_there_answers(store: StateStore) -> None:
    store.check_writable()
    store.barrier()


def test_a_published_date_keeps_its_result_through_a_replay(store: StateStore, keep: Keep) -> None:
    keep(replace(done(), version=1))
    rebuilt = after(done(), committed(generation=2), now=DEADLINE)
    keep(replace(rebuilt, version=2))

    assert replace(rebuilt, version=2) == store.load(NIGHT)


def chain(*commits: Commit) -> list[Commit]:
    """The same commits, each decided on what the one before it stores."""
    revisions = ["", *(commit.operation_id for commit in commits)]
    return [
        replace(commit, record=replace(commit.record, version=place + 1, revision=revisions[place]))
        for place, commit in enumerate(commits)
    ]


def test_commits_sent_together_may_follow_one_another_on_a_date(store: StateStore) -> None:
    commits = chain(*(Commit(record=waiting(*PROCESSORS[: n + 1]), operation_id=f"op-{n}") for n in range(3)))
    other = Commit(record=first(OTHER_NIGHT), operation_id="other", messages=[message("m")], history=entry("other"))

    assert [True] * 4 == list(store.commit_all([*commits, other]))

    assert commits[2].record == store.load(NIGHT)
    assert ("op-2", "other") == (store.load(NIGHT).revision, store.load(OTHER_NIGHT).revision)
    assert [["m"], ["other"]] == [
        [item.message.event_id for item in store.outbox(10)],
        [item.reason for item in store.history(OTHER_NIGHT)],
    ]


def test_what_was_decided_on_a_commit_that_lost_its_race_is_not_stored_either(store: StateStore, keep: Keep) -> None:
    """The winner has reached the very version that the second commit expects, but it is another record."""
    keep(first(wake_at=CUTOFF))
    commits = chain(*(Commit(record=waiting(*PROCESSORS[: n + 1]), operation_id=f"late-{n}") for n in range(2)))

    assert [False, False] == list(store.commit_all(commits))

    assert first(wake_at=CUTOFF) == store.load(NIGHT)


def test_several_records_are_read_at_once_without_the_damaged_one(store: StateStore, keep: Keep) -> None:
    keep(first())
    keep(first(OTHER_NIGHT))
    spoil(store, OTHER_NIGHT, b"damaged")
    unseen_night = NIGHT + timedelta(days=9)

    assert {NIGHT: first(), unseen_night: None} == store.load_all([NIGHT, OTHER_NIGHT, unseen_night])
    assert (store.load(NIGHT).revision, {}) == (store.load_all([NIGHT])[NIGHT].revision, store.load_all([]))


def test_nothing_sent_together_stores_nothing(store: StateStore) -> None:
    assert [] == list(store.commit_all([]))


def test_a_date_is_never_due_before_its_instant(store: StateStore, keep: Keep) -> None:
    """One that fires a fraction of a millisecond early finds nothing due, and waits for the next tick."""
    wake_at = EVENING + timedelta(microseconds=300)
    keep(first(wake_at=wake_at))

    assert [] == list(store.due(wake_at - timedelta(microseconds=1), 10))
    assert store.next_wake() >= wake_at
    assert [NIGHT] == list(store.due(store.next_wake(), 10))


def test_what_is_overdue_hides_no_later_wake(store: StateStore, keep: Keep) -> None:
    keep(first(wake_at=EVENING))
    keep(first(OTHER_NIGHT, wake_at=CUTOFF))

    assert [EVENING, CUTOFF, None] == [store.next_wake(), store.next_wake(after=EVENING), store.next_wake(after=CUTOFF)]


# --- unwritten arrivals ----------------------------------------------------------------------------------------------


def test_reports_come_back_with_the_change_that_counted_them(store: StateStore, keep: Keep) -> None:
    changes = [reported("1"), entry("opened"), reported("1", "2", "3")]
    for version, change in enumerate(changes, 1):
        keep(first(version=version), history=change)

    assert changes == list(store.history(NIGHT))


def test_a_commit_with_reports_marks_its_date_until_the_mark_is_removed(store: StateStore, keep: Keep) -> None:
    keep(first(OTHER_NIGHT), history=entry("opened"))
    assert {} == store.unwritten_arrivals(10)

    keep(first(), history=reported("1"))
    keep(first(version=2), history=entry("claimed"))
    marks = store.unwritten_arrivals(10)
    assert [NIGHT] == [*marks]
    store.arrivals_written({})
    assert marks == store.unwritten_arrivals(10)
    store.arrivals_written(marks)
    store.arrivals_written(marks)

    assert {} == store.unwritten_arrivals(10)


def test_a_mark_that_a_later_commit_replaced_stays(store: StateStore, keep: Keep) -> None:
    keep(first(), history=reported("1"))
    keep(first(OTHER_NIGHT), history=reported("1"))
    marks = store.unwritten_arrivals(10)
    keep(first(version=2), history=reported("2"))

    store.arrivals_written(marks)

    assert [NIGHT] == [*store.unwritten_arrivals(10)]


def test_marks_are_read_page_by_page(store: StateStore, keep: Keep) -> None:
    nights = [NIGHT + timedelta(days=number) for number in range(5)]
    for night in nights:
        keep(first(night), history=reported("1"))

    pages = [[*store.unwritten_arrivals(2, skip)] for skip in (0, 2, 4, 6)]

    assert ([2, 2, 1, 0], nights) == ([len(page) for page in pages], sorted(night for page in pages for night in page))


def test_a_commit_that_is_not_stored_marks_nothing(store: StateStore) -> None:
    conflicting = Commit(record=first(version=5), operation_id="late", history=reported("1"))

    assert store.commit(conflicting) is False
    assert {} == store.unwritten_arrivals(10)
