"""One readable example of each rule of the state machine."""

from dataclasses import replace
from typing import get_type_hints

import pytest

from statemachine.decision import Change, Keep, StartBuild
from statemachine.events import CompletionReceived, DateOpened
from statemachine.model import (
    CompletionStatus,
    DateRecord,
    OnUpstreamFailure,
    State,
    Trigger,
)
from statemachine.reasons import Reason
from tests.support.nights import (
    CACHE,
    DEADLINE,
    DEFENSE,
    EVENING,
    EVERY_TABLE_FILLED,
    FACTORS,
    MINUTE,
    NIGHT,
    NO_ROWS,
    POLICY,
    PROCESSORS,
    SECOND,
    SHOTS,
    after,
    completion,
    degraded,
    done,
    failed,
    failure,
    joined,
    past_deadline,
    probed,
    running,
    success,
    told,
    unseen,
    waiting,
    without,
)

FALLBACK_NOW = replace(POLICY, on_upstream_failure=OnUpstreamFailure.FALLBACK_NOW)
START = StartBuild(analysis_date=NIGHT)

EVERY_STATE: tuple[DateRecord, ...] = (waiting(), joined(), running(), done(), degraded(CACHE), failed())


def test_a_change_has_fields_of_the_record_with_the_record_s_types() -> None:
    changeable, record = get_type_hints(Change), get_type_hints(DateRecord)

    assert {name: record[name] | Keep for name in changeable} == changeable


# --- opening ---------------------------------------------------------------------------------------------------------


def test_the_calendar_opens_a_date_that_then_waits_for_its_deadline() -> None:
    decision = told(unseen(), DateOpened())

    assert (State.WAITING, Reason.OPENED, 1) == (decision.record.state, decision.reason, decision.record.version)
    assert decision.record.wake_at == DEADLINE


@pytest.mark.parametrize("record", EVERY_STATE, ids=lambda record: record.state)
def test_opening_a_date_twice_changes_nothing(record: DateRecord) -> None:
    decision = told(record, DateOpened())

    assert (record, Reason.ALREADY_OPEN, False) == (decision.record, decision.reason, decision.changed)


# --- joining ---------------------------------------------------------------------------------------------------------


def test_the_fourth_success_makes_the_date_ready_at_once() -> None:
    three = waiting(DEFENSE, SHOTS, FACTORS)

    decision = told(three, success(CACHE))

    assert (State.READY, Reason.JOIN_COMPLETE) == (decision.record.state, decision.reason)
    assert (1, 0, Trigger.JOIN) == (decision.record.generation, decision.record.attempt, decision.record.trigger)
    assert decision.record.wake_at == EVENING
    assert decision.effects == (START,)


def test_three_successes_are_not_enough() -> None:
    decision = told(waiting(DEFENSE, SHOTS), success(FACTORS))

    assert (State.WAITING, Reason.RECORDED, ()) == (decision.record.state, decision.reason, decision.effects)


def test_a_first_event_opens_the_date_by_itself() -> None:
    record = after(unseen(), success(CACHE))

    assert (State.WAITING, 1, DEADLINE) == (record.state, record.version, record.wake_at)


def test_a_repeated_report_changes_nothing() -> None:
    decision = told(waiting(CACHE), success(CACHE))

    assert (Reason.DUPLICATE, False) == (decision.reason, decision.changed)


def test_the_same_run_is_the_same_report_even_when_it_says_more_the_second_time() -> None:
    again = CompletionReceived(completion=completion(CACHE, at=EVENING + MINUTE, rows=1))

    assert told(waiting(CACHE), again).reason is Reason.DUPLICATE


def test_a_newer_run_replaces_the_older_one_and_an_older_one_is_outdated() -> None:
    older, newer = success(CACHE, run="1"), success(CACHE, run="2", at=EVENING + MINUTE)

    in_order, reordered = after(unseen(), older, newer), after(unseen(), newer, older)

    assert in_order.completions[CACHE].identity == "run:2"
    assert in_order.completions == reordered.completions
    assert told(after(unseen(), newer), older).reason is Reason.OUTDATED


