"""What time still owes a date that ended: the deadline of a failed one, the looks into the tables of a degraded one."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from statemachine.decision import PublishOutcome, StartBuild
from statemachine.events import CancelRequested, DateOpened, TimerFired
from statemachine.model import (
    BuildMode,
    CompletionStatus,
    DateRecord,
    FailedBecause,
    FailureKind,
    State,
    Trigger,
)
from statemachine.reasons import Reason
from statemachine.timers import PROBE_PATIENCE
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    EVENING,
    EVERY_TABLE_FILLED,
    MINUTE,
    NIGHT,
    NO_ROWS,
    POLICY,
    PROCESSORS,
    REPLAY,
    SECOND,
    SHOTS,
    after,
    broke,
    claimed,
    closed,
    committed,
    degraded,
    failed,
    failure,
    fallback_running,
    joined,
    probed,
    retract,
    running,
    success,
    told,
    waiting,
    without,
)

START = StartBuild(analysis_date=NIGHT)
CANCEL = CancelRequested(actor="ana", reason="bad rows upstream")


def failed_early(kind: FailureKind = FailureKind.NO_DATA) -> DateRecord:
    """A person had the date built in the evening, too early: nothing was published."""
    ended = after(waiting(CACHE), REPLAY, claimed(), broke(kind))
    return after(ended, closed())


# --- a failure before the deadline keeps the deadline ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "because"),
    [
        (FailureKind.NO_DATA, FailedBecause.NO_DATA),
        (FailureKind.GATE_REFUSED, FailedBecause.GATE_REFUSED),
        (FailureKind.FATAL, FailedBecause.FATAL_ERROR),
    ],
)
def test_a_failure_before_the_deadline_keeps_the_deadline(kind: FailureKind, because: FailedBecause) -> None:
    record = failed_early(kind)

    assert record.failure is not None
    assert (State.FAILED, because, DEADLINE) == (record.state, record.failure.because, record.wake_at)
    assert Reason.TOO_EARLY is told(record, TimerFired(), DEADLINE - SECOND).reason
    assert Reason.NEEDS_PROBE is told(record, TimerFired(), DEADLINE).reason


def test_retries_that_are_exhausted_before_the_deadline_keep_it() -> None:
    record, now = joined(), EVENING
    for attempt in range(1, POLICY.attempts_max + 1):
        record = after(record, claimed(), broke(FailureKind.UNAVAILABLE, attempt=attempt), now=now)
        now += POLICY.retry_delay

    record = after(record, closed(), now=now)

    assert (State.FAILED, 3, DEADLINE) == (record.state, record.attempt, record.wake_at)


@pytest.mark.parametrize(
    ("rows", "reason", "trigger"),
    [
        (EVERY_TABLE_FILLED, Reason.FOUND_ALL, Trigger.JOIN),
        (without(SHOTS), Reason.DEADLINE_PASSED, Trigger.DEADLINE),
        (NO_ROWS, Reason.DEADLINE_PASSED, Trigger.DEADLINE),
    ],
    ids=["all", "some", "none"],
)
def test_at_its_deadline_a_failed_date_is_built_with_what_is_there(
    rows: Mapping[str, int], reason: Reason, trigger: Trigger
) -> None:
    decision = told(failed_early(), probed(rows), DEADLINE)

    record = decision.record
    assert (State.READY, reason, trigger, 2) == (record.state, decision.reason, record.trigger, record.generation)
    assert (DEADLINE, None, BuildMode.NORMAL, (START,)) == (
        record.wake_at,
        record.failure,
        record.mode,
        decision.effects,
    )


def test_the_build_at_the_deadline_is_the_last_that_starts_by_itself() -> None:
    again = after(failed_early(), probed(NO_ROWS), claimed(), broke(FailureKind.NO_DATA, generation=2), now=DEADLINE)

    assert (State.FAILED, 2, None) == (again.state, again.generation, again.wake_at)
    assert Reason.NOTHING_DUE is told(again, probed(EVERY_TABLE_FILLED), DEADLINE + MINUTE).reason


def test_a_build_that_ran_across_the_deadline_and_failed_does_not_stand_for_the_deadlines_own() -> None:
    begun = after(waiting(CACHE), REPLAY, claimed(), now=DEADLINE - SECOND)

    record = after(begun, broke(FailureKind.NO_DATA), now=DEADLINE + MINUTE)

    assert (State.FAILED, DEADLINE) == (record.state, record.wake_at)
    assert Reason.FOUND_ALL is told(record, probed(EVERY_TABLE_FILLED), DEADLINE + MINUTE).reason


def test_an_attempt_after_the_deadline_stands_for_the_deadlines_build() -> None:
    """It read what lay in the tables then."""
    retried = after(running(), broke(FailureKind.UNAVAILABLE), now=DEADLINE - SECOND)
    ended = after(retried, claimed(), broke(FailureKind.NO_DATA, attempt=2), now=DEADLINE + POLICY.retry_delay)

    assert (State.FAILED, None) == (ended.state, ended.wake_at)


@pytest.mark.parametrize(
    "record", [waiting(CACHE), joined(), after(running(), CANCEL)], ids=lambda record: record.state
)
def test_a_cancelled_date_has_no_deadline(record: DateRecord) -> None:
    cancelled = after(record, closed() if record.state is State.RUNNING else CANCEL)

    assert (State.FAILED, None) == (cancelled.state, cancelled.wake_at)
    assert Reason.NOTHING_DUE is told(cancelled, probed(EVERY_TABLE_FILLED), DEADLINE).reason


def test_a_failed_date_that_waits_for_its_deadline_can_be_cancelled() -> None:
    """Its failure was told already, under the same generation, so nothing more is told."""
    decision = told(failed_early(), CANCEL)

    record = decision.record
    assert record.failure is not None
    assert (State.FAILED, Reason.CANCELLED, None, ()) == (
        record.state,
        decision.reason,
        record.wake_at,
        decision.effects,
    )
    assert (FailedBecause.CANCELLED, "by ana: bad rows upstream") == (record.failure.because, record.failure.message)
    assert Reason.CANCEL_REFUSED is told(record, CANCEL).reason
    everything = after(record, *(success(name) for name in PROCESSORS))
    assert (State.FAILED, Reason.NOTHING_DUE) == (everything.state, told(everything, probed(), DEADLINE).reason)


def test_what_is_reported_meanwhile_counts_and_leaves_the_deadline_as_it_is() -> None:
    record = after(failed_early(), success(SHOTS), failure(PROCESSORS[0]), DateOpened(), retract(SHOTS))

    assert (State.FAILED, DEADLINE, frozenset({CACHE})) == (record.state, record.wake_at, record.counted)
    reported = after(record, *(success(name, run="2", at=EVENING + MINUTE) for name in PROCESSORS[:2]))
    rescued = told(reported, success(PROCESSORS[2]))
    assert (State.READY, Reason.RESCUE_STARTED) == (rescued.record.state, rescued.reason)


FAILED_REPLAY = (REPLAY, claimed(), broke(FailureKind.GATE_REFUSED, generation=2))


def test_a_failed_replay_of_a_date_published_in_full_has_nothing_due() -> None:
    record = after(running(), committed(), *FAILED_REPLAY)

    assert (State.FAILED, 1, None) == (record.state, record.published_generation, record.wake_at)


def test_a_failed_replay_of_a_degraded_date_leaves_its_looks_for_rows_as_they_were() -> None:
    published = after(running(), committed(state=State.DEGRADED, rows=without(CACHE)))

    record = after(published, *FAILED_REPLAY)

    assert (State.FAILED, 1, DEADLINE) == (record.state, record.published_generation, record.wake_at)
    looked = told(record, probed(without(CACHE)), DEADLINE)
    assert (State.FAILED, Reason.STILL_MISSING, DEADLINE + MINUTE) == (
        looked.record.state,
        looked.reason,
        looked.record.wake_at,
    )
    upgraded = told(looked.record, probed(EVERY_TABLE_FILLED), DEADLINE + MINUTE)
    assert (State.READY, Reason.UPGRADE_STARTED, 3) == (
        upgraded.record.state,
        upgraded.reason,
        upgraded.record.generation,
    )
    closed_at = record.upgrade_cutoff_at
    ended = told(replace(record, wake_at=closed_at), probed(without(CACHE)), closed_at)
    assert (State.FAILED, Reason.UPGRADE_WINDOW_CLOSED, None) == (
        ended.record.state,
        ended.reason,
        ended.record.wake_at,
    )
    cancelled = after(record, CANCEL)
    assert (State.FAILED, None) == (cancelled.state, cancelled.wake_at)


def test_an_upgrade_that_fails_is_not_tried_again_and_again() -> None:
    published = after(running(), committed(state=State.DEGRADED, rows=without(CACHE)))
    upgraded = after(published, probed(EVERY_TABLE_FILLED), now=DEADLINE)

    record = after(upgraded, claimed(), broke(FailureKind.GATE_REFUSED, generation=2), now=DEADLINE)

    assert (State.FAILED, 1, None) == (record.state, record.published_generation, record.wake_at)


def test_a_replay_that_fails_after_the_cutoff_has_nothing_due() -> None:
    published = after(running(), committed(state=State.DEGRADED, rows=without(CACHE)))

    record = after(published, *FAILED_REPLAY, now=published.upgrade_cutoff_at)

    assert (State.FAILED, None) == (record.state, record.wake_at)


def test_a_failed_date_that_turns_out_to_be_published_is_not_built_at_its_deadline() -> None:
    taken_over = after(running(), replace(REPLAY, take_over=True), claimed("worker-b"))
    record = after(taken_over, broke(FailureKind.NO_DATA, generation=2))
    assert DEADLINE == record.wake_at

    decision = told(record, committed(generation=1))

    assert (State.FAILED, Reason.COMMITTED_BY_OLDER_GENERATION) == (decision.record.state, decision.reason)
    assert (1, None) == (decision.record.published_generation, decision.record.wake_at)
    assert [PublishOutcome] == [type(effect) for effect in decision.effects]


def test_a_failure_after_the_deadline_has_nothing_due() -> None:
    assert failed().wake_at is None


# --- a degraded date is looked at again ------------------------------------------------------------------------------


def look(record: DateRecord, rows: Mapping[str, int], now: datetime) -> DateRecord:
    return told(record, probed(rows), now).record


def test_a_degraded_date_is_looked_at_each_minute_until_its_cutoff_and_at_it() -> None:
    record = degraded(CACHE)
    looks = []
    while record.wake_at is not None:
        looks.append(record.wake_at)
        assert Reason.NEEDS_PROBE is told(record, TimerFired(), record.wake_at).reason
        record = look(record, without(CACHE), record.wake_at)

    assert looks == [DEADLINE + number * MINUTE for number in range(1, 26)]
    assert looks[-1] == CUTOFF


def test_a_look_that_comes_late_is_followed_by_the_one_at_the_cutoff() -> None:
    decision = told(degraded(CACHE), probed(without(CACHE)), CUTOFF - 20 * SECOND)

    assert (Reason.STILL_MISSING, CUTOFF) == (decision.reason, decision.record.wake_at)


@pytest.mark.parametrize("took", [70 * SECOND, 5 * MINUTE])
def test_after_a_look_that_hung_the_date_is_looked_at_again_at_once(took: timedelta) -> None:
    """The look began before another worker's; rows that came since must not wait for a minute more."""
    now = DEADLINE + 7 * MINUTE
    decision = told(degraded(CACHE), replace(probed(without(CACHE)), looked_at=now - took), now)

    assert (Reason.STILL_MISSING, now - took + MINUTE) == (decision.reason, decision.record.wake_at)


