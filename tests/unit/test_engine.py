"""Load, decide, commit: what the engine stores, announces and refuses."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from types import FrameType

import pytest

from statemachine.events import CancelRequested, DateOpened, LeaseRenewed
from statemachine.invariants import violations
from statemachine.model import DateRecord, FailureKind, State
from statemachine.reasons import Reason
from tests.support.memory_store import MemoryStore
from tests.support.nights import (
    CACHE,
    DEADLINE,
    DEFENSE,
    MINUTE,
    NIGHT,
    NO_ROWS,
    PROCESSORS,
    REPLAY,
    SHOTS,
    broke,
    claimed,
    committed,
    probed,
    success,
    unseen,
)
from tests.support.rigs import WORKER, Rig
from worker.engine import COMMIT_TRIES_MAX
from worker.errors import Conflict, CorruptRecord, InvariantBroken, Unavailable
from worker.ports import Commit


class ContestedStore(MemoryStore):
    """Another writer is faster, as many times as told."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def commit(self, commit: Commit) -> bool:
        if self.times:
            self.times -= 1
            record = self.load(NIGHT) or unseen()
            super().commit(Commit(record=replace(record, version=record.version + 1), operation_id=f"o{self.times}"))
        return super().commit(commit)


class ForgettingStore(MemoryStore):
    """Puts a completion under a name that is not its own with each load, so that no change of it can be sound."""

    def load(self, analysis_date: date) -> DateRecord | None:
        record = super().load(analysis_date)
        if record is None:
            return None
        return replace(record, completions={"somebody_else": next(iter(record.completions.values()))})


class AbsentStore(MemoryStore):
    def commit(self, commit: Commit) -> bool:
        raise Unavailable(f"no server for {commit.operation_id}")


def test_a_change_is_stored_with_its_history_and_announced() -> None:
    rig = Rig()

    decision = rig.engine.apply(NIGHT, success(CACHE))

    assert decision.record == rig.store.load(NIGHT)
    [entry] = rig.store.history(NIGHT)
    assert ("completion_received", "", "waiting", "recorded") == (entry.event, entry.before, entry.after, entry.reason)
    assert (WORKER, f"{CACHE} reported success, 400 rows") == (entry.actor, entry.detail)
    assert [Reason.RECORDED] == [noted.decision.reason for noted in rig.notes.decisions]


def test_each_record_is_checked_once_on_read_and_once_before_a_commit() -> None:
    rig = Rig()
    checks = []

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code is violations.__code__:
            checks.append(frame)

    sys.setprofile(count)
    try:
        for name in PROCESSORS[:3]:
            rig.engine.apply(NIGHT, success(name))
    finally:
        sys.setprofile(None)

    # The first event finds no record: two reads and three commits.
    assert len(checks) == 5


def test_what_changes_nothing_is_announced_and_not_stored() -> None:
    rig = Rig()
    rig.engine.apply(NIGHT, success(CACHE))

    decision = rig.engine.apply(NIGHT, success(CACHE))

    assert Reason.DUPLICATE is decision.reason
    assert len(rig.store.history(NIGHT)) == 1
    assert len(rig.notes.decisions) == 2


def test_a_lease_renewal_is_stored_without_history_and_without_a_commit() -> None:
    class Counted(MemoryStore):
        commits = 0

        def commit(self, commit: Commit) -> bool:
            self.commits += 1
            return super().commit(commit)

    store = Counted()
    rig = Rig(store=store)
    for event in (*(success(name) for name in PROCESSORS), claimed()):
        rig.engine.apply(NIGHT, event)
    told_before, commits = len(rig.store.history(NIGHT)), store.commits
    rig.clock.forward(MINUTE / 3)

    decision = rig.engine.apply(NIGHT, LeaseRenewed(worker=WORKER, generation=1, attempt=1))

    assert (Reason.LEASE_RENEWED, commits) == (decision.reason, store.commits)
    assert decision.record == rig.store.load(NIGHT)
    assert told_before == len(rig.store.history(NIGHT))


