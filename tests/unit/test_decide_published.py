"""One readable example of each rule about what comes after a publication, and about what people may ask for."""

from dataclasses import replace
from datetime import timedelta

import pytest

from statemachine.decision import PublishOutcome, StartBuild
from statemachine.events import CancelRequested, ReplayRequested, TimerFired
from statemachine.model import (
    BuildMode,
    DateRecord,
    FailureKind,
    OnRerun,
    State,
    Trigger,
)
from statemachine.reasons import Reason
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    DEFENSE,
    FACTORS,
    NIGHT,
    NO_ROWS,
    POLICY,
    REPLAY,
    SECOND,
    SHOTS,
    after,
    broke,
    claimed,
    closed,
    committed,
    degraded,
    done,
    failed,
    joined,
    probed,
    running,
    success,
    told,
    unseen,
    waiting,
    without,
)

REBUILD = replace(POLICY, rerun=OnRerun.REBUILD)
CANCEL = CancelRequested(actor="ana", reason="bad rows upstream")
START = StartBuild(analysis_date=NIGHT)

EVERY_STATE: tuple[DateRecord, ...] = (waiting(), joined(), running(), done(), degraded(CACHE), failed())


# --- after publication -----------------------------------------------------------------------------------------------


def test_a_missing_success_before_the_cutoff_upgrades_a_degraded_date() -> None:
    decision = told(degraded(CACHE), success(CACHE, at=CUTOFF - SECOND), CUTOFF - SECOND)

    assert (State.READY, Reason.UPGRADE_STARTED) == (decision.record.state, decision.reason)
    assert (2, 0, Trigger.UPGRADE) == (decision.record.generation, decision.record.attempt, decision.record.trigger)
    assert decision.record.published_generation == 1


def test_a_missing_success_after_the_cutoff_is_recorded_and_changes_nothing_published() -> None:
    decision = told(degraded(CACHE), success(CACHE, at=CUTOFF), CUTOFF)

    assert (State.DEGRADED, Reason.UPGRADE_TOO_LATE) == (decision.record.state, decision.reason)
    assert decision.effects == ()


def test_the_upgrade_window_of_a_degraded_date_closes() -> None:
    record = degraded(CACHE)

    decision = told(record, probed(), CUTOFF)

    assert (State.DEGRADED, Reason.UPGRADE_WINDOW_CLOSED) == (decision.record.state, decision.reason)
    assert told(decision.record, probed(), CUTOFF).reason is Reason.NOTHING_DUE


def test_an_event_that_only_confirms_a_table_the_degraded_build_used_rebuilds_nothing() -> None:
    """FACTORS was found by the probe and used; its late event is no new run, whatever the policy for new runs."""
    found = after(waiting(DEFENSE, SHOTS), probed(without(CACHE)), now=DEADLINE)
    rows = without(CACHE)
    record = after(found, claimed(), committed(state=State.DEGRADED, rows=rows), now=DEADLINE)

    decision = told(record, success(FACTORS, at=DEADLINE), DEADLINE, REBUILD)

    assert (State.DEGRADED, Reason.RECORDED) == (decision.record.state, decision.reason)


@pytest.mark.parametrize("record", [done(), degraded(CACHE)], ids=lambda record: record.state)
def test_a_new_run_after_publication_is_held_by_default(record: DateRecord) -> None:
    decision = told(record, success(SHOTS, run="2", at=DEADLINE), DEADLINE)

    assert (record.state, Reason.RERUN_HELD) == (decision.record.state, decision.reason)
    assert decision.record.completions[SHOTS].identity == "run:2"


@pytest.mark.parametrize("record", [done(), degraded(CACHE)], ids=lambda record: record.state)
def test_a_new_run_after_publication_rebuilds_where_the_policy_says_so(record: DateRecord) -> None:
    decision = told(record, success(SHOTS, run="2", at=DEADLINE), DEADLINE, REBUILD)

    assert (State.READY, Reason.RERUN_STARTED, 2) == (
        decision.record.state,
        decision.reason,
        decision.record.generation,
    )


def test_the_completion_that_makes_four_rescues_a_failed_date() -> None:
    decision = told(failed(), success(CACHE, at=CUTOFF), CUTOFF)

    assert (State.READY, Reason.RESCUE_STARTED) == (decision.record.state, decision.reason)
    assert (2, Trigger.RESCUE, None) == (decision.record.generation, decision.record.trigger, decision.record.failure)