def test_a_look_that_began_before_the_cutoff_does_not_close_the_upgrade_window() -> None:
    """Rows that came between its beginning and the cutoff are found by one more look."""
    hung = replace(probed(without(CACHE)), looked_at=CUTOFF - 50 * SECOND)
    record = told(degraded(CACHE), hung, CUTOFF + SECOND).record

    assert (State.DEGRADED, CUTOFF) == (record.state, record.wake_at)
    for rows, reason in (
        (EVERY_TABLE_FILLED, Reason.UPGRADE_STARTED),
        (without(CACHE), Reason.UPGRADE_WINDOW_CLOSED),
    ):
        assert reason is told(record, replace(probed(rows), looked_at=CUTOFF), CUTOFF + 2 * SECOND).reason
    assert Reason.UPGRADE_WINDOW_CLOSED is told(record, hung, CUTOFF + PROBE_PATIENCE).reason


@pytest.mark.parametrize("now", [DEADLINE + MINUTE, CUTOFF, CUTOFF + PROBE_PATIENCE - SECOND])
def test_rows_that_come_without_their_event_upgrade_the_date(now: datetime) -> None:
    decision = told(replace(degraded(CACHE), wake_at=min(now, CUTOFF)), probed(EVERY_TABLE_FILLED), now)

    record = decision.record
    assert (State.READY, Reason.UPGRADE_STARTED, Trigger.UPGRADE, 2) == (
        record.state,
        decision.reason,
        record.trigger,
        record.generation,
    )
    assert CompletionStatus.FOUND is record.completions[CACHE].status
    assert decision.effects == (START,)