def test_a_failed_processor_is_shown_but_does_not_count() -> None:
    decision = told(waiting(DEFENSE, SHOTS, FACTORS), failure(CACHE))

    assert (State.WAITING, Reason.FAILURE_RECORDED) == (decision.record.state, decision.reason)
    assert decision.record.completions[CACHE].status is CompletionStatus.FAILED
    assert POLICY.missing(decision.record) == (CACHE,)


def test_a_success_after_a_failure_of_the_same_processor_completes_the_join() -> None:
    record = after(waiting(DEFENSE, SHOTS, FACTORS), failure(CACHE), success(CACHE, run="2"))

    assert (State.READY, Trigger.JOIN) == (record.state, record.trigger)


def test_a_failure_never_takes_back_a_success() -> None:
    decision = told(waiting(CACHE), failure(CACHE, run="2", at=EVENING + MINUTE))

    assert (Reason.OUTDATED, False) == (decision.reason, decision.changed)


def test_when_all_four_have_reported_the_policy_may_fall_back_before_the_deadline() -> None:
    three = waiting(DEFENSE, SHOTS, FACTORS)

    decision = told(three, failure(CACHE), policy=FALLBACK_NOW)

    assert (State.READY, Reason.UPSTREAM_FAILED) == (decision.record.state, decision.reason)
    assert (Trigger.UPSTREAM_FAILED, (START,)) == (decision.record.trigger, decision.effects)


def test_the_policy_to_fall_back_waits_for_the_fourth_report() -> None:
    decision = told(waiting(DEFENSE, SHOTS), failure(CACHE), policy=FALLBACK_NOW)

    assert (State.WAITING, Reason.FAILURE_RECORDED) == (decision.record.state, decision.reason)


# --- the deadline ----------------------------------------------------------------------------------------------------


def test_a_timer_before_its_instant_is_too_early() -> None:
    decision = told(waiting(), probed(), DEADLINE - SECOND)

    assert (Reason.TOO_EARLY, False) == (decision.reason, decision.changed)


def test_nothing_falls_back_before_somebody_has_looked_into_the_tables() -> None:
    decision = told(waiting(), replace(probed(), probe=None), DEADLINE)

    assert (Reason.NEEDS_PROBE, False) == (decision.reason, decision.changed)


def test_at_the_deadline_what_is_really_missing_falls_back() -> None:
    decision = told(waiting(DEFENSE, SHOTS), probed(without(CACHE)), DEADLINE)

    assert (State.READY, Reason.DEADLINE_PASSED) == (decision.record.state, decision.reason)
    assert decision.record.trigger is Trigger.DEADLINE
    assert decision.record.completions[FACTORS].status is CompletionStatus.FOUND
    assert POLICY.missing(decision.record) == (CACHE,)
    assert decision.effects == (START,)


def test_rows_without_an_event_count_as_found_and_may_complete_the_join() -> None:
    decision = told(waiting(DEFENSE), probed(EVERY_TABLE_FILLED), DEADLINE)

    assert (State.READY, Reason.FOUND_ALL) == (decision.record.state, decision.reason)
    assert (Trigger.JOIN, ()) == (decision.record.trigger, POLICY.missing(decision.record))


def test_rows_of_a_processor_that_said_it_failed_are_not_believed() -> None:
    record = after(waiting(DEFENSE, SHOTS, FACTORS), failure(CACHE))

    decision = told(record, probed(EVERY_TABLE_FILLED), DEADLINE)

    assert (Reason.DEADLINE_PASSED, (CACHE,)) == (decision.reason, POLICY.missing(decision.record))


def test_a_night_without_a_single_event_still_meets_its_deadline() -> None:
    decision = told(after(unseen(), DateOpened()), probed(NO_ROWS), DEADLINE)

    assert (State.READY, PROCESSORS) == (decision.record.state, POLICY.missing(decision.record))


def test_a_late_event_confirms_what_the_probe_found_and_changes_no_state() -> None:
    record = past_deadline(CACHE)
    found = after(waiting(DEFENSE), probed(without(CACHE)), now=DEADLINE)

    decision = told(found, success(FACTORS, at=DEADLINE), DEADLINE)

    assert (State.READY, Reason.RECORDED) == (decision.record.state, decision.reason)
    assert record.generation == decision.record.generation