def test_a_cancelled_date_is_not_rescued() -> None:
    record = after(waiting(DEFENSE, SHOTS, FACTORS), CANCEL)

    decision = told(record, success(CACHE))

    assert (State.FAILED, Reason.RECORDED) == (decision.record.state, decision.reason)


# --- people ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record", [record for record in EVERY_STATE if record.state is not State.RUNNING], ids=lambda record: record.state
)
def test_a_replay_starts_a_new_generation(record: DateRecord) -> None:
    asked = replace(REPLAY, mode=BuildMode.FORCED_FALLBACK)

    decision = told(record, asked, CUTOFF)

    assert (State.READY, Reason.REPLAY_ACCEPTED) == (decision.record.state, decision.reason)
    assert decision.record.generation == record.generation + 1
    assert (BuildMode.FORCED_FALLBACK, "ana") == (decision.record.mode, decision.record.requested_by)
    assert decision.effects == (START,)


def test_a_replay_of_a_running_date_is_refused_unless_it_takes_over() -> None:
    refused = told(running(), REPLAY)
    taken = told(running(), ReplayRequested(actor="ana", reason="stuck", take_over=True))

    assert (State.RUNNING, Reason.REPLAY_REFUSED_RUNNING) == (refused.record.state, refused.reason)
    assert (State.READY, Reason.REPLAY_ACCEPTED, None) == (taken.record.state, taken.reason, taken.record.lease)


@pytest.mark.parametrize("record", [waiting(), joined()], ids=lambda record: record.state)
def test_a_cancel_ends_a_date_that_nobody_has_tried_and_says_so(record: DateRecord) -> None:
    decision = told(record, CANCEL)

    assert (State.FAILED, Reason.CANCELLED) == (decision.record.state, decision.reason)
    assert decision.record.failure is not None
    assert decision.record.failure.message == "by ana: bad rows upstream"
    assert [PublishOutcome] == [type(effect) for effect in decision.effects]


@pytest.mark.parametrize(
    "record", [running(), after(running(), broke(FailureKind.UNAVAILABLE))], ids=lambda record: record.state
)
def test_a_cancel_of_a_date_that_was_tried_closes_the_ledger_first(record: DateRecord) -> None:
    """What the attempt has built may be published already, or may still be: then the cancel comes too late."""
    cancelling = told(record, CANCEL)

    assert (State.RUNNING, Reason.CANCELLING, ()) == (cancelling.record.state, cancelling.reason, cancelling.effects)
    assert Reason.NEEDS_PROBE is told(cancelling.record, TimerFired()).reason
    late_failure = told(cancelling.record, broke(FailureKind.GATE_REFUSED))
    assert Reason.STALE is late_failure.reason
    ended = told(cancelling.record, closed())
    assert (State.FAILED, Reason.CANCELLED) == (ended.record.state, ended.reason)
    assert ended.record.failure is not None
    assert ended.record.failure.message == "by ana: bad rows upstream"
    assert [PublishOutcome] == [type(effect) for effect in ended.effects]
    assert State.DONE is told(cancelling.record, replace(committed(), read_from_ledger=True)).record.state


@pytest.mark.parametrize("record", [done(), degraded(CACHE), failed()], ids=lambda record: record.state)
def test_a_finished_date_cannot_be_cancelled(record: DateRecord) -> None:
    decision = told(record, CANCEL)

    assert (record, Reason.CANCEL_REFUSED) == (decision.record, decision.reason)


def test_a_date_in_the_far_past_of_its_deadline_is_decided_the_same_way() -> None:
    late = DEADLINE + timedelta(days=400)

    assert told(waiting(), probed(NO_ROWS), late).reason is Reason.DEADLINE_PASSED


def test_a_commit_of_a_date_nobody_remembers_is_believed() -> None:
    decision = told(unseen(), committed(generation=4, attempt=2))

    assert (State.DONE, 4, 2) == (decision.record.state, decision.record.generation, decision.record.attempt)


@pytest.mark.parametrize("record", [joined(), running(), done(), degraded(CACHE), failed()], ids=lambda one: one.state)
def test_one_request_for_a_replay_makes_one_generation_however_often_it_comes(record: DateRecord) -> None:
    """Its answer was lost, and it is sent again."""
    asked = replace(REPLAY, request_id="r1", take_over=True)
    accepted = told(record, asked)

    again = told(accepted.record, asked)

    assert (Reason.REPLAY_ACCEPTED, Reason.DUPLICATE, False) == (accepted.reason, again.reason, again.changed)
    assert Reason.REPLAY_ACCEPTED is told(accepted.record, replace(asked, request_id="r2")).reason
