"""An optional processor is waited for until the deadline, and its absence from then on changes no state. ADR 0036."""

from dataclasses import replace
from datetime import datetime
from itertools import permutations

import pytest

from statemachine.evidence import awaited_tables
from statemachine.invariants import change_violations
from statemachine.model import (
    CompletionStatus,
    DateRecord,
    FailureKind,
    OnRerun,
    OnUpstreamFailure,
    Policy,
    State,
    Trigger,
)
from statemachine.reasons import Reason
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    EVENING,
    FACTORS,
    MINUTE,
    POLICY,
    PROCESSORS,
    SECOND,
    after,
    broke,
    claimed,
    committed,
    failure,
    finding,
    probed,
    retract,
    success,
    told,
    unseen,
    waiting,
    without,
)

OPTIONAL = replace(POLICY, optional=frozenset({CACHE}))
REBUILD = replace(OPTIONAL, rerun=OnRerun.REBUILD)
REQUIRED = PROCESSORS[:3]
IN_TIME = CUTOFF - SECOND


def built(*missing: str, state: State = State.DONE, policy: Policy = OPTIONAL) -> DateRecord:
    """A date built and published at its deadline without *missing*."""
    present = [success(name) for name in PROCESSORS if name not in missing]
    ready = after(after(unseen(), *present, policy=policy), probed(without(*missing)), now=DEADLINE, policy=policy)
    published = committed(state=state, rows=without(*missing))
    return after(ready, claimed(), published, now=DEADLINE, policy=policy)


@pytest.mark.parametrize("order", list(permutations(REQUIRED)))
def test_before_the_deadline_an_optional_processor_is_waited_for(order: tuple[str, ...]) -> None:
    record = after(unseen(), *map(success, order), policy=OPTIONAL)

    assert (State.WAITING, DEADLINE) == (record.state, record.wake_at)
    assert told(record, success(CACHE), DEADLINE - SECOND, OPTIONAL).reason is Reason.JOIN_COMPLETE


def test_at_the_deadline_a_date_is_built_without_an_optional_processor() -> None:
    decision = told(waiting(*REQUIRED), probed(without(CACHE)), DEADLINE, OPTIONAL)

    assert (State.READY, Reason.DEADLINE_PASSED) == (decision.record.state, decision.reason)
    assert (Trigger.DEADLINE, DEADLINE) == (decision.record.trigger, decision.record.wake_at)


def test_rows_of_an_optional_processor_count_at_the_deadline_like_any_others() -> None:
    decision = told(waiting(*REQUIRED), probed(without()), DEADLINE, OPTIONAL)

    assert (Reason.FOUND_ALL, CompletionStatus.FOUND) == (
        decision.reason,
        decision.record.completions[CACHE].status,
    )


@pytest.mark.parametrize("state", [State.DONE, State.DEGRADED])
@pytest.mark.parametrize("now", [DEADLINE + MINUTE, IN_TIME, CUTOFF])
def test_a_late_report_of_an_optional_processor_is_held_like_a_rerun(state: State, now: datetime) -> None:
    decision = told(built(CACHE, state=state), success(CACHE, at=DEADLINE), now, OPTIONAL)

    assert (state, Reason.RERUN_HELD) == (decision.record.state, decision.reason)
    assert CACHE in decision.record.counted


@pytest.mark.parametrize("state", [State.DONE, State.DEGRADED])
def test_a_late_report_of_an_optional_processor_is_built_where_reruns_are(state: State) -> None:
    decision = told(built(CACHE, state=state), success(CACHE, at=DEADLINE), IN_TIME, REBUILD)

    assert (State.READY, Trigger.RERUN) == (decision.record.state, decision.record.trigger)


@pytest.mark.parametrize(
    ("policy", "reason"), [(OPTIONAL, Reason.COMMITTED_DONE), (REBUILD, Reason.COMMITTED_RERUN_FOLLOWS)]
)
def test_a_report_during_the_build_and_a_report_after_the_build_have_the_same_effect(
    policy: Policy, reason: Reason
) -> None:
    ready = after(waiting(*REQUIRED), probed(without(CACHE)), claimed(), now=DEADLINE, policy=OPTIONAL)
    during = after(ready, success(CACHE, at=DEADLINE), now=DEADLINE, policy=policy)

    decision = told(during, committed(rows=without(CACHE)), DEADLINE + SECOND, policy)

    assert reason is decision.reason