def test_a_look_that_found_nothing_is_stored_without_history() -> None:
    rig = Rig()
    rig.engine.apply(NIGHT, success(CACHE))
    rig.clock.instant = DEADLINE
    for event in (probed(NO_ROWS), claimed(), committed(state=State.DEGRADED, rows=NO_ROWS)):
        rig.engine.apply(NIGHT, event)
    told_before = len(rig.store.history(NIGHT))

    rig.clock.instant = DEADLINE + MINUTE
    decision = rig.engine.apply(NIGHT, probed(NO_ROWS))

    assert (Reason.STILL_MISSING, DEADLINE + 2 * MINUTE) == (decision.reason, decision.record.wake_at)
    assert decision.record == rig.store.load(NIGHT)
    assert told_before == len(rig.store.history(NIGHT))
    assert rig.notes.decisions[-1].routine


def test_a_date_for_which_something_is_due_does_not_expire() -> None:
    """A failed one still has its deadline, which may be a week ahead; a degraded one its cutoff."""

    class Kept(MemoryStore):
        seconds: int | None = None

        def commit(self, commit: Commit) -> bool:
            self.seconds = commit.expires_after_s
            return super().commit(commit)

    store = Kept()
    rig = Rig(store=store, keep_finished=timedelta(days=1))
    for event in (success(CACHE), REPLAY, claimed(), broke(FailureKind.NO_DATA)):
        rig.engine.apply(NIGHT, event)
    assert (State.FAILED, None) == (rig.store.load(NIGHT).state, store.seconds)

    rig.clock.instant = DEADLINE
    for event in (probed(NO_ROWS), claimed(), broke(FailureKind.NO_DATA, generation=2)):
        rig.engine.apply(NIGHT, event)
    assert (State.FAILED, 86400) == (rig.store.load(NIGHT).state, store.seconds)


def test_the_worker_that_completes_the_join_is_told_to_build_at_once() -> None:
    rig = Rig()

    for name in PROCESSORS:
        rig.engine.apply(NIGHT, success(name))

    assert [NIGHT] == rig.started


def test_the_loser_of_a_race_decides_again_on_what_the_winner_stored() -> None:
    rig = Rig(store=ContestedStore(times=2))

    decision = rig.engine.apply(NIGHT, success(CACHE))

    assert decision.record.version == 3
    assert CACHE in decision.record.completions
    assert [2] == [noted.conflicts for noted in rig.notes.decisions]


def test_endless_conflicts_end_in_conflict() -> None:
    rig = Rig(store=ContestedStore(times=COMMIT_TRIES_MAX))

    with pytest.raises(Conflict, match="2024-12-15"):
        rig.engine.apply(NIGHT, success(CACHE))

    assert rig.notes.decisions == []


def test_a_change_that_would_break_a_rule_is_not_stored() -> None:
    store = ForgettingStore()
    rig = Rig(store=store)
    rig.engine.apply(NIGHT, success(CACHE))
    stored = MemoryStore.load(store, NIGHT)

    with pytest.raises(InvariantBroken, match="completions_under_their_own_name"):
        rig.engine.apply(NIGHT, success(PROCESSORS[0]))

    assert stored == MemoryStore.load(store, NIGHT)


def test_a_damaged_record_is_not_decided_on() -> None:
    store = MemoryStore()
    store._records[NIGHT] = (1, "operation", b"\x00")

    with pytest.raises(CorruptRecord):
        Rig(store=store).engine.apply(NIGHT, success(CACHE))

    assert store._records[NIGHT] == (1, "operation", b"\x00")


def test_an_absent_store_is_told_to_the_caller_and_to_nobody_else() -> None:
    rig = Rig(store=AbsentStore())

    with pytest.raises(Unavailable):
        rig.engine.apply(NIGHT, success(CACHE))

    assert ([], []) == (rig.notes.decisions, rig.started)


