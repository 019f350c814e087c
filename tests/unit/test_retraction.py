"""A success that was announced by mistake: taken back by its run, it stays out, and the date does without or waits."""

from dataclasses import replace

import pytest

from schemas.record import decode_record, encode_record
from statemachine.decision import StartBuild
from statemachine.events import CompletionReceived
from statemachine.evidence import publication_is_retracted
from statemachine.model import RETRACTIONS_MAX, BuildMode, DateRecord, FailureKind, OnRerun, State, Trigger
from statemachine.reasons import Reason
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    EVENING,
    EVERY_TABLE_FILLED,
    FACTORS,
    MINUTE,
    NIGHT,
    POLICY,
    PROCESSORS,
    REPLAY,
    after,
    broke,
    claimed,
    closed,
    committed,
    completion,
    degraded,
    done,
    failed,
    joined,
    past_deadline,
    probed,
    retract,
    running,
    success,
    told,
    waiting,
    without,
)
from tests.unit.test_decide_published import CANCEL
from worker.errors import Refused
from worker.interventions.audit import taken_back
from worker.interventions.retractions import identity_to_take_back

NEXT = EVENING + MINUTE
TAKEN_BACK = after(waiting(CACHE), retract(CACHE))


def test_a_date_waits_for_another_run() -> None:
    again = told(TAKEN_BACK, success(CACHE, run="2", at=NEXT), NEXT)

    assert (State.WAITING, frozenset(), {CACHE}) == (TAKEN_BACK.state, TAKEN_BACK.counted, TAKEN_BACK.ignored)
    assert (Reason.RECORDED, {CACHE}, frozenset()) == (again.reason, again.record.counted, again.record.ignored)


@pytest.mark.parametrize(
    "report",
    [
        success(CACHE),
        success(CACHE, run="0", at=EVENING - MINUTE),
        replace(success(CACHE), completion=replace(completion(CACHE), completed_at=NEXT)),
    ],
    ids=["the run", "one that it had displaced", "the run, with another time"],
)
def test_no_redelivery_brings_it_back(report: object) -> None:
    decision = told(TAKEN_BACK, report, NEXT)  # type: ignore[arg-type]

    assert (Reason.RUN_RETRACTED, False) == (decision.reason, decision.changed)


def test_a_run_that_completes_after_the_retraction_counts_whatever_time_the_wrong_one_stated() -> None:
    ahead = after(waiting(FACTORS), success(CACHE, at=EVENING + 60 * MINUTE), retract(CACHE), now=NEXT)

    assert CACHE in after(ahead, success(CACHE, run="2", at=NEXT + MINUTE), now=NEXT + MINUTE).counted


@pytest.mark.parametrize(
    ("record", "event"),
    [
        (waiting(CACHE), retract(CACHE, run="2")),
        (waiting(CACHE), retract(FACTORS)),
        (after(waiting(CACHE), CANCEL), retract(CACHE)),
        (after(running(), CANCEL), retract(CACHE)),
    ],
    ids=["another run", "nothing reported", "cancelled", "being cancelled"],
)
def test_what_does_not_count_cannot_be_taken_back(record: DateRecord, event: object) -> None:
    decision = told(record, event)  # type: ignore[arg-type]

    assert (Reason.RETRACTION_REFUSED, record) == (decision.reason, decision.record)


def test_taken_back_twice_is_taken_back_once() -> None:
    assert Reason.DUPLICATE is told(TAKEN_BACK, retract(CACHE)).reason


def test_a_repeated_request_does_not_take_the_next_run_back() -> None:
    first = after(waiting(CACHE), retract(CACHE, request_id="r1"), success(CACHE, run="2", at=NEXT), now=NEXT)

    assert Reason.DUPLICATE is told(first, retract(CACHE, run="2", request_id="r1")).reason


def test_the_number_of_retractions_is_bounded() -> None:
    record = waiting(CACHE)
    for run in range(RETRACTIONS_MAX):
        at = EVENING + run * MINUTE
        record = after(record, success(CACHE, run=f"x{run}", at=at), retract(CACHE, run=f"x{run}"), now=at)
    late = EVENING + 60 * MINUTE

    assert len(record.retractions) == RETRACTIONS_MAX
    last = after(record, success(CACHE, run="last", at=late), now=late)
    assert Reason.RETRACTION_REFUSED is told(last, retract(CACHE, run="last"), late).reason