def test_a_rebuild_for_an_optional_processor_whose_table_stays_empty_is_the_last() -> None:
    again = after(built(CACHE, policy=REBUILD), success(CACHE, at=DEADLINE), claimed(), now=DEADLINE, policy=REBUILD)

    decision = told(again, committed(2, rows=without(CACHE)), DEADLINE + SECOND, REBUILD)

    assert (State.DONE, Reason.COMMITTED_DONE) == (decision.record.state, decision.reason)


def test_rows_of_an_optional_processor_start_no_upgrade() -> None:
    record = built(CACHE, FACTORS, state=State.DEGRADED)

    assert {FACTORS} == awaited_tables(record, OPTIONAL)
    assert told(record, probed(without(FACTORS)), DEADLINE + MINUTE, OPTIONAL).reason is Reason.STILL_MISSING
    assert told(record, success(FACTORS, at=DEADLINE), IN_TIME, OPTIONAL).reason is Reason.UPGRADE_STARTED


def test_a_date_without_an_optional_processor_is_not_probed_until_the_cutoff() -> None:
    doubted = after(
        after(waiting(*REQUIRED), probed(without(CACHE)), claimed(), now=DEADLINE, policy=OPTIONAL),
        committed(state=State.DEGRADED, rows=without(CACHE), findings=(finding(FACTORS),)),
        now=DEADLINE,
        policy=OPTIONAL,
    )

    assert CUTOFF == doubted.wake_at


def test_an_event_that_confirms_found_rows_of_an_optional_processor_is_no_rerun() -> None:
    found = after(waiting(*REQUIRED), probed(without()), claimed(), committed(), now=DEADLINE, policy=REBUILD)

    assert told(found, success(CACHE, at=DEADLINE - MINUTE), IN_TIME, REBUILD).reason is Reason.RECORDED


def test_after_the_deadline_a_failed_date_is_rescued_without_an_optional_processor() -> None:
    ready = after(waiting(*REQUIRED[:2]), probed(without(FACTORS, CACHE)), claimed(), now=DEADLINE, policy=OPTIONAL)
    failed = after(ready, broke(FailureKind.GATE_REFUSED), now=DEADLINE, policy=OPTIONAL)

    decision = told(failed, success(FACTORS, at=DEADLINE), IN_TIME, OPTIONAL)

    assert (State.FAILED, Reason.RESCUE_STARTED) == (failed.state, decision.reason)


def test_a_build_that_fails_after_the_deadline_is_followed_by_a_rescue_without_an_optional_processor() -> None:
    ready = after(waiting(*REQUIRED[:2]), probed(without(FACTORS, CACHE)), claimed(), now=DEADLINE, policy=OPTIONAL)
    during = after(ready, success(FACTORS, at=DEADLINE), now=DEADLINE, policy=OPTIONAL)

    assert told(during, broke(FailureKind.GATE_REFUSED), DEADLINE, OPTIONAL).reason is Reason.RESCUE_FOLLOWS


def test_a_failed_optional_processor_falls_back_at_once_where_the_policy_does() -> None:
    policy = replace(OPTIONAL, on_upstream_failure=OnUpstreamFailure.FALLBACK_NOW)

    assert told(waiting(*REQUIRED), failure(CACHE), EVENING, policy).reason is Reason.UPSTREAM_FAILED
    assert told(waiting(*REQUIRED), failure(CACHE), EVENING, OPTIONAL).record.state is State.WAITING


@pytest.mark.parametrize(("now", "reason"), [(EVENING, Reason.WAITS_AGAIN), (DEADLINE, Reason.RETRACTED)])
def test_a_retracted_run_of_an_optional_processor_is_waited_for_until_the_deadline(
    now: datetime, reason: Reason
) -> None:
    decision = told(waiting(*PROCESSORS), retract(CACHE), now, OPTIONAL)

    assert (reason, {CACHE}) == (decision.reason, decision.record.ignored)


def test_a_deadline_build_of_a_complete_date_breaks_an_invariant() -> None:
    before = waiting(*REQUIRED)
    ready = told(before, probed(without(CACHE)), DEADLINE, OPTIONAL).record
    complete = replace(ready, completions=waiting(*PROCESSORS).completions)

    assert () == change_violations(before, ready, OPTIONAL)
    assert ("deadline_build_lacks_a_completion",) == change_violations(before, complete, OPTIONAL)