@pytest.mark.parametrize(
    ("ending", "state", "topic"),
    [
        (committed(), State.DONE, "success"),
        (committed(state=State.DEGRADED), State.DEGRADED, "success"),
        (broke(FailureKind.NO_DATA), State.FAILED, "failure"),
    ],
)
def test_every_ending_puts_its_outcome_into_the_outbox_with_the_same_commit(
    ending: object, state: State, topic: str
) -> None:
    rig = Rig()
    for event in (*(success(name) for name in PROCESSORS), claimed(), ending):
        rig.engine.apply(NIGHT, event)  # type: ignore[arg-type]

    [waiting_outcome] = rig.store.outbox(10)
    message = waiting_outcome.message
    body = json.loads(message.data)
    assert (topic, "2024-12-15") == (message.topic, message.ordering_key)
    assert (state, 1) == (body["state"], body["generation"])
    assert message.event_id == body["event_id"] == "ml_feature_store_v2:2024-12-15:1"
    assert {"processor", "analysis_date", "state", "generation", "event_id", "schema_version"} == set(
        message.attributes
    )
    assert ("1", 1) == (message.attributes["schema_version"], body["schema_version"])
    assert len(rig.outbox_calls) == 1


def test_a_preview_stores_nothing_and_tells_nobody() -> None:
    rig = Rig()
    rig.engine.apply(NIGHT, success(CACHE))
    told = len(rig.notes.decisions)

    before, decision = rig.engine.preview(NIGHT, CancelRequested(actor="ana", reason="why"))

    assert (State.WAITING, State.FAILED) == (before.state, decision.record.state)
    assert before == rig.store.load(NIGHT)
    assert told == len(rig.notes.decisions)


def test_the_history_names_the_person_who_acted() -> None:
    rig = Rig()
    rig.engine.apply(NIGHT, DateOpened())

    rig.engine.apply(NIGHT, CancelRequested(actor="ana", reason="why"), actor="ana@laptop")

    assert [WORKER, "ana@laptop"] == [entry.actor for entry in rig.store.history(NIGHT)]


def test_dates_do_not_touch_each_other() -> None:
    rig = Rig()
    other = NIGHT + timedelta(days=1)
    rig.engine.apply(NIGHT, success(DEFENSE))
    rig.engine.apply(other, success(SHOTS))
    rig.clock.instant = DEADLINE

    rig.engine.apply(NIGHT, probed(NO_ROWS))

    record = rig.store.load(other)
    assert record is not None
    assert (State.WAITING, {SHOTS}) == (record.state, set(record.completions))


def test_events_applied_together_are_decided_one_on_the_other() -> None:
    rig = Rig()
    other = date(2024, 12, 16)

    decisions = rig.engine.apply_all(
        [*((NIGHT, success(name)) for name in PROCESSORS), (other, success(PROCESSORS[0])), (NIGHT, success(CACHE))]
    )

    assert [d.reason for d in decisions] == [d.decision.reason for d in rig.notes.decisions]
    assert [4, 1] == [rig.store.load(night).version for night in (NIGHT, other)]
    assert Reason.DUPLICATE is decisions[-1].reason
    assert ([NIGHT], 4) == (rig.started, len(rig.store.history(NIGHT)))


def test_what_somebody_else_changed_meanwhile_is_left_to_be_applied_by_itself() -> None:
    store = MemoryStore()
    mine, theirs, other = Rig(store=store), Rig(store=store, worker="worker-b"), date(2024, 12, 16)

    def interfere(commits: Sequence[Commit]) -> Sequence[bool]:
        theirs.engine.apply(NIGHT, success(PROCESSORS[3]))
        return MemoryStore.commit_all(store, commits)

    store.commit_all = interfere  # type: ignore[method-assign]
    decisions = mine.engine.apply_all(
        [(NIGHT, success(PROCESSORS[0])), (other, success(PROCESSORS[0])), (NIGHT, success(PROCESSORS[1]))]
    )

    assert [None, Reason.RECORDED, None] == [d and d.reason for d in decisions]
    assert {PROCESSORS[3]} == set(store.load(NIGHT).completions)
    assert [other] == [d.decision.record.analysis_date for d in mine.notes.decisions]


def test_a_damaged_date_does_not_keep_others_from_being_stored_with_it() -> None:
    rig, other = Rig(), date(2024, 12, 16)
    rig.engine.apply(NIGHT, success(PROCESSORS[0]))
    version, revision, _stored = rig.store._records[NIGHT]
    rig.store._records[NIGHT] = (version, revision, b"damaged")

    decisions = rig.engine.apply_all([(NIGHT, success(PROCESSORS[1])), (other, success(PROCESSORS[1]))])

    assert [True, False] == [decision is None for decision in decisions]