@pytest.mark.parametrize("tried", [False, True])
def test_a_join_that_no_longer_holds_waits_again(tried: bool) -> None:
    ready = after(running(), broke(FailureKind.UNAVAILABLE)) if tried else joined()

    decision = told(ready, retract(CACHE))

    assert (Reason.WAITS_AGAIN, State.WAITING) == (decision.reason, decision.record.state)
    assert (DEADLINE, ()) == (decision.record.wake_at, decision.effects)
    again = told(decision.record, success(CACHE, run="2", at=NEXT), NEXT)
    assert (Reason.JOIN_COMPLETE, 2) == (again.reason, again.record.generation)


def test_after_the_deadline_a_join_that_no_longer_holds_falls_back() -> None:
    decision = told(joined(), retract(CACHE), DEADLINE)

    assert (Reason.FALLBACK_FOLLOWS, State.READY, 2) == (
        decision.reason,
        decision.record.state,
        decision.record.generation,
    )
    assert Trigger.DEADLINE is decision.record.trigger
    assert any(isinstance(effect, StartBuild) for effect in decision.effects)


@pytest.mark.parametrize("ready", [past_deadline(FACTORS), after(waiting(CACHE), REPLAY)], ids=["deadline", "replay"])
def test_what_a_deadline_or_a_person_started_goes_on_without_the_table(ready: DateRecord) -> None:
    decision = told(ready, retract(CACHE), DEADLINE)

    assert (Reason.RETRACTED, State.READY, {CACHE}) == (
        decision.reason,
        decision.record.state,
        decision.record.ignored,
    )


def test_rows_of_a_retracted_run_are_not_found_at_the_deadline() -> None:
    """Its table is full, and it falls back all the same."""
    others = after(TAKEN_BACK, *(success(name) for name in PROCESSORS if name != CACHE))

    decision = told(others, probed(EVERY_TABLE_FILLED), DEADLINE)

    assert (Reason.DEADLINE_PASSED, {CACHE}) == (decision.reason, decision.record.ignored)
    assert CACHE not in decision.record.counted


def test_a_build_that_read_the_table_is_followed_by_one_that_does_not() -> None:
    taken_back = after(running(), retract(CACHE))

    decision = told(taken_back, committed())

    assert (State.RUNNING, Reason.COMMITTED_REBUILD_FOLLOWS) == (taken_back.state, decision.reason)
    assert (2, Trigger.RETRACTION) == (decision.record.generation, decision.record.trigger)
    assert decision.record.published_generation == 1
    rebuilt = after(decision.record, claimed(), committed(2, state=State.DEGRADED, rows=without(CACHE)))
    assert (State.DEGRADED, CUTOFF) == (rebuilt.state, rebuilt.wake_at)


def test_the_next_run_alone_does_not_save_a_build_of_the_wrong_rows() -> None:
    both = after(running(), retract(CACHE), success(CACHE, run="2", at=NEXT), now=NEXT)

    assert Reason.COMMITTED_REBUILD_FOLLOWS is told(both, committed(), NEXT).reason


def test_a_build_that_did_not_read_the_table_stands() -> None:
    taken_back = after(running(), retract(CACHE))

    assert Reason.COMMITTED_DEGRADED is told(taken_back, committed(state=State.DEGRADED, rows=without(CACHE))).reason


@pytest.mark.parametrize("next_run", [(), (success(CACHE, run="2", at=NEXT),)], ids=["none yet", "the next run came"])
@pytest.mark.parametrize("kind", [FailureKind.GATE_REFUSED, FailureKind.NO_DATA])
def test_a_build_that_fails_on_a_run_taken_back_meanwhile_is_built_again(
    kind: FailureKind, next_run: tuple[CompletionReceived, ...]
) -> None:
    """Nobody else would: the success that makes four has been told already, and no deadline waits for a failed date."""
    decision = told(after(running(), retract(CACHE), *next_run, now=NEXT), broke(kind), NEXT)

    record = decision.record
    assert (State.READY, Reason.RESCUE_FOLLOWS, Trigger.RETRACTION) == (record.state, decision.reason, record.trigger)
    assert (2, [StartBuild]) == (record.generation, [type(effect) for effect in decision.effects])
    again = told(after(record, claimed(), now=NEXT), broke(kind, generation=2), NEXT)
    assert (State.FAILED, 2) == (again.record.state, again.record.generation)