def test_rows_that_come_after_their_event_upgrade_the_date() -> None:
    """Its processor reported success before the rows were there; the success stays as it was reported."""
    empty = after(running(), committed(state=State.DEGRADED, rows=without(CACHE)))

    decision = told(empty, probed(EVERY_TABLE_FILLED), DEADLINE)

    assert (State.READY, Reason.UPGRADE_STARTED) == (decision.record.state, decision.reason)
    assert CompletionStatus.SUCCESS is decision.record.completions[CACHE].status


@pytest.mark.parametrize("late", [PROBE_PATIENCE, timedelta(hours=3)])
def test_after_the_look_at_the_cutoff_rows_are_too_late(late: timedelta) -> None:
    """A worker that was away comes back; consumers have read the night by then."""
    record = degraded(CACHE)

    for event in (TimerFired(), probed(EVERY_TABLE_FILLED)):
        decision = told(record, event, CUTOFF + late)
        assert (State.DEGRADED, Reason.UPGRADE_WINDOW_CLOSED) == (decision.record.state, decision.reason)
        assert decision.record.wake_at is None


def test_a_reported_failure_and_a_run_that_was_taken_back_are_never_found() -> None:
    said_it_failed = after(degraded(CACHE), failure(CACHE, at=DEADLINE), now=DEADLINE)
    taken_back = replace(degraded(CACHE), retractions=after(waiting(CACHE), retract(CACHE)).retractions)

    for record in (said_it_failed, taken_back):
        assert record.wake_at is not None
        decision = told(record, probed(EVERY_TABLE_FILLED), record.wake_at)
        assert (Reason.STILL_MISSING, CUTOFF) == (decision.reason, decision.record.wake_at)


def test_rows_of_a_table_that_the_build_had_upgrade_nothing() -> None:
    """More rows in a table that was read are a new run, and those are announced."""
    more = without(CACHE) | {SHOTS: 9000}

    assert Reason.STILL_MISSING is told(degraded(CACHE), probed(more), DEADLINE + MINUTE).reason


def test_a_degraded_date_that_awaits_no_table_is_not_looked_at() -> None:
    """Every table had rows; they did not cover enough."""
    record = after(fallback_running(CACHE), committed(state=State.DEGRADED), now=DEADLINE)

    assert CUTOFF == record.wake_at
    assert Reason.UPGRADE_WINDOW_CLOSED is told(record, TimerFired(), CUTOFF).reason


def test_before_the_deadline_only_an_event_upgrades_a_date() -> None:
    """A processor may still be writing; its event says when it has finished."""
    early = after(waiting(CACHE), REPLAY, claimed(), committed(state=State.DEGRADED, rows=without(SHOTS)))

    assert (State.DEGRADED, DEADLINE) == (early.state, early.wake_at)
    assert Reason.UPGRADE_STARTED is told(early, probed(EVERY_TABLE_FILLED), DEADLINE).reason