def test_an_attempt_that_publishes_after_the_date_went_back_to_waiting_is_replaced() -> None:
    waits = after(running(), broke(FailureKind.UNAVAILABLE), retract(CACHE))

    assert Reason.COMMITTED_REBUILD_FOLLOWS is told(waits, committed()).reason


@pytest.mark.parametrize("published", [done(), degraded(FACTORS)], ids=["done", "degraded"])
def test_published_rows_stay_until_the_next_run_or_a_person(published: DateRecord) -> None:
    taken_back = told(published, retract(CACHE), DEADLINE)
    again = success(CACHE, run="2", at=DEADLINE)

    assert (Reason.RETRACTED, published.state) == (taken_back.reason, taken_back.record.state)
    for rerun in OnRerun:
        upgraded = told(taken_back.record, again, DEADLINE, replace(POLICY, rerun=rerun))
        assert (Reason.UPGRADE_STARTED, 2) == (upgraded.reason, upgraded.record.generation)
    assert Reason.UPGRADE_TOO_LATE is told(taken_back.record, again, CUTOFF).reason


def test_a_person_has_a_published_date_built_again_at_once() -> None:
    decision = told(done(), retract(CACHE, rebuild=True))

    assert (Reason.REBUILD_STARTED, 2, {CACHE}) == (
        decision.reason,
        decision.record.generation,
        decision.record.ignored,
    )


def test_a_rebuild_asked_for_afterwards_starts_once() -> None:
    taken_back = after(done(), retract(CACHE))
    rebuilt = after(
        taken_back, retract(CACHE, rebuild=True), claimed(), committed(2, state=State.DEGRADED, rows=without(CACHE))
    )

    assert (State.DEGRADED, 2) == (rebuilt.state, rebuilt.generation)
    assert Reason.DUPLICATE is told(rebuilt, retract(CACHE, rebuild=True)).reason


def test_a_failed_date_notes_it_for_its_replay() -> None:
    decision = told(failed(FailureKind.GATE_REFUSED, FACTORS), retract(CACHE), DEADLINE)

    assert (Reason.RETRACTED, State.FAILED, {CACHE}) == (
        decision.reason,
        decision.record.state,
        decision.record.ignored,
    )


def test_a_retraction_read_back_from_the_audit_holds_for_a_run_that_is_yet_to_come_again() -> None:
    lost = replace(retract(CACHE), completed_at=EVENING, taken_back_at=NEXT)

    record = after(waiting(FACTORS), lost, success(CACHE), now=NEXT)

    assert ({FACTORS}, {CACHE}) == (record.counted, record.ignored)


@pytest.mark.parametrize(("record", "instead"), [(degraded(), "mlfs replay 2024-"), (waiting(), "mlfs cancel 2024-")])
def test_what_was_never_reported_cannot_be_taken_back_and_the_next_step_makes_sense(
    record: DateRecord, instead: str
) -> None:
    stored = replace(record, version=1, completions={})

    with pytest.raises(Refused, match=instead):
        identity_to_take_back(NIGHT, stored, CACHE, None, PROCESSORS)


def test_a_key_that_was_used_for_another_run_is_told_which_one() -> None:
    other = retract(FACTORS, request_id="ana/1")
    before = told(waiting(CACHE, FACTORS), retract(CACHE, request_id="ana/1"))

    decision = told(before.record, other)

    assert Reason.DUPLICATE is decision.reason
    assert CACHE == taken_back(decision.record, other).processor


@pytest.mark.parametrize("mode", [BuildMode.FORCED_FALLBACK, BuildMode.YESTERDAY])
def test_what_read_no_processors_table_is_not_retracted_while_a_later_build_runs_and_fails(mode: BuildMode) -> None:
    copied = after(done(), replace(REPLAY, mode=mode), claimed(), committed(2, state=State.DEGRADED), retract(CACHE))
    asked = after(copied, replace(REPLAY, request_id="in normal mode"))
    ended = after(asked, claimed(), broke(FailureKind.FATAL, generation=3), closed(3))

    assert (State.FAILED, 2) == (ended.state, ended.published_generation)
    assert [False] * 3 == [
        publication_is_retracted(decode_record(encode_record(one))) for one in (copied, asked, ended)
    ]
